"""Labels, segments and whole masks follow their images through augmentations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from msnet_d2.data.loading.build import build_mapper
from msnet_d2.data.loading.kind_mappers import (
    AmodalDatasetMapper,
    PanopticDatasetMapper,
    SemanticDatasetMapper,
)
from msnet_d2.errors import ConfigError, DatasetError

OPTIONS = {
    "is_train": True,
    "image_format": "BGR",
    "use_instance_mask": True,
    "instance_mask_format": "bitmask",
}
FLIP = [T.RandomFlip(prob=1.0)]
LARGER = [T.Resize((8, 12))]


def _masks(*boxes) -> np.ndarray:
    out = np.zeros((len(boxes), 4, 6), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(out, boxes):
        mask[y0:y1, x0:x1] = 1
    return out


def _rle(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask))


@pytest.fixture
def record(tmp_path) -> dict:
    path = tmp_path / "a.png"
    Image.new("RGB", (6, 4)).save(path)
    return {"file_name": str(path), "image_id": 1, "height": 4, "width": 6}


@pytest.fixture
def amodal(record) -> dict:
    seen, whole = _masks((0, 0, 2, 2), (4, 0, 6, 4)), _masks((0, 0, 3, 2), (4, 0, 6, 4))
    record["annotations"] = [
        {
            "bbox": [0, 0, 2, 2],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": n,
            "iscrowd": 0,
            "segmentation": _rle(s),
            "amodal_segmentation": _rle(w),
            "occluder_segmentation": _rle(w & ~s & 1),
        }
        for n, (s, w) in enumerate(zip(seen, whole))
    ]
    return record


@pytest.mark.parametrize(
    ("augmentations", "columns"),
    [([], slice(None)), (FLIP, slice(None, None, -1))],
)
def test_amodal_masks_are_flipped_with_the_image(amodal, augmentations, columns):
    mapper = AmodalDatasetMapper(augmentations=augmentations, **OPTIONS)
    instances = mapper(copy.deepcopy(amodal))["instances"]
    whole = _masks((0, 0, 3, 2), (4, 0, 6, 4))[..., columns]
    seen = _masks((0, 0, 2, 2), (4, 0, 6, 4))[..., columns]
    assert instances.gt_classes.tolist() == [0, 1]
    np.testing.assert_array_equal(instances.gt_amodal_masks.tensor, whole)
    np.testing.assert_array_equal(instances.gt_visible_masks.tensor, seen)
    np.testing.assert_array_equal(instances.gt_masks.tensor, seen)
    np.testing.assert_array_equal(instances.gt_occluder_masks.tensor, whole & ~seen & 1)


def test_what_a_crop_leaves_empty_goes_with_its_amodal_mask(amodal):
    # The left half keeps the first instance alone.
    crop = T.FixedSizeCrop((4, 3), pad=False)
    crop.get_transform = lambda image: T.CropTransform(0, 0, 3, 4, 6, 4)
    mapper = AmodalDatasetMapper(augmentations=[crop], **OPTIONS)
    instances = mapper(copy.deepcopy(amodal))["instances"]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_amodal_masks.tensor.shape == (1, 4, 3)
    assert instances.gt_amodal_masks.tensor.sum() == 6
    assert instances.gt_occluder_masks.tensor.sum() == 2


def test_an_image_without_instances_has_the_fields_all_the_same(amodal):
    amodal["annotations"] = []
    instances = AmodalDatasetMapper(augmentations=[], **OPTIONS)(amodal)["instances"]
    for name in ("gt_amodal_masks", "gt_visible_masks", "gt_occluder_masks"):
        assert instances.get(name).tensor.shape == (0, 4, 6)


def test_polygons_cannot_carry_amodal_masks(amodal):
    options = {**OPTIONS, "instance_mask_format": "polygon"}
    with pytest.raises(ConfigError, match="INPUT.MASK_FORMAT 'bitmask'"):
        AmodalDatasetMapper(augmentations=[], **options)(amodal)


@pytest.fixture
def semantic(record, tmp_path) -> dict:
    labels = np.zeros((4, 6), np.uint8)
    labels[:, :2], labels[0, 5] = 7, 5
    Image.fromarray(labels).save(tmp_path / "labels.png")
    lut = np.full(256, 255, np.uint8)
    lut[[0, 7]] = 0, 1
    record.update(sem_seg_file_name=str(tmp_path / "labels.png"), label_lut=lut)
    return record


def test_label_tables_are_looked_up_behind_augmentations(semantic):
    mapped = SemanticDatasetMapper(augmentations=LARGER + FLIP, **OPTIONS)(copy.deepcopy(semantic))
    expected = np.zeros((8, 12), np.int64)
    expected[:, -4:] = 1
    expected[:2, :2] = 255
    assert mapped["sem_seg"].dtype == torch.int64
    np.testing.assert_array_equal(mapped["sem_seg"], expected)
    assert "label_lut" not in mapped


def test_for_testing_labels_are_classes_too(semantic):
    mapper = SemanticDatasetMapper(augmentations=[], **{**OPTIONS, "is_train": False})
    mapped = mapper(copy.deepcopy(semantic))
    # Detectron2's mapper reads them whether it trains or not.
    assert mapped["sem_seg"].unique().tolist() == [0, 1, 255]
    assert not {"label_lut", "sem_seg_file_name"} & mapped.keys()


def test_labels_of_another_size_are_refused(semantic, tmp_path):
    Image.new("L", (6, 5)).save(tmp_path / "labels.png")
    with pytest.raises(DatasetError, match=r"labels.png is 6x5, but its image is 6x4"):
        SemanticDatasetMapper(augmentations=[], **OPTIONS)(semantic)


@pytest.fixture
def panoptic(record, tmp_path) -> dict:
    # A part of 1 x 2 pixels in a building of 3 x 2, on ground; a void column at the right.
    ids = np.full((4, 6), 5)
    ids[:2, :3], ids[:2, 2], ids[:, 5] = 1000, 1001, 0
    picture = np.stack([ids % 256, ids // 256, ids * 0], -1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "ids.png")
    record["pan_seg_file_name"] = str(tmp_path / "ids.png")
    record["segments_info"] = [
        {"id": 5, "category_id": 1, "isthing": False, "iscrowd": 0},
        {"id": 1000, "category_id": 3, "isthing": True, "iscrowd": 0},
        {"id": 1001, "category_id": 0, "isthing": True, "iscrowd": 0, "parent_id": 1000},
    ]
    return record


def test_segments_become_instances_and_stuff(panoptic):
    mapped = PanopticDatasetMapper(augmentations=FLIP, **OPTIONS)(copy.deepcopy(panoptic))
    stuff = np.ones((4, 6), np.int64)
    stuff[:2, 3:], stuff[:, 0] = 0, 255
    np.testing.assert_array_equal(mapped["sem_seg"], stuff)
    instances = mapped["instances"]
    assert instances.gt_classes.tolist() == [3, 0]
    masks = _masks((4, 0, 6, 2), (3, 0, 4, 2))
    np.testing.assert_array_equal(instances.gt_masks.tensor, masks)
    # The building's box holds its part; a building is its own parent.
    assert instances.gt_parent_boxes.tensor.tolist() == [[4, 0, 6, 2], [3, 0, 6, 2]]


def test_mappers_go_by_their_names(tiny_cfg):
    for mapper in (AmodalDatasetMapper, PanopticDatasetMapper, SemanticDatasetMapper):
        tiny_cfg.INPUT.MAPPER = mapper.__name__
        assert isinstance(build_mapper(tiny_cfg, is_train=False), mapper)
