"""Factories of this folder: ground truth, batches, feature maps."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

SIZE = (96, 128)  # height, width of the images


def make_gt(parts=(), parents=(), *, size=SIZE, with_parents=True) -> Instances:
    """Ground truth of one image: boxes of parts and, aligned, of their parents; classes 0, 1, 2, 0, …"""
    gt = Instances(size)
    gt.gt_boxes = Boxes(torch.tensor(parts, dtype=torch.float32).reshape(-1, 4))
    gt.gt_classes = torch.arange(len(parts)) % 3
    gt.gt_masks = PolygonMasks(
        [[[float(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]] for x1, y1, x2, y2 in parts]
    )
    if with_parents:
        gt.gt_parent_boxes = Boxes(torch.tensor(parents, dtype=torch.float32).reshape(-1, 4))
    return gt


def two_parts_one_parent() -> Instances:
    return make_gt(
        parts=[[30, 30, 50, 46], [52, 34, 70, 60]], parents=[[24, 24, 76, 70], [24, 24, 76, 70]]
    )


def make_batch(*gts, seed: int = 0, output_size=None) -> list[dict]:
    """Input dicts of a model: a random image for each ground truth (None: without)."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for gt in gts:
        size = SIZE if gt is None else gt.image_size
        image = (torch.rand(3, *size, generator=generator) * 255).to(torch.uint8)
        height, width = output_size or size
        item = {"image": image, "height": height, "width": width}
        if gt is not None:
            item["instances"] = gt
        batch.append(item)
    return batch


FEATURES = ["p2", "p3", "p4", "p5", "p6"]
STRIDES = [4, 8, 16, 32, 64]
CHANNELS = 32


@pytest.fixture
def input_shape():
    return {f: ShapeSpec(channels=CHANNELS, stride=s) for f, s in zip(FEATURES, STRIDES)}


@pytest.fixture
def make_inputs():
    """(n, seed) -> images and features of n images of SIZE."""

    def make(n: int = 2, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        images = ImageList(torch.zeros(n, 3, *SIZE), [SIZE] * n)
        features = {
            f: torch.randn(n, CHANNELS, -(-SIZE[0] // s), -(-SIZE[1] // s), generator=generator)
            for f, s in zip(FEATURES, STRIDES)
        }
        return images, features

    return make


@pytest.fixture
def storage():
    """The event storage that Detectron2's losses write to."""
    with EventStorage() as storage:
        yield storage


@pytest.fixture
def factories():
    """The functions above; a test folder without __init__.py cannot import them."""
    from types import SimpleNamespace

    return SimpleNamespace(
        make_gt=make_gt, two_parts_one_parent=two_parts_one_parent, make_batch=make_batch, size=SIZE
    )
