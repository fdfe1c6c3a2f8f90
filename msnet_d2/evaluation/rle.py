"""Masks as COCO's run-length encoding: to it, and whether one that somebody else wrote is sound.

An RLE is ``{"size": [height, width], "counts": str}``: lengths of alternating runs of 0 and 1 down
the columns, each written as the difference from the run two before in groups of five bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as mask_util

__all__ = ["encode_masks", "run_lengths", "segmentation_to_rle"]


def encode_masks(masks: torch.Tensor) -> list[dict]:
    """Encode masks that cover the whole image.

    Args:
        masks: (N, H, W), boolean or 0 and 1, on the CPU. N = 0 gives an empty list.

    Returns:
        N RLEs, ``counts`` as text, so that they can be written as JSON.
    """
    if len(masks) == 0:
        return []
    columns_first = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))
    rles = mask_util.encode(columns_first)
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]


def segmentation_to_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Turn polygons or an RLE of any kind into a compressed RLE of an image.

    Args:
        segmentation: polygons ``[[x0, y0, x1, y1, …], …]``, or an RLE, whose ``counts`` are
            numbers, text or bytes.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        RLE with ``counts`` as text.

    Raises:
        ValueError: if polygons have a point that is not a number, lies further outside than the
            image is large, or fewer than 3 points; or if an RLE does not fill the image exactly.
            pycocotools would read memory that is not its own, or crash, for these.
    """
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [height, width]:
            raise ValueError(f"RLE of size {segmentation.get('size')}, image of {[height, width]}")
        counts = segmentation.get("counts")
        lengths = run_lengths(counts)
        if (lengths < 0).any() or lengths.sum() != height * width:
            raise ValueError(f"RLE covers {lengths.sum()} pixels of an image of {height * width}")
        if isinstance(counts, (list, tuple)):
            rle = mask_util.frPyObjects(
                {"size": [height, width], "counts": list(counts)}, height, width
            )
        else:
            rle = {"size": [height, width], "counts": counts}
    else:
        _check_polygons(segmentation, height, width)
        rle = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [height, width], "counts": text}


def run_lengths(counts: str | bytes | Sequence[int]) -> np.ndarray:
    """Lengths of the runs that an RLE's ``counts`` say, as int64.

    Raises:
        ValueError: if ``counts`` are of another type, hold characters that no encoder writes, or
            end within a number.
    """
    if isinstance(counts, (list, tuple)):
        if not all(isinstance(count, (int, np.integer)) for count in counts):
            raise ValueError("RLE counts are not all integers")
        return np.asarray(counts, dtype=np.int64)
    if isinstance(counts, str):
        counts = counts.encode("utf-8")
    if not isinstance(counts, bytes):
        raise ValueError(f"RLE counts are {type(counts).__name__}, neither text nor a list")
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if characters.size == 0:
        return characters
    if characters.min() < 0 or characters.max() > 63:
        raise ValueError("RLE counts hold characters that are none of RLE's")
    is_last = (characters & 0x20) == 0
    if not is_last[-1]:
        raise ValueError("RLE counts end within a number")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    if groups.max() > 12:
        raise ValueError("RLE counts hold a number of more than 60 bits")
    place = np.arange(characters.size) - np.repeat(starts, groups)
    numbers = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    negative = (characters[ends] & 0x10) != 0
    numbers[negative] -= np.int64(1) << (5 * groups[negative])
    # From the fourth on each number is the difference from the run two before.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _check_polygons(polygons: list, height: int, width: int) -> None:
    if not isinstance(polygons, (list, tuple)) or len(polygons) == 0:
        raise ValueError(f"segmentation is {type(polygons).__name__}, neither polygons nor RLE")
    reach = max(height, width)
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or points.size % 2 or points.size < 6:
            raise ValueError("a polygon is a flat list of at least 3 pairs x, y")
        if not np.isfinite(points).all() or points.min() < -reach or points.max() > 2 * reach:
            raise ValueError("a polygon has a point that is not a number or lies far outside")
