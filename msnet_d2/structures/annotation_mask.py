"""Masks of annotations: polygons and run lengths as crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from msnet_d2.structures.mask_crop import MaskCrop, box_pixels

__all__ = ["annotation_mask"]


def annotation_mask(
    segmentation: Any, scale: Sequence[float] | np.ndarray, size: tuple[int, int]
) -> MaskCrop | None:
    """The mask of an annotation, cropped to what it covers.

    Args:
        segmentation: polygons (flat lists of x, y), or an RLE, or None.
        scale: (x, y) factors from the annotation's pixels to the frame's.
        size: (H, W) of the frame.
    """
    if not segmentation:
        return None
    height, width = size
    if isinstance(segmentation, dict):
        rle = segmentation
        if isinstance(rle["counts"], list):
            rle = mask_util.frPyObjects(rle, *rle["size"])
        mask = mask_util.decode(rle)
        if mask.shape != tuple(size):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        x, y, w, h = cv2.boundingRect(mask)
        return MaskCrop(mask[y : y + h, x : x + w], x, y) if w and h else None
    polygons = [np.asarray(p, dtype=np.float64).reshape(-1, 2) * scale for p in segmentation]
    points = np.concatenate(polygons)
    x0, y0, x1, y1 = box_pixels(np.r_[points.min(0), points.max(0)], width, height)
    if x1 <= x0 or y1 <= y0:
        return None
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round(polygon - 0.5 - (x0, y0)).astype(np.int32)], 1)
    return MaskCrop(mask, x0, y0)
