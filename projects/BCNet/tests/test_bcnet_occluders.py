"""What hides an object, by hand, and through the mapper."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bcnet.occluders import OccluderMapper, masks_in_front, neighbor_masks
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from msnet_d2.data.loading.build import build_mapper
from msnet_d2.errors import ConfigError

OPTIONS = {
    "is_train": True,
    "image_format": "BGR",
    "use_instance_mask": True,
    "instance_mask_format": "bitmask",
    "min_pixels": 0,
}


def boxes_and_masks(*boxes, size=(10, 20)):
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return torch.tensor(boxes, dtype=torch.float32), masks


def test_the_occluder_of_a_box_is_the_half_that_its_neighbor_overlaps():
    boxes, masks = boxes_and_masks((0, 0, 10, 10), (5, 0, 15, 10))
    # Their IoU is 50 / 150. Of 14 columns over 10 pixels those from 5 / 10 * 14 = 7 on are covered.
    occluders = BitMasks(neighbor_masks(masks, boxes))
    crop = occluders.crop_and_resize(boxes, 14)[0]
    expected = torch.zeros(14, 14, dtype=torch.bool)
    expected[:, 7:] = True
    assert torch.equal(crop, expected)
    assert crop.sum() == 98


def test_boxes_that_overlap_too_little_are_no_neighbors():
    boxes, masks = boxes_and_masks((0, 0, 10, 10), (9, 0, 19, 10))
    # IoU 10 / 190 = 0.0526, 10 pixels within either box.
    assert neighbor_masks(masks, boxes, min_iou=0.05, min_pixels=9).any()
    assert not neighbor_masks(masks, boxes, min_iou=0.053, min_pixels=9).any()


def test_unions_of_few_pixels_are_none():
    boxes, masks = boxes_and_masks((0, 0, 10, 10), (8, 0, 18, 10))
    # 2 columns of 10 pixels lie in either box: "20 or fewer" is empty.
    assert not neighbor_masks(masks, boxes, min_pixels=20).any()
    assert neighbor_masks(masks, boxes, min_pixels=19).any()


def test_a_union_is_of_all_neighbors_and_is_not_cut_to_the_box():
    boxes, masks = boxes_and_masks((4, 0, 14, 10), (0, 0, 8, 10), (10, 0, 20, 10))
    unions = neighbor_masks(masks, boxes)
    assert torch.equal(unions[0], masks[1] | masks[2])
    assert torch.equal(unions[1], masks[0]), "the third is no neighbor of the second"


def test_an_object_alone_has_no_occluder():
    boxes, masks = boxes_and_masks((0, 0, 10, 10))
    assert not neighbor_masks(masks, boxes).any()


def test_trees_are_not_in_front_as_objects_are():
    _, visible = boxes_and_masks((0, 0, 6, 10), (9, 0, 12, 10))
    _, hidden = boxes_and_masks((6, 0, 11, 10), (12, 0, 12, 10))
    # Of the first, columns 6 to 10 are hidden: 9 and 10 by the second, 6 to 8 by a tree.
    _, expected = boxes_and_masks((9, 0, 11, 10), (12, 0, 12, 10))
    assert torch.equal(masks_in_front(hidden, visible), expected)


@pytest.fixture
def record(tmp_path) -> dict:
    """A building hidden by another in columns 4 to 5 and by a tree in column 3; a part of it."""
    path = tmp_path / "a.png"
    Image.new("RGB", (10, 4)).save(path)

    def annotation(seen, whole, building, part=None):
        seen, whole = (boxes_and_masks(b, size=(4, 10))[1][0].numpy() for b in (seen, whole))
        x, y, w, h = mask_util.toBbox(mask_util.encode(np.asfortranarray(seen.view(np.uint8))))
        found = {"bbox": [x, y, w, h], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
        found["category_id"] = 0 if part else 3
        found["building_id"] = building
        if part:
            found["part_id"] = part
        masks = (seen, whole, whole & ~seen)
        for key, mask in zip(("", "amodal_", "occluder_"), masks):
            rle = mask_util.encode(np.asfortranarray(mask.view(np.uint8)))
            found[f"{key}segmentation"] = rle
        return found

    annotations = [
        annotation((0, 0, 3, 4), (0, 0, 6, 4), 1),
        annotation((4, 0, 9, 4), (4, 0, 9, 4), 2),
        annotation((0, 0, 2, 4), (0, 0, 2, 4), 1, part=11),
    ]
    return {
        "file_name": str(path),
        "image_id": 1,
        "height": 4,
        "width": 10,
        "annotations": annotations,
    }


def mapped(record, augmentations=(), **options):
    mapper = OccluderMapper(augmentations=list(augmentations), **{**OPTIONS, **options})
    return mapper(copy.deepcopy(record))["instances"]


def columns(masks: BitMasks) -> list[list[int]]:
    assert all(bool((m.any(0) == m.all(0)).all()) for m in masks.tensor), "whole columns"
    return [m[0].nonzero()[:, 0].tolist() for m in masks.tensor]


@pytest.mark.parametrize(
    ("occluders", "expected"),
    [
        ("front+cover", [[3, 4, 5], [], []]),
        ("front", [[4, 5], [], []]),
        # Whole boxes 0 to 6 and 4 to 9 overlap by 2 / 9; a part is no neighbor of its building.
        ("others", [[4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5], []]),
    ],
)
def test_occluders_of_whole_objects(record, occluders, expected):
    instances = mapped(record, occluders=occluders, target="amodal")
    assert columns(instances.gt_occluder_masks) == expected
    assert columns(instances.gt_masks)[0] == [0, 1, 2, 3, 4, 5]
    assert instances.gt_boxes.tensor.tolist()[0] == [0, 0, 6, 4]
    assert not instances.has("gt_amodal_masks")


def test_visible_masks_stay_what_the_data_have(record):
    instances = mapped(record, occluders="front+cover", target="visible")
    assert columns(instances.gt_masks)[0] == [0, 1, 2]
    assert instances.gt_boxes.tensor.tolist()[0] == [0, 0, 3, 4]
    assert columns(instances.gt_occluder_masks)[0] == [3, 4, 5]


def test_occluders_are_flipped_with_the_image(record):
    flip = [T.RandomFlip(prob=1.0)]
    instances = mapped(record, flip, occluders="front+cover", target="amodal")
    assert columns(instances.gt_occluder_masks)[0] == [4, 5, 6]
    assert instances.gt_boxes.tensor.tolist()[0] == [4, 0, 10, 4]


def test_data_without_amodal_masks_have_neighbors(record):
    for annotation in record["annotations"]:
        del annotation["amodal_segmentation"], annotation["occluder_segmentation"]
    record["annotations"][0]["bbox"] = [0, 0, 6, 4]
    assert columns(mapped(record).gt_occluder_masks)[0] == [4, 5, 6, 7, 8]
    for options in ({"occluders": "front"}, {"target": "amodal"}):
        with pytest.raises(ConfigError, match="needs amodal truth, .* amodal@FOLDER"):
            mapped(record, **options)


def test_an_image_without_objects_has_the_field_all_the_same(record):
    record["annotations"] = []
    instances = mapped(record)
    assert instances.gt_occluder_masks.tensor.shape == (0, 4, 10)
    assert not instances.has("gt_amodal_masks")


@pytest.mark.parametrize(("key", "value"), [("OCCLUDERS", "behind"), ("TARGET", "whole")])
def test_unknown_words_are_refused_with_those_that_there_are(tiny_cfg, key, value):
    tiny_cfg.INPUT.MAPPER, tiny_cfg.INPUT.MASK_FORMAT = "OccluderMapper", "bitmask"
    tiny_cfg.MODEL.BCNET[key] = value
    with pytest.raises(ConfigError, match=f"MODEL.BCNET.{key} is '{value}'; expected one of "):
        build_mapper(tiny_cfg, is_train=True)
