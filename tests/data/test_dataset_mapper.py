"""Parents' boxes follow their parts through every augmentation."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from detectron2.utils.env import seed_all_rng
from PIL import Image
from pycocotools import mask as mask_util

from msnet_d2.data import ISBDADatasetMapper
from msnet_d2.errors import ConfigError

# The frame is 100 pixels wide and 80 high. Boxes are x1, y1, x2, y2.
PARTS = [[10, 10, 30, 30], [50, 20, 90, 60]]
PARENTS = [[5, 5, 45, 45], [45, 10, 95, 70]]


def annotation(box, parent, category_id, **more):
    x1, y1, x2, y2 = box
    return {
        "bbox": box,
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category_id,
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
        "iscrowd": 0,
        "parent_bbox": parent,
        "parent_id": category_id,
        **more,
    }


@pytest.fixture
def record(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    path = tmp_path / "5_100.png"
    Image.fromarray(pixels).save(path)
    return {
        "file_name": str(path),
        "image_id": 1,
        "height": 80,
        "width": 100,
        "video_id": "5",
        "frame_index": 100,
        "fps": 30.0,
        "annotations": [annotation(PARTS[0], PARENTS[0], 0), annotation(PARTS[1], PARENTS[1], 2)],
    }


def make_mapper(*augmentations, mask_format="polygon", **more):
    return ISBDADatasetMapper(
        is_train=True,
        augmentations=list(augmentations),
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format=mask_format,
        **more,
    )


CASES = {
    "nothing": ([], (80, 100), PARTS, PARENTS),
    # x -> 100 - x
    "horizontal flip": (
        [T.HFlipTransform(100)],
        (80, 100),
        [[70, 10, 90, 30], [10, 20, 50, 60]],
        [[55, 5, 95, 45], [5, 10, 55, 70]],
    ),
    # y -> 80 - y
    "vertical flip": (
        [T.VFlipTransform(80)],
        (80, 100),
        [[10, 50, 30, 70], [50, 20, 90, 60]],
        [[5, 35, 45, 75], [45, 10, 95, 70]],
    ),
    # x -> 2 x, y -> y / 2
    "resize": (
        [T.ResizeTransform(80, 100, 40, 200)],
        (40, 200),
        [[20, 5, 60, 15], [100, 10, 180, 30]],
        [[10, 2.5, 90, 22.5], [90, 5, 190, 35]],
    ),
    # The window is x 20 to 80, y 20 to 70. The first part becomes -10 to 10, the second one's
    # right edge 90 - 20 = 70, and all is cut to 60 x 50.
    "crop": (
        [T.CropTransform(20, 20, 60, 50)],
        (50, 60),
        [[0, 0, 10, 10], [30, 0, 60, 40]],
        [[0, 0, 25, 25], [25, 0, 60, 50]],
    ),
    # A quarter turn anticlockwise: (x, y) -> (y, 100 - x).
    "quarter turn": (
        [T.RotationTransform(80, 100, 90)],
        (100, 80),
        [[10, 70, 30, 90], [20, 10, 60, 50]],
        [[5, 55, 45, 95], [10, 5, 70, 55]],
    ),
    # An eighth of a turn about the middle (50, 40), c = 1 / sqrt(2):
    # x' = 50 + c (dx + dy), y' = 40 + c (dy - dx), half sides c (half width + half height).
    # Part 1: middle (20, 20): d = (-30, -20) -> (50 - 50 c, 40 + 10 c), half 20 c.
    # Parent 1: middle (25, 25): d = (-25, -15) -> (50 - 40 c, 40 + 10 c), half 40 c; x1 < 0.
    # Part 2: middle (70, 40): d = (20, 0) -> (50 + 20 c, 40 - 20 c), half 40 c; y1 < 0.
    # Parent 2: the same middle, half 55 c; y1 < 0, x2 > 100.
    "eighth of a turn": (
        [T.RotationTransform(80, 100, 45, expand=False)],
        (80, 100),
        [[0.503, 32.929, 28.787, 61.213], [35.858, 0, 92.426, 54.142]],
        [[0, 18.787, 50, 75.355], [25.251, 0, 100, 64.749]],
    ),
    # Flipped: 70 to 90 and 10 to 50; then doubled; then 15 and 20 pixels cut off left and above.
    "flip, resize and crop": (
        [
            T.HFlipTransform(100),
            T.ResizeTransform(80, 100, 160, 200),
            T.CropTransform(15, 20, 180, 130),
        ],
        (130, 180),
        [[125, 0, 165, 40], [5, 20, 85, 100]],
        [[95, 0, 175, 70], [0, 0, 95, 120]],
    ),
}


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("name", CASES)
def test_geometric_augmentations(record, name, mask_format):
    transforms, size, parts, parents = CASES[name]
    instances = make_mapper(*transforms, mask_format=mask_format)(record)["instances"]
    assert instances.image_size == size
    torch.testing.assert_close(
        instances.gt_boxes.tensor, torch.tensor(parts, dtype=torch.float32), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(
        instances.gt_parent_boxes.tensor,
        torch.tensor(parents, dtype=torch.float32),
        atol=2e-3,
        rtol=0,
    )
    assert instances.gt_classes.tolist() == [0, 2]
    if name not in ("eighth of a turn", "resize"):  # there masks are no rectangles of whole pixels
        boxes = instances.gt_masks.get_bounding_boxes().tensor
        torch.testing.assert_close(boxes, instances.gt_boxes.tensor, atol=1e-3, rtol=0)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("recompute_boxes", [False, True])
def test_rows_stay_aligned_when_a_crop_removes_a_part(record, mask_format, recompute_boxes):
    # Of x 40 to 100 the first part, x 10 to 30, is outside, and 5 pixels of its parent are not.
    crop = T.CropTransform(40, 0, 60, 80)
    mapper = make_mapper(crop, mask_format=mask_format, recompute_boxes=recompute_boxes)
    instances = mapper(record)["instances"]
    assert instances.gt_classes.tolist() == [2]
    assert instances.gt_boxes.tensor.tolist() == [[10, 20, 50, 60]]
    assert instances.gt_parent_boxes.tensor.tolist() == [[5, 10, 55, 70]]


def test_rows_stay_aligned_when_crowds_are_left_out(record):
    record["annotations"].insert(0, annotation([0, 0, 9, 9], [0, 0, 9, 9], 1, iscrowd=1))
    instances = make_mapper()(record)["instances"]
    assert instances.gt_classes.tolist() == [0, 2]
    assert instances.gt_parent_boxes.tensor.tolist() == PARENTS


def test_a_crowd_without_a_parent_does_no_harm(record):
    record["annotations"].append(annotation([0, 0, 9, 9], None, 1, iscrowd=1))
    del record["annotations"][2]["parent_bbox"]
    assert make_mapper()(record)["instances"].gt_parent_boxes.tensor.tolist() == PARENTS


def test_parents_given_as_width_and_height(record):
    for item in record["annotations"]:
        for key in ("bbox", "parent_bbox"):
            x1, y1, x2, y2 = item[key]
            item[key] = [x1, y1, x2 - x1, y2 - y1]
        item["bbox_mode"] = BoxMode.XYWH_ABS
    instances = make_mapper(T.HFlipTransform(100))(record)["instances"]
    assert instances.gt_parent_boxes.tensor.tolist() == [[55, 5, 95, 45], [5, 10, 55, 70]]


def test_a_parent_outside_of_the_crop_becomes_its_part(record):
    # By a mistake in the labels the second part's building is at x 0 to 20, which is cut off.
    record["annotations"][1]["parent_bbox"] = [0, 0, 20, 20]
    instances = make_mapper(T.CropTransform(40, 0, 60, 80))(record)["instances"]
    assert instances.gt_parent_boxes.tensor.tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_random_augmentations_keep_parts_in_parents_and_equal_parents_equal(
    record, tiny_cfg, mask_format
):
    tiny_cfg.INPUT.MASK_FORMAT = mask_format
    tiny_cfg.INPUT.CROP.ENABLED = True
    tiny_cfg.INPUT.CROP.SIZE = [0.5, 0.5]
    tiny_cfg.INPUT.COLOR_JITTER = 0.3
    mapper = ISBDADatasetMapper(tiny_cfg, is_train=True)
    mapper.augmentations.augs.append(T.RandomRotation([-30, 30]))
    # Two more parts of the second building.
    record["annotations"].append(annotation([60, 25, 70, 35], PARENTS[1], 1))
    record["annotations"].append(annotation([48, 50, 58, 66], PARENTS[1], 1))
    seen = []
    for seed in range(15):
        seed_all_rng(seed)
        instances = mapper(copy.deepcopy(record))["instances"]
        parts, parents = instances.gt_boxes.tensor, instances.gt_parent_boxes.tensor
        seen.append(len(parts))
        # Rasterising may add a pixel.
        assert (parts[:, :2] >= parents[:, :2] - 1).all()
        assert (parts[:, 2:] <= parents[:, 2:] + 1).all()
        of_second = instances.gt_classes > 0
        assert len(parents[of_second].unique(dim=0)) == int(of_second.any())
        height, width = instances.image_size
        assert (parents >= 0).all()
        assert (parents[:, 2] <= width).all()
        assert (parents[:, 3] <= height).all()
    assert min(seen) < 4 <= max(seen)  # the crops did remove something, and not always


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("crowds_alone", [False, True])
def test_an_image_without_annotations_has_all_fields(record, mask_format, crowds_alone):
    record["annotations"] = record["annotations"][:crowds_alone]
    for item in record["annotations"]:
        item["iscrowd"] = 1
    crop = T.CropTransform(0, 0, 50, 40)
    output = make_mapper(crop, mask_format=mask_format, recompute_boxes=True)(record)
    instances = output["instances"]
    assert "annotations" not in output
    assert instances.image_size == (40, 50)
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_parent_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.dtype == torch.int64
    assert isinstance(instances.gt_masks, PolygonMasks if mask_format == "polygon" else BitMasks)
    assert len(instances.gt_masks) == 0


def test_data_without_parents_have_no_such_field(record):
    for item in record["annotations"]:
        del item["parent_bbox"], item["parent_id"]
    instances = make_mapper()(record)["instances"]
    assert not instances.has("gt_parent_boxes")
    assert instances.gt_classes.tolist() == [0, 2]


def test_run_length_masks(record):
    rle = {"size": [80, 100], "counts": [0, 8000]}
    for item in record["annotations"]:
        item["segmentation"] = mask_util.frPyObjects(rle, 80, 100)
    instances = make_mapper(mask_format="bitmask")(record)["instances"]
    assert instances.gt_masks.tensor.all()
    with pytest.raises(ConfigError, match="5_100.png has run-length masks: set INPUT.MASK_FORMAT"):
        make_mapper()(record)


@pytest.mark.parametrize("is_train", [True, False])
def test_what_is_not_its_business_passes_through(record, tiny_cfg, is_train):
    before = copy.deepcopy(record)
    output = ISBDADatasetMapper(tiny_cfg, is_train=is_train)(record)
    assert record == before
    for key in ("file_name", "image_id", "height", "width", "video_id", "frame_index", "fps"):
        assert output[key] == record[key]
    assert ("instances" in output) == is_train
    assert "annotations" not in output
    assert output["image"].shape == (3, 96, 120)  # short side 80 -> 96


def test_color_jitter_changes_colors_alone(record, tiny_cfg):
    tiny_cfg.INPUT.RANDOM_FLIP = "none"
    plain = ISBDADatasetMapper(tiny_cfg, is_train=True)(record)
    tiny_cfg.INPUT.COLOR_JITTER = 0.4
    jittered = ISBDADatasetMapper(tiny_cfg, is_train=True)(record)
    evaluated = ISBDADatasetMapper(tiny_cfg, is_train=False)(record)
    assert not torch.equal(plain["image"], jittered["image"])
    assert torch.equal(plain["image"], evaluated["image"])
    for field in ("gt_boxes", "gt_parent_boxes"):
        a, b = plain["instances"].get(field), jittered["instances"].get(field)
        assert torch.equal(a.tensor, b.tensor)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, float("nan")])
def test_color_jitter_out_of_range_is_an_error(tiny_cfg, jitter):
    tiny_cfg.INPUT.COLOR_JITTER = jitter
    with pytest.raises(ConfigError, match="COLOR_JITTER"):
        ISBDADatasetMapper(tiny_cfg, is_train=True)


def test_it_can_be_sent_to_another_process(record, tiny_cfg):
    mapper = pickle.loads(pickle.dumps(ISBDADatasetMapper(tiny_cfg, is_train=True)))
    assert mapper(record)["instances"].has("gt_parent_boxes")
