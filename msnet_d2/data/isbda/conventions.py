"""What exports of other tools mean otherwise than COCO: boxes, coordinates, roots, buildings.

A data set is looked at as a whole here: what one annotation leaves open, thousands settle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msnet_d2.data.isbda.categories import read_categories
from msnet_d2.data.isbda.issues import ValidationReport
from msnet_d2.utils.text import brief

__all__ = ["ReadOptions", "box_format", "parents_from_category", "without_root_categories"]

# Names of a category that is taken for the buildings of the others where no house_bbox is given.
_BUILDINGS = ("building", "buildings", "house", "houses")
# A part lies in a building if this share of its box does.
_MIN_SHARE = 0.5
# Boxes that settle a format, and the share of them that must reach out of their images; fewer may
# look like it by chance.
_ENOUGH, _ENOUGH_IN_UNITS = 5, 3
_SHARE_BEYOND = 0.2


@dataclass(frozen=True)
class ReadOptions:
    """How a JSON is read where exports differ.

    Attributes:
        crowd_as_objects: whether annotations with ``iscrowd`` 1 are objects as any other. CVAT
            writes masks that were drawn with a brush as crowds.
        parent_category: name of the category whose boxes are the buildings of the other
            annotations, where these have no ``house_bbox``; "auto": a category called building or
            house; "": none.
    """

    crowd_as_objects: bool = False
    parent_category: str = "auto"


def box_format(
    boxes: Iterable[tuple[Sequence[float], tuple[int, int]]],
) -> str | None:
    """What is wrong with the form of boxes that should be x, y, width, height in pixels.

    Args:
        boxes: four numbers each, with (height, width) of its image.

    Returns:
        The reason, to be read after the name of the file; None: nothing.
    """
    count = beyond = 0
    ordered = unit = True
    for (x, y, third, fourth), (height, width) in boxes:
        count += 1
        unit = unit and min(x, y) >= 0 and 0 < third <= 1 and 0 < fourth <= 1 and max(x, y) <= 1
        ordered = ordered and x < third <= width + 1 and y < fourth <= height + 1
        beyond += x + third > width + 1 or y + fourth > height + 1
        if not (unit or ordered):
            return None
    if unit and count >= _ENOUGH_IN_UNITS:
        return (
            f"has {count} boxes with all coordinates from 0 to 1; COCO's are in pixels: multiply "
            "by the width and height of the image"
        )
    # Widths and heights that are all larger than x and y are hardly any, and these boxes leave the
    # images besides.
    if count >= _ENOUGH and beyond >= _SHARE_BEYOND * count:
        return (
            f"has {count} boxes that look like x1, y1, x2, y2 ({beyond} would reach out of their "
            "images as x, y, width, height, which COCO's are); convert them"
        )
    return None


def without_root_categories(categories: object, annotations: Iterable[object]) -> tuple:
    """Categories without the unused roots that Roboflow writes: the project, above all classes.

    Args:
        categories, annotations: as the JSON has them, of any type.

    Returns:
        The categories and the names of those left out.
    """
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        return categories, []
    used = {
        a["category_id"]
        for a in annotations
        if isinstance(a, dict) and type(a.get("category_id")) is int
    }
    above = {c["supercategory"] for c in categories if isinstance(c.get("supercategory"), str)}
    above -= {"none", ""}
    kept, dropped = [], []
    for category in categories:
        name, identity = category.get("name"), category.get("id")
        is_root = (
            isinstance(name, str)
            and name in above
            and category.get("supercategory") in ("none", "", None)
            and not (type(identity) is int and identity in used)
        )
        (dropped if is_root else kept).append(category)
    return (kept, [c["name"] for c in dropped]) if kept else (categories, [])


def parents_from_category(
    sound: list[tuple[int, dict]], found: ValidationReport, name: str
) -> list[tuple[int, dict]]:
    """Annotations with the buildings of one category as ``parent_bbox`` of the others.

    Args:
        sound: image id and annotation of all that can be used.
        found: its ``categories`` lose the category of buildings.
        name: see :attr:`ReadOptions.parent_category`.
    """
    classes = found.categories.thing_classes
    wanted = _BUILDINGS if name == "auto" else (name.strip().lower(),)
    number = next((i for i, c in enumerate(classes) if name and c.strip().lower() in wanted), None)
    if number is None and name not in ("", "auto"):
        found.report(
            "fatal",
            "parent-category",
            f"no category is called {brief(name)} (DATASETS.PARENT_CATEGORY); there are: "
            f"{', '.join(classes)}",
        )
    if number is None or len(classes) < 2 or any("parent_bbox" in a for _, a in sound):
        return sound
    ids = {n: i for i, n in found.categories.id_to_contiguous.items()}
    rest = read_categories(
        [{"id": ids[n], "name": c} for n, c in enumerate(classes) if n != number],
        lambda kind, message: found.report("fatal", kind, message),
    )
    new_number = {n: rest.id_to_contiguous.get(i) for n, i in ids.items()}
    buildings = defaultdict(list)
    for image_id, annotation in sound:
        if annotation["category_id"] == number:
            buildings[image_id].append(annotation["bbox"])
    parts, alone = [], 0
    for image_id, annotation in sound:
        if annotation["category_id"] == number:
            continue
        parent = _best(annotation["bbox"], buildings[image_id])
        alone += parent is None
        annotation["parent_bbox"] = list(parent or annotation["bbox"])
        annotation["parent_id"] = None
        annotation["category_id"] = new_number[annotation["category_id"]]
        parts.append((image_id, annotation))
    found.report(
        "kept",
        "parents-of-category",
        f"the {sum(map(len, buildings.values()))} annotations of {classes[number]!r} are the "
        f"buildings of the other {len(parts)}, {alone} of which lie in none and stand for "
        "themselves; set DATASETS.PARENT_CATEGORY '' to keep it as a class",
    )
    found.categories = rest
    return parts


def _best(box: list[float], buildings: list[list[float]]) -> list[float] | None:
    """The building that holds most of a part, the smaller of equals; None: none holds half."""
    shares = [(_share(box, b), -b[2] * b[3], b) for b in buildings]
    best = max(shares, default=(0.0, 0.0, None))
    return best[2] if best[0] >= _MIN_SHARE else None


def _share(box: list[float], building: list[float]) -> float:
    width = min(box[0] + box[2], building[0] + building[2]) - max(box[0], building[0])
    height = min(box[1] + box[3], building[1] + building[3]) - max(box[1], building[1])
    return max(width, 0.0) * max(height, 0.0) / (box[2] * box[3])
