"""The damage levels of ISBDA, and how a JSON's categories become contiguous class numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msnet_d2.utils.text import brief

__all__ = ["ISBDA_CATEGORIES", "CategoryMap", "read_categories"]

# Evaluation goes through all categories for each image; LVIS has 1,203.
MAX_CATEGORIES = 2000

# Colours are RGB. Green, amber and red are told apart by their lightness too, for those who cannot
# tell the hues.
ISBDA_CATEGORIES: list[dict[str, Any]] = [
    {"id": 1, "name": "Slight", "color": [90, 200, 90]},
    {"id": 2, "name": "Severe", "color": [255, 176, 0]},
    {"id": 3, "name": "Debris", "color": [214, 32, 39]},
]
# ISBDA's own files name the levels by their numbers.
_LEVEL_OF_NAME = {
    alias: index
    for index, category in enumerate(ISBDA_CATEGORIES)
    for alias in (str(category["id"]), category["name"].lower())
}
_LEVEL_OF_ID = {category["id"]: index for index, category in enumerate(ISBDA_CATEGORIES)}


@dataclass(frozen=True)
class CategoryMap:
    """Class names and numbers of one data set.

    Attributes:
        thing_classes: names by contiguous class number.
        id_to_contiguous: class number, from 0, of each category id of the JSON.
        is_isbda: whether the classes are ISBDA's three levels.
    """

    thing_classes: list[str]
    id_to_contiguous: dict[int, int]
    is_isbda: bool

    def complete_ids(self) -> dict[int, int]:
        """:attr:`id_to_contiguous` with an id for every class, unused ones for those without.

        ISBDA's files may lack a level, but what predicts and evaluates needs an id for each.
        """
        ids = dict(self.id_to_contiguous)
        for number in sorted(set(range(len(self.thing_classes))) - set(ids.values())):
            own = ISBDA_CATEGORIES[number]["id"]
            ids[own if own not in ids else max(ids) + 1] = number
        return ids

    @property
    def thing_colors(self) -> list[list[int]] | None:
        """RGB colour of each class; None for classes other than ISBDA's."""
        return [list(c["color"]) for c in ISBDA_CATEGORIES] if self.is_isbda else None


def read_categories(raw: object, report: Callable[[str, str], None]) -> CategoryMap:
    """Map the ``categories`` of a JSON.

    Categories that are all named "1", "2", "3" or Slight, Severe, Debris (in any case and order,
    and not necessarily all three), or that have no names and ids from 1 to 3, become ISBDA's three
    levels. Any other set keeps its own names and is numbered in the order of its ids.

    Args:
        raw: what the JSON has under ``categories``.
        report: called with kind and message of each fatal issue.

    Returns:
        The map, of the sound categories alone if there are issues.
    """
    if not isinstance(raw, list) or not raw:
        report(
            "categories",
            f"the JSON needs a list of categories, got {brief(raw)}; for ISBDA: [{{'id': 1, "
            "'name': 'Slight'}, {'id': 2, 'name': 'Severe'}, {'id': 3, 'name': 'Debris'}]",
        )
        return CategoryMap([], {}, False)
    if len(raw) > MAX_CATEGORIES:
        report("categories", f"{len(raw)} categories; {MAX_CATEGORIES} are the most")
        return CategoryMap([], {}, False)
    names: dict[int, str | None] = {}
    for entry in raw:
        category_id = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if type(category_id) is not int:
            report("categories", f"category {brief(entry)} has no integer id")
        elif category_id in names:
            report("duplicate-category", f"two categories have the id {category_id}")
        elif name is not None and not isinstance(name, str):
            report("categories", f"the name of category {category_id} is not text: {brief(name)}")
        else:
            names[category_id] = name.strip() if name else None
    return _map(names, report)


def _map(names: dict[int, str | None], report: Callable[[str, str], None]) -> CategoryMap:
    levels: dict[int, int] = {}
    for category_id, name in names.items():
        level = _LEVEL_OF_NAME.get(name.lower()) if name else _LEVEL_OF_ID.get(category_id)
        if level is not None:
            levels[category_id] = level
    is_isbda = len(levels) == len(names)
    if is_isbda:
        classes = [category["name"] for category in ISBDA_CATEGORIES]
        mapping = levels
    else:
        for category_id in [i for i, name in names.items() if name is None]:
            report(
                "categories",
                f"category {category_id} has no name, and its id is none of ISBDA's 1, 2, 3 "
                "or other categories are not ISBDA's",
            )
            del names[category_id]
        ordered = sorted(names)
        classes = [str(names[i]) for i in ordered]
        mapping = {category_id: number for number, category_id in enumerate(ordered)}
    used: dict[str, int] = {}
    for category_id, number in sorted(mapping.items()):
        first = used.setdefault(classes[number], category_id)
        if first != category_id:
            report(
                "duplicate-category",
                f"categories {first} and {category_id} are both {classes[number]!r}",
            )
    return CategoryMap(classes, mapping, is_isbda)
