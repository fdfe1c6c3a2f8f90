"""Reading run-length encoded masks without trusting them.

pycocotools decodes in C without checking: counts that do not fill the mask leave stale memory in
it, and counts that overfill it write past its end. So the counts are read and added up here first.
"""

from __future__ import annotations

from msnet_d2.utils.text import brief

__all__ = ["checked_rle", "rle_counts"]

_FIRST_CHARACTER = 48  # "0" stands for zero in COCO's compressed counts
_PAYLOAD_BITS = 5
_MORE = 0x20  # the next character continues this count
_SIGN = 0x10  # of the last character of a count
_MAX_CHARACTERS = 7  # of one count: 35 bits, more than any image has pixels


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
        from pycocotools import mask as mask_util

        compressed = mask_util.frPyObjects(
            {"size": [height, width], "counts": counts}, height, width
        )
    else:
        compressed = {
            "size": [height, width],
            "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
        }
    return compressed, sum(numbers[1::2])
