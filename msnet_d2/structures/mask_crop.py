"""Masks as small crops: cut out of whatever form a model gives, drawn, and written as COCO's RLE.

A frame of 1080p with 100 detections holds 200 MB of masks that are zero almost everywhere; what is
kept, drawn or encoded of a frame here is the part inside the boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from msnet_d2.errors import InputError

__all__ = [
    "MaskCrop",
    "MaskCropper",
    "annotation_mask",
    "as_numpy",
    "box_pixels",
    "distinct_objects",
]


@dataclass(frozen=True)
class MaskCrop:
    """A mask inside a part of the frame only.

    Attributes:
        mask: (h, w) uint8 or bool, non-zero where the object is.
        x: column of the crop's left edge in the frame.
        y: row of the crop's upper edge in the frame.
    """

    mask: np.ndarray
    x: int
    y: int

    def overlap(self, other: MaskCrop) -> int:
        """Pixels that both masks cover; both are of one frame."""
        x0, y0 = max(self.x, other.x), max(self.y, other.y)
        x1 = min(self.x + self.mask.shape[1], other.x + other.mask.shape[1])
        y1 = min(self.y + self.mask.shape[0], other.y + other.mask.shape[0])
        if x1 <= x0 or y1 <= y0:
            return 0
        ours = self.mask[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
        theirs = other.mask[y0 - other.y : y1 - other.y, x0 - other.x : x1 - other.x]
        return int(np.count_nonzero(np.logical_and(ours, theirs)))

    def to_rle(self, height: int, width: int) -> dict:
        """COCO's RLE of the mask in its whole frame, as encoding the whole frame gives it.

        Args:
            height, width: of the frame in pixels; the crop must lie inside.

        Returns:
            ``{"size": [height, width], "counts": str}``.
        """
        return self.to_rle_and_area(height, width)[0]

    def to_rle_and_area(self, height: int, width: int) -> tuple[dict, int]:
        """:meth:`to_rle`, and how many pixels the mask covers."""
        from pycocotools import mask as mask_utils

        # RLE runs down the columns. Each column of the crop gets a zero at both ends, so that its
        # runs begin and end inside it, and the changes are beginnings and ends by turns.
        rows = self.mask.shape[0]
        columns = np.zeros((self.mask.shape[1], rows + 2), bool)
        columns[:, 1:-1] = self.mask.T
        (changes,) = (columns[:, 1:] != columns[:, :-1]).ravel().nonzero()
        column, row = np.divmod(changes, rows + 1)
        borders = (self.x + column) * height + (self.y + row)
        if rows == height:
            # A run down to the lower edge of the frame goes on at the top of the next column.
            joined = 2 * (borders[2::2] == borders[1:-1:2]).nonzero()[0] + 1
            borders = np.delete(borders, [joined, joined + 1])
        counts = np.empty(len(borders) + 1, np.int64)
        counts[:-1] = borders
        counts[-1] = height * width
        counts[1:] -= borders
        counts = counts.tolist()
        size = [int(height), int(width)]
        given = {"size": size, "counts": counts if counts[-1] else counts[:-1]}
        rle = mask_utils.frPyObjects(given, *size)
        return {"size": size, "counts": rle["counts"].decode("ascii")}, sum(counts[1::2])


def as_numpy(values: Any) -> np.ndarray:
    """Boxes, masks, tensors on any device, lists → numpy, without a copy where possible."""
    values = getattr(values, "tensor", values)
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def box_pixels(
    box: np.ndarray, width: int, height: int, margin: int = 0
) -> tuple[int, int, int, int]:
    """The pixels that a box touches and some around it, clipped to the frame.

    Args:
        box: (4,) XYXY in pixels, finite.
        width, height: of the frame.
        margin: pixels to add on each side.

    Returns:
        x0, y0, x1, y1, the last two exclusive; x1 <= x0 or y1 <= y0 where the box is outside.
    """
    x0, y0, x1, y1 = box.tolist()
    return (
        min(max(math.floor(x0) - margin, 0), width),
        min(max(math.floor(y0) - margin, 0), height),
        min(max(math.ceil(x1) + margin, 0), width),
        min(max(math.ceil(y1) + margin, 0), height),
    )


class MaskCropper:
    """The masks of N instances in any of the accepted forms, cropped to boxes one at a time."""

    def __init__(self, masks: Any, count: int, size: tuple[int, int], margin: int = 0):
        """Take masks.

        Args:
            masks: None, (N, H, W) of the frame's size, (N, h, w) or (N, 1, h, w) probabilities
                inside the boxes, or a sequence of N :class:`MaskCrop` or None.
            count: N.
            size: (H, W) of the frame.
            margin: pixels to keep around a box.

        Raises:
            InputError: if there are not N masks.
        """
        self.size = size
        self.margin = margin
        masks = getattr(masks, "tensor", masks)
        if masks is not None and len(masks) != count:
            raise InputError(f"there are {count} instances but {len(masks)} masks")
        self.crops = isinstance(masks, list | tuple)
        if masks is not None and not self.crops and len(masks.shape) == 4:
            masks = masks[:, 0]
        # A tensor on the host becomes a view; one on a device is fetched crop by crop.
        if hasattr(masks, "detach") and masks.device.type == "cpu":
            masks = masks.detach().numpy()
        self.masks = masks

    def crop(self, index: int, box: np.ndarray) -> MaskCrop | None:
        """The mask ``index`` inside its box, a view where possible, or None where there is none."""
        if self.masks is None:
            return None
        if self.crops:
            return self.masks[index]
        height, width = self.size
        x0, y0, x1, y1 = pixels = box_pixels(box, width, height, self.margin)
        if x1 <= x0 or y1 <= y0:
            return None
        if tuple(self.masks.shape[1:]) == tuple(self.size):
            mask = as_numpy(self.masks[index, y0:y1, x0:x1])
            if mask.dtype.kind == "f":
                mask = mask >= 0.5
        else:
            pixels = x0, y0, x1, y1 = box_pixels(box, width, height)
            mask = _stretch(as_numpy(self.masks[index]), box, pixels)
        return MaskCrop(mask, x0, y0)


def _stretch(
    probability: np.ndarray, box: np.ndarray, pixels: tuple[int, int, int, int]
) -> np.ndarray:
    """A mask head's (h, w) probabilities, stretched over ``box``, as a mask of ``pixels``.

    A frame's pixel x has its centre at x + 0.5, which is (x + 0.5 − x0) / (x1 − x0) · w − 0.5 among
    the probabilities.
    """
    x0, y0, x1, y1 = pixels
    h, w = probability.shape
    sx, sy = w / max(box[2] - box[0], 1e-6), h / max(box[3] - box[1], 1e-6)
    to_probability = np.array(
        [
            [sx, 0, (x0 + 0.5 - box[0]) * sx - 0.5],
            [0, sy, (y0 + 0.5 - box[1]) * sy - 0.5],
        ]
    )
    values = cv2.warpAffine(
        probability.astype(np.float32),
        to_probability,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return values >= 0.5


def annotation_mask(
    segmentation: Any, scale: Sequence[float], size: tuple[int, int]
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
        from pycocotools import mask as mask_utils

        rle = segmentation
        if isinstance(rle["counts"], list):
            rle = mask_utils.frPyObjects(rle, *rle["size"])
        mask = mask_utils.decode(rle)
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


def distinct_objects(
    boxes: np.ndarray,
    classes: np.ndarray | None = None,
    masks: Sequence[MaskCrop | None] | None = None,
    max_overlap: float = 0.7,
) -> list[int]:
    """Objects that are no duplicates of better ones: NMS by the share of the smaller that is
    common, which unlike IoU is high for an object nested in another.

    Args:
        boxes: (N, 4) XYXY, the best first.
        classes: (N,); only objects of one class are duplicates. None: all are of one.
        masks: N masks; None, or an entry None: the box stands for it.
        max_overlap: the largest share of the smaller one of two objects that both may cover; 1:
            nothing is a duplicate.

    Returns:
        Indices, ascending. N = 0 gives an empty list.
    """
    if max_overlap >= 1:
        return list(range(len(boxes)))
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    masks = [None] * len(boxes) if masks is None else masks
    pixels = [0 if m is None else np.count_nonzero(m.mask) for m in masks]
    classes = None if classes is None else np.asarray(classes)
    kept: list[int] = []
    for i, (box, mask) in enumerate(zip(boxes, masks)):
        # All at once: pair by pair, a frame of hundreds would take longer here than in drawing.
        others = boxes[kept]
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        near = (sides > 0).all(axis=1)
        if classes is not None:
            near &= classes[kept] == classes[i]
        for k in near.nonzero()[0].tolist():
            j = kept[k]
            if mask is None or masks[j] is None:
                common, smaller = sides[k, 0] * sides[k, 1], min(area[i], area[j])
            else:
                common, smaller = mask.overlap(masks[j]), min(pixels[i], pixels[j])
            if common > max_overlap * smaller:
                break
        else:
            kept.append(i)
    return kept
