"""Parents as objects of their own class, in dataset dicts and through the mapper."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from msnet_d2.data import ISBDADatasetMapper
from msnet_d2.data.loading.parents_as_class import add_parents_as_class


def part(box, parent, category=0, **more):
    x, y, w, h = box
    return {
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "iscrowd": 0,
        "parent_bbox": parent,
        **more,
    }


@pytest.fixture
def record(tmp_path):
    """An image of 60 x 40 with two parts in one house and one in another."""
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(path)
    return {
        "file_name": str(path),
        "image_id": 1,
        "height": 40,
        "width": 60,
        "annotations": [
            part([4, 4, 6, 6], [2, 2, 20, 20]),
            part([12, 10, 5, 5], [2, 2, 20, 20], category=1),
            part([40, 10, 8, 8], [36, 6, 20, 30], category=2),
        ],
    }


def boxes_of(dataset_dict, category):
    return [a["bbox"] for a in dataset_dict["annotations"] if a["category_id"] == category]


def test_each_parent_once_after_the_parts(record):
    before = copy.deepcopy(record)
    found = add_parents_as_class(record, 3)
    assert record == before, "the data set's own dict must stay as it is"
    assert found["annotations"][:3] == before["annotations"]
    assert boxes_of(found, 3) == [[2, 2, 20, 20], [36, 6, 20, 30]]
    house = found["annotations"][3]
    assert house["area"] == 400
    assert house["parent_bbox"] == house["bbox"]
    # The outline of x 2 to 22, y 2 to 22.
    assert house["segmentation"] == [[2, 2, 22, 2, 22, 22, 2, 22]]
    assert {k: v for k, v in found.items() if k != "annotations"} == {
        k: v for k, v in before.items() if k != "annotations"
    }


def test_the_id_of_a_parent_counts_more_than_its_box(record):
    first, second, third = record["annotations"]
    # One house whose box was drawn anew for each of its parts, and two houses of one box.
    first["parent_id"], second["parent_id"], third["parent_id"] = 7, 7, 8
    second["parent_bbox"] = [1, 1, 22, 22]
    third["parent_bbox"] = [2, 2, 20, 20]
    assert boxes_of(add_parents_as_class(record, 3), 3) == [[2, 2, 20, 20], [2, 2, 20, 20]]


def test_boxes_in_another_mode(record):
    box = part([36, 6, 56, 36], [2, 2, 22, 30], bbox_mode=BoxMode.XYXY_ABS)
    record["annotations"] = [box]
    house = add_parents_as_class(record, 3)["annotations"][1]
    assert house["area"] == 20 * 28
    assert house["segmentation"] == [[2, 2, 22, 2, 22, 30, 2, 30]]


def test_without_masks_parents_have_none_either(record):
    for annotation in record["annotations"]:
        del annotation["segmentation"]
    found = add_parents_as_class(record, 3)
    assert not any("segmentation" in annotation for annotation in found["annotations"])


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        [],
        [{"bbox": [1, 1, 2, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}],
        [part([1, 1, 2, 2], [0, 0, 9, 9], iscrowd=1)],
    ],
    ids=["not annotated", "nothing", "no parents", "crowd alone"],
)
def test_nothing_to_add(annotations):
    record = {"image_id": 1} if annotations is None else {"annotations": annotations}
    assert add_parents_as_class(record, 3) == record


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_mapper_makes_them_instances(record, mask_format):
    mapper = ISBDADatasetMapper(
        True,
        parent_class=3,
        augmentations=[T.RandomFlip(prob=1.0), T.Resize((80, 120))],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format=mask_format,
    )
    instances = mapper(record)["instances"]
    assert instances.gt_classes.tolist() == [0, 1, 2, 3, 3]
    # Flipped in 60 pixels, then twice as large: x 2..22 becomes 38..58, then 76..116.
    assert instances.gt_boxes.tensor[3].tolist() == [76, 4, 116, 44]
    assert torch.equal(instances.gt_parent_boxes.tensor[3:], instances.gt_boxes.tensor[3:])
    assert torch.equal(instances.gt_parent_boxes.tensor[:3], instances.gt_boxes.tensor[[3, 3, 4]])
    assert len(instances.gt_masks) == 5


def test_mapper_takes_the_class_from_the_config(record, tiny_cfg):
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    classes = ISBDADatasetMapper(tiny_cfg, True)(record)["instances"].gt_classes
    assert classes.tolist() == [0, 1, 2, 3, 3]
    assert "instances" not in ISBDADatasetMapper(tiny_cfg, False)(record)
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = -1
    assert ISBDADatasetMapper(tiny_cfg, True)(record)["instances"].gt_classes.tolist() == [0, 1, 2]


def test_mapper_without_parts(record, tiny_cfg):
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    record["annotations"] = []
    assert len(ISBDADatasetMapper(tiny_cfg, True)(record)["instances"]) == 0
