"""Resizing by torch gives what Detectron2's resizing by Pillow gives."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng
from PIL import Image

from msnet_d2.config import get_msnet_cfg
from msnet_d2.data import ISBDADatasetMapper
from msnet_d2.data.loading.resizing import (
    QuickResizeShortestEdge,
    QuickResizeTransform,
    with_quick_resizing,
)


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "new"),
    [
        ((108, 192), (75, 133)),  # down, by a factor that is no whole number
        ((54, 96), (75, 133)),  # up
        ((60, 40), (30, 20)),  # by half
        ((60, 40), (60, 40)),  # not at all
        ((7, 300), (5, 1)),
        ((1, 1), (9, 8)),
        ((90, 20), (20, 90)),  # down one way and up the other
    ],
)
@pytest.mark.parametrize("form", ["RGB", "BGR", "read-only", "every other row"])
def test_within_one_of_pillow(size, new, form):
    image = noise(*size)
    if form == "BGR":
        image = image[:, :, ::-1]  # as Detectron2 gives it
    elif form == "read-only":
        image.flags.writeable = False
    elif form == "every other row":
        image = np.repeat(image, 2, axis=0)[::2]
    before = image.copy()
    theirs = T.ResizeTransform(*size, *new).apply_image(image).astype(int)
    ours = QuickResizeTransform(*size, *new, Image.BILINEAR).apply_image(image)
    assert ours.dtype == np.uint8
    assert ours.shape == (*new, 3)
    assert np.abs(ours - theirs).max() <= 1
    assert abs((ours - theirs).mean()) < 0.1
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "interp"),
    [
        (noise(40, 60, 1), Image.BILINEAR),
        (noise(40, 60)[:, :, 0], Image.BILINEAR),
        (noise(40, 60).astype(np.float32), Image.BILINEAR),
        (noise(40, 60), Image.NEAREST),
        (noise(40, 60), Image.BICUBIC),
    ],
)
def test_everything_else_is_detectron2s(image, interp):
    theirs = T.ResizeTransform(40, 60, 30, 50, interp).apply_image(image)
    ours = QuickResizeTransform(40, 60, 30, 50, interp).apply_image(image)
    assert np.array_equal(ours, theirs)


def test_boxes_and_segmentations():
    quick, plain = QuickResizeTransform(40, 60, 30, 50, 2), T.ResizeTransform(40, 60, 30, 50, 2)
    boxes = np.array([[3.0, 4.0, 20.0, 30.0]])
    assert np.array_equal(quick.apply_box(boxes), plain.apply_box(boxes))
    labels = noise(40, 60)[:, :, 0]
    assert np.array_equal(quick.apply_segmentation(labels), plain.apply_segmentation(labels))
    # 60 · 50/60 wide again.
    assert quick.inverse().apply_image(noise(30, 50)).shape == (40, 60, 3)


def test_the_same_random_sizes():
    image, sizes = noise(50, 80), []
    plain = T.ResizeShortestEdge((20, 90), 200, "range")
    for augmentation in (plain, *with_quick_resizing([plain])):
        seed_all_rng(3)
        sizes.append([augmentation.get_transform(image).new_h for _ in range(9)])
    assert sizes[0] == sizes[1]
    assert len(set(sizes[0])) > 3


def test_only_detectron2s_own_is_replaced():
    class Own(T.ResizeShortestEdge):
        pass

    given = [T.RandomFlip(), T.ResizeShortestEdge(20), Own(20), T.ResizeShortestEdge(0)]
    quick = with_quick_resizing(given)
    assert quick[0] is given[0]
    assert quick[2] is given[2]
    assert type(quick[1]) is QuickResizeShortestEdge
    assert type(given[1]) is T.ResizeShortestEdge
    # A size of 0 means to leave the picture as it is.
    assert isinstance(
        quick[3].get_transform(noise(5, 5)), type(given[3].get_transform(noise(5, 5)))
    )


@pytest.mark.parametrize("is_train", [True, False])
def test_the_mapper_resizes_quickly(is_train):
    cfg = get_msnet_cfg()
    mapper = ISBDADatasetMapper(cfg, is_train)
    assert type(mapper.augmentations.augs[0]) is QuickResizeShortestEdge
