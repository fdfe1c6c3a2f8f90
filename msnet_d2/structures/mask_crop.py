"""Masks cropped to their boxes.

100 full-size masks of a 1080p frame take 200 MB, and nearly all of their pixels are zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from msnet_d2.errors import InputError
from msnet_d2.structures.rle import encode_region

if TYPE_CHECKING:
    import torch

__all__ = ["MaskCrop", "MaskCropper", "as_numpy", "box_pixels", "encode_masks"]


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

    def within(self, other: MaskCrop) -> np.ndarray:
        """The mask where ``other`` is: (h, w) bool of its shape; both are of one frame."""
        found = np.zeros(other.mask.shape, bool)
        x0, y0 = max(self.x, other.x), max(self.y, other.y)
        x1 = min(self.x + self.mask.shape[1], other.x + other.mask.shape[1])
        y1 = min(self.y + self.mask.shape[0], other.y + other.mask.shape[0])
        if x1 > x0 and y1 > y0:
            ours = self.mask[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
            found[y0 - other.y : y1 - other.y, x0 - other.x : x1 - other.x] = ours > 0
        return found

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
        return encode_region(self.mask, self.x, self.y, height, width)


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


def encode_masks(masks: torch.Tensor, boxes: torch.Tensor) -> list[dict]:
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
        rles.append(encode_region(mask, 0, 0, height, width)[0])
    return rles
