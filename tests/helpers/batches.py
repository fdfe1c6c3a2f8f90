"""Ground truth and batches of random images, for models in training and inference."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

SIZE = (96, 128)  # height, width of the images


def make_gt(parts=(), parents=(), *, size=SIZE, with_parents=True) -> Instances:
    """Ground truth of one image: aligned boxes of parts and parents; classes 0, 1, 2, 0, …"""
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
