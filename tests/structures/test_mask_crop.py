from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from msnet_d2.errors import InputError
from msnet_d2.structures.duplicates import distinct_objects
from msnet_d2.structures.mask_crop import MaskCrop, MaskCropper, box_pixels


def test_rle_of_a_crop_is_that_of_the_whole_frame():
    # Small frames, so that runs often touch the frame's edges and go on in the next column.
    rng = np.random.default_rng(0)
    for _ in range(400):
        height, width = (int(n) for n in rng.integers(1, 12, 2))
        y0, x0 = rng.integers(0, height), rng.integers(0, width)
        y1, x1 = rng.integers(y0 + 1, height + 1), rng.integers(x0 + 1, width + 1)
        mask = np.zeros((height, width), np.uint8)
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < rng.choice([0, 0.5, 0.8, 1])
        expected = mask_utils.encode(np.asfortranarray(mask))["counts"].decode("ascii")
        rle = MaskCrop(mask[y0:y1, x0:x1], int(x0), int(y0)).to_rle(height, width)
        assert rle == {"size": [height, width], "counts": expected}


def test_rle_of_a_large_frame():
    mask = np.zeros((1080, 1920), np.uint8)
    mask[500:700, 300:800] = np.random.default_rng(1).random((200, 500)) < 0.9
    expected = mask_utils.encode(np.asfortranarray(mask))["counts"].decode("ascii")
    assert MaskCrop(mask[490:705, 295:803], 295, 490).to_rle(1080, 1920)["counts"] == expected


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ([1.2, 2.0, 3.0, 4.1], 0, (1, 2, 3, 5)),  # every pixel that is touched
        ([1.2, 2.0, 3.0, 4.1], 1, (0, 1, 4, 6)),
        ([-5, -5, 50, 50], 0, (0, 0, 10, 8)),
        ([20, 2, 30, 4], 0, (10, 2, 10, 4)),  # outside: no width
    ],
)
def test_pixels_of_a_box(box, margin, expected):
    assert box_pixels(np.array(box, float), 10, 8, margin) == expected


def test_cropper_takes_a_view_of_tensors():
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[1, 5:8, 6:9] = True
    crop = MaskCropper(masks, 2, (20, 30), margin=1).crop(1, np.array([6.0, 5.0, 9.0, 8.0]))
    assert (crop.x, crop.y, crop.mask.shape) == (5, 4, (5, 5))
    assert crop.mask.sum() == 9
    masks[1] = False
    assert crop.mask.sum() == 0


def test_cropper_without_masks_and_with_too_few():
    assert MaskCropper(None, 3, (20, 30)).crop(0, np.zeros(4)) is None
    with pytest.raises(InputError, match="3 instances but 2 masks"):
        MaskCropper(torch.zeros(2, 20, 30), 3, (20, 30))


@pytest.mark.parametrize("count", [0, 1, 2, 300])
@pytest.mark.parametrize("with_classes", [False, True])
def test_distinct_objects_pair_by_pair(count, with_classes):
    """Whole numbers, so that sides touch and shares are equal to the largest allowed one."""
    rng = np.random.default_rng(count)
    corner, side = rng.integers(0, 40, (count, 2)), rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(float)
    classes = rng.integers(0, 2, count) if with_classes else np.zeros(count, int)

    def common(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        return width * height if min(width, height) > 0 else 0

    expected = []
    for i, a in enumerate(boxes):
        rivals = [boxes[j] for j in expected if classes[j] == classes[i]]
        if not any(common(a, b) > 0.5 * min(common(a, a), common(b, b)) for b in rivals):
            expected.append(i)
    found = distinct_objects(boxes, classes if with_classes else None, max_overlap=0.5)
    assert found == expected
    assert count < 300 or 50 < len(found) < 250
