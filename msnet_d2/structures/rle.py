"""Masks as COCO's run-length encoding, from a model's output and from what a file holds."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as mask_util
from torch import Tensor

from msnet_d2.structures.checked_rle import checked_rle
from msnet_d2.structures.mask_crop import MaskCropper

__all__ = ["encode_masks", "segmentation_to_rle"]


def encode_masks(masks: Tensor, boxes: Tensor) -> list[dict]:
    """Encode masks that cover the whole image.

    Only the pixels around a box are encoded, unless the mask has others too: the result is the same
    and takes a tenth of the time.

    Args:
        masks: (N, H, W) boolean, on the CPU. N = 0 gives an empty list.
        boxes: (N, 4) XYXY, in pixels, where to look for the masks.

    Returns:
        N RLEs ``{"size": [H, W], "counts": str}``.
    """
    if len(masks) == 0:
        return []
    height, width = masks.shape[1:]
    # A mask is pasted into its box rounded outwards by a pixel.
    cropper = MaskCropper(masks, len(masks), (height, width), margin=1)
    rles = []
    for index, (mask, box) in enumerate(zip(masks.numpy(), boxes.numpy())):
        crop = cropper.crop(index, box)
        if crop is not None:
            rle, inside = crop.to_rle_and_area(height, width)
            if inside == np.count_nonzero(mask):
                rles.append(rle)
                continue
        rles.append(_with_text(mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))))
    return rles


def segmentation_to_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Turn polygons or an RLE of any kind into a compressed RLE of an image.

    Args:
        segmentation: polygons ``[[x0, y0, x1, y1, …], …]``, or an RLE whose ``counts`` are numbers,
            text or bytes.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        RLE with ``counts`` as text.

    Raises:
        ValueError: if polygons have fewer than 3 points, or one that is not a number or lies
            further outside than the image is large; or if an RLE does not fill the image exactly.
            pycocotools would crash on these, or read memory that is not its own.
    """
    if isinstance(segmentation, dict):
        return _with_text(checked_rle(segmentation, height, width)[0])
    _check_polygons(segmentation, height, width)
    return _with_text(mask_util.merge(mask_util.frPyObjects(segmentation, height, width)))


def _with_text(rle: dict) -> dict:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def _check_polygons(polygons: list, height: int, width: int) -> None:
    if not isinstance(polygons, (list, tuple)) or len(polygons) == 0:
        raise ValueError(f"segmentation is {type(polygons).__name__}, neither polygons nor RLE")
    reach = max(height, width)
    for polygon in polygons:
        try:
            points = np.asarray(polygon, dtype=np.float64)
        except OverflowError:  # an integer that no float can hold
            points = np.array([np.inf] * 6)
        if points.ndim != 1 or points.size % 2 or points.size < 6:
            raise ValueError("a polygon is a flat list of at least 3 pairs x, y")
        if not np.isfinite(points).all() or points.min() < -reach or points.max() > 2 * reach:
            raise ValueError("a polygon has a point that is not a number or lies far outside")
