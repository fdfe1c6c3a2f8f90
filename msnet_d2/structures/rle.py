"""COCO's run-length encoding of masks: written from a region, read without trust.

pycocotools decodes in C without checking: counts that do not fill the mask leave stale memory in
it, and counts that overfill it write past its end. So counts from a file are read and added up
here first.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as mask_util

from msnet_d2.utils.text import brief

__all__ = ["checked_rle", "encode_region", "rle_counts", "segmentation_to_rle"]

_FIRST_CHARACTER = 48  # "0" stands for zero in COCO's compressed counts
_PAYLOAD_BITS = 5
_MORE = 0x20  # the next character continues this count
_SIGN = 0x10  # of the last character of a count
_MAX_CHARACTERS = 7  # of one count: 35 bits, more than any image has pixels


def encode_region(region: np.ndarray, x: int, y: int, height: int, width: int) -> tuple[dict, int]:
    """COCO's RLE of a mask that is zero outside of a region, as encoding the whole frame gives it.

    Args:
        region: (h, w) uint8 or bool, non-zero where the object is.
        x, y: column and row of the region's upper left corner in the frame.
        height, width: of the frame in pixels; the region lies inside it.

    Returns:
        ``{"size": [height, width], "counts": str}``, and the area of the mask in pixels.
    """
    # RLE runs down the columns. Each column of the region gets a zero at both ends, so that its
    # runs begin and end inside it, and the changes are beginnings and ends by turns.
    rows = region.shape[0]
    columns = np.zeros((region.shape[1], rows + 2), bool)
    columns[:, 1:-1] = region.T
    (changes,) = (columns[:, 1:] != columns[:, :-1]).ravel().nonzero()
    column, row = np.divmod(changes, rows + 1)
    borders = (x + column) * height + (y + row)
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
    uncompressed = {"size": size, "counts": counts if counts[-1] else counts[:-1]}
    return _with_text(mask_util.frPyObjects(uncompressed, *size)), sum(counts[1::2])


def rle_counts(encoded: str | bytes) -> list[int]:
    """Decode COCO's compressed counts.

    Counts are alternating numbers of background and mask pixels, column by column. Each is written
    in groups of five bits, low ones first; from the fourth on it is the difference to the one
    before the last.

    Raises:
        ValueError: if ``encoded`` cannot be compressed counts, with the reason.
    """
    data = encoded.encode("latin-1", "replace") if isinstance(encoded, str) else encoded
    counts: list[int] = []
    value = characters = 0
    for byte in data:
        code = byte - _FIRST_CHARACTER
        if not 0 <= code < 64:
            raise ValueError(f"counts contain the character {chr(byte)!r}")
        value |= (code & 0x1F) << (_PAYLOAD_BITS * characters)
        characters += 1
        if characters > _MAX_CHARACTERS:
            raise ValueError("counts contain a number of more than 35 bits")
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << (_PAYLOAD_BITS * characters)
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        value = characters = 0
    if characters:
        raise ValueError("counts end in the middle of a number")
    return counts


def checked_rle(raw: dict, height: int, width: int) -> tuple[dict, int]:
    """Check an RLE mask against its image, and compress it if it is not.

    Args:
        raw: ``{"size": [height, width], "counts": ...}``, counts compressed (text) or a list.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        The mask as pycocotools takes it (compressed), and its area in pixels.

    Raises:
        ValueError: if it is malformed or does not fill the image exactly, with the reason.
    """
    size, counts = raw.get("size"), raw.get("counts")
    if size != [height, width]:
        raise ValueError(f"its size is {brief(size)}, the image's is [{height}, {width}]")
    if isinstance(counts, (str, bytes)):
        numbers = rle_counts(counts)
    elif isinstance(counts, list) and all(type(n) is int for n in counts):
        numbers = counts
    else:
        raise ValueError("its counts are neither text nor a list of integers")
    if any(n < 0 for n in numbers):
        raise ValueError("it has a negative count")
    if sum(numbers) != height * width:
        raise ValueError(
            f"its counts add up to {sum(numbers)}, the image has {height * width} pixels"
        )
    if isinstance(counts, list):
        compressed = mask_util.frPyObjects(
            {"size": [height, width], "counts": counts}, height, width
        )
    else:
        compressed = {
            "size": [height, width],
            "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
        }
    return compressed, sum(numbers[1::2])


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
