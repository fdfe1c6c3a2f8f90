"""Checking one annotation of a JSON and turning it into Detectron2's form, in one pass.

All functions report what is wrong to a callback ``report(severity, kind, message)`` and return
None for what cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from detectron2.structures import BoxMode

from msnet_d2.data.isbda.categories import CategoryMap
from msnet_d2.structures.rle import checked_rle
from msnet_d2.utils.text import brief

__all__ = ["is_box", "read_annotation"]

Report = Callable[[str, str, str], None]

MAX_ID = 2**53  # pycocotools keeps ids in double precision
HUGE = 1e6  # pixels; no frame and nothing in it is this large
SMALLEST = 1e-3  # pixels; a box this narrow is empty
# A polygon longer than this many times the frame's half perimeter is no outline of anything, and
# rasterising takes memory in proportion to the length.
MAX_OUTLINE = 100
# Labels drawn by hand end a little outside of the frame; this many pixels are not worth a word.
TOLERANCE = 1.0
# Below these overlaps two things that should belong together do not.
MIN_BOX_MASK_IOU = 0.5
MIN_SHARE_IN_PARENT = 0.5
MIN_AREA_DIFFERENCE = 32.0  # square pixels


def read_annotation(
    raw: dict, categories: CategoryMap, height: int, width: int, report: Report
) -> dict | None:
    """Check an annotation against its image and convert it.

    Args:
        raw: the annotation; its ``id`` and ``image_id`` have been checked.
        categories: of the data set.
        height: of its image, in pixels.
        width: of its image, in pixels.
        report: takes severity, kind and message of each issue.

    Returns:
        Detectron2's annotation dict with ``id``, ``parent_bbox``, ``parent_id`` and ``part_id`` as
        far as the JSON has them, or None if it cannot be used.
    """
    category_id = raw.get("category_id")
    category = categories.id_to_contiguous.get(category_id) if type(category_id) is int else None
    if category is None:
        known = ", ".join(map(str, sorted(categories.id_to_contiguous)))
        report("fatal", "unknown-category", f"category_id {brief(category_id)} is none of {known}")
    iscrowd = raw.get("iscrowd", 0)
    if iscrowd not in (0, 1):
        report("fatal", "annotation-field", f"iscrowd is {brief(iscrowd)}, not 0 or 1")
    box_key = "bbox" if raw.get("bbox") is not None else "damage_bbox"
    box = _read_box(raw, box_key, height, width, report)
    mask = _read_mask(raw.get("segmentation"), height, width, report)
    parent_key = "house_bbox" if raw.get("house_bbox") is not None else "parent_bbox"
    has_parent = raw.get(parent_key) is not None
    parent = _read_box(raw, parent_key, height, width, report) if has_parent else None
    parent_id = _read_id(raw, "parent_id", report)
    part_id = _read_id(raw, "part_id", report)
    if box is None or mask is None or category is None or (has_parent and parent is None):
        return None
    segmentation, mask_area, mask_box = mask
    result = {
        "id": raw["id"],
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": int(iscrowd == 1),
        "area": _read_area(raw, mask_area or box[2] * box[3], report),
    }
    if part_id is not None:
        result["part_id"] = part_id
    if segmentation is not None:
        result["segmentation"] = segmentation
    if parent is not None:
        result["parent_bbox"] = parent
        # None until the loader has seen the whole image and numbered the boxes without an id.
        result["parent_id"] = parent_id
        share = _intersection(box, parent) / (box[2] * box[3])
        if share < MIN_SHARE_IN_PARENT:
            report(
                "kept",
                "outside-parent",
                f"only {share:.0%} of its box {box} lies in its {parent_key} {parent}",
            )
    if mask_box is not None:
        overlap = _intersection(box, mask_box)
        union = box[2] * box[3] + mask_box[2] * mask_box[3] - overlap
        if overlap < MIN_BOX_MASK_IOU * union:
            report(
                "kept",
                "box-mask-mismatch",
                f"its {box_key} {box} and the box of its polygons "
                f"{[round(v, 1) for v in mask_box]} (x, y, width, height) overlap by an IoU of "
                f"{overlap / union:.2f}",
            )
    return result


def _read_box(raw: dict, key: str, height: int, width: int, report: Report) -> list[float] | None:
    """Box under ``key`` as [x, y, width, height], or None if it is missing or unusable."""
    value = raw.get(key)
    if value is None:
        report("fatal", "malformed-box", "it has neither bbox nor damage_bbox")
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        report("fatal", "malformed-box", f"{key} is {brief(value)}, not four numbers")
        return None
    if not all(map(_is_reasonable, value)):
        report("fatal", "non-finite-box", f"{key} is {brief(value)}: NaN, infinite or huge")
        return None
    x, y, w, h = value
    if w < 0 or h < 0:
        report("fatal", "negative-box", f"{key} {value} has a negative width or height")
        return None
    if w < SMALLEST or h < SMALLEST:
        report("dropped", "empty-box", f"{key} {value} has no width or height")
        return None
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        report(
            "dropped", "box-outside", f"{key} {value} lies outside of the {width}x{height} image"
        )
        return None
    excess = max(-x, -y, x + w - width, y + h - height)
    if excess > TOLERANCE:
        report(
            "kept",
            "box-beyond-frame",
            f"{key} {value} reaches {excess:.1f} pixels out of the {width}x{height} image",
        )
    return [float(v) for v in value]


def _read_mask(
    value: object, height: int, width: int, report: Report
) -> tuple[list[list[float]] | dict | None, float, list[float] | None] | None:
    """Segmentation (None: there is none), its area and, of polygons, the box; None: unusable."""
    if value is None or value == []:
        return None, 0.0, None
    if isinstance(value, dict):
        try:
            rle, area = checked_rle(value, height, width)
        except ValueError as error:
            report("fatal", "malformed-rle", f"its run-length mask is unusable: {error}")
            return None
        if area == 0:
            report("dropped", "empty-mask", "its run-length mask has no pixels")
            return None
        return rle, float(area), None
    if not isinstance(value, list) or not all(isinstance(p, list) for p in value):
        report(
            "fatal",
            "malformed-polygon",
            f"segmentation is {brief(value)}, not a list of polygons [x1, y1, x2, y2, …] or an RLE",
        )
        return None
    readings = [_read_polygon(p, i, height, width, report) for i, p in enumerate(value)]
    polygons = [polygon for polygon in readings if polygon is not None]
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return polygons, sum(map(_polygon_area, polygons)), box


def _read_polygon(
    value: list, index: int, height: int, width: int, report: Report
) -> list[float] | None:
    """Return a polygon if it can be rasterised, in bounded memory, to at least something."""
    name = f"polygon {index}"
    if not all(map(_is_number, value)):
        report("fatal", "malformed-polygon", f"{name} has entries that are not numbers")
        return None
    if not all(map(_is_reasonable, value)):
        bad = next(v for v in value if not _is_reasonable(v))
        report(
            "fatal", "non-finite-polygon", f"{name} contains {brief(bad)}: NaN, infinite or huge"
        )
        return None
    points = list(zip(value[0::2], value[1::2]))
    if len(value) % 2:
        report(
            "dropped", "polygon-points", f"{name} has an odd number of coordinates, {len(value)}"
        )
        return None
    if len(set(points)) < 3:
        report(
            "dropped", "polygon-points", f"{name} has {len(set(points))} different points, not 3"
        )
        return None
    xs, ys = value[0::2], value[1::2]
    if min(xs) == max(xs) or min(ys) == max(ys):
        report("dropped", "polygon-points", f"{name} has all its points on one line")
        return None
    if min(xs) >= width or min(ys) >= height or max(xs) <= 0 or max(ys) <= 0:
        report("dropped", "polygon-outside", f"{name} lies outside of the {width}x{height} image")
        return None
    length = sum(math.dist(a, b) for a, b in zip(points, points[1:] + points[:1]))
    if length > MAX_OUTLINE * (height + width):
        report(
            "fatal",
            "non-finite-polygon",
            f"{name} is {length:.0f} pixels long, more than {MAX_OUTLINE} times width plus height",
        )
        return None
    excess = max(-min(xs), -min(ys), max(xs) - width, max(ys) - height)
    if excess > TOLERANCE:
        report(
            "kept",
            "polygon-beyond-frame",
            f"{name} reaches {excess:.1f} pixels out of the {width}x{height} image",
        )
    return [float(v) for v in value]


def _read_area(raw: dict, computed: float, report: Report) -> float:
    area = raw.get("area")
    if area is None:
        return float(computed)
    if not _is_number(area) or not 0 < area <= HUGE**2:
        report("kept", "area", f"area is {brief(area)}; {computed:.1f} is taken, from its mask")
        return float(computed)
    # Exports round, and count pixels otherwise; a factor of two is another object, or another unit.
    if not computed / 2 <= area <= computed * 2 and abs(area - computed) > MIN_AREA_DIFFERENCE:
        report(
            "kept",
            "area-mismatch",
            f"area is {brief(area)}, but its mask or box covers {computed:.1f} pixels; sizes of "
            "objects are judged by area",
        )
    return float(area)


def _read_id(raw: dict, key: str, report: Report) -> int | None:
    value = raw.get(key)
    if value is not None and (type(value) is not int or abs(value) >= MAX_ID):
        report("fatal", "annotation-field", f"{key} is {brief(value)}, not an integer")
        return None
    return value


def is_box(value: object) -> bool:
    """Whether a value is a list of four numbers that a box may have."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(_is_number(v) and _is_reasonable(v) for v in value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_reasonable(value: float) -> bool:
    # Also false for NaN, and exact for integers that no float can hold.
    return -HUGE <= value <= HUGE


def _intersection(a: list[float], b: list[float]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0.0) * max(h, 0.0)


def _polygon_area(polygon: list[float]) -> float:
    xs, ys = polygon[0::2], polygon[1::2]
    twice = sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys)))
    return abs(twice) / 2
