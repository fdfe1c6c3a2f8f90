"""What a pixel of a rendered frame shows: fifteen materials, and the label tables made of them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["IGNORED", "LABEL_TABLES", "Material", "material_names"]

IGNORED = 255  # the label that neither training nor evaluation counts


class Material(IntEnum):
    """The fine labels. Where a shadow, litter or a wire is seen, the label is of what is below."""

    UNKNOWN = 0
    GROUND = 1  # lawn, leaves, mud, verges
    ROAD = 2
    PAVED = 3  # drives, paths, patios, gravel
    WATER = 4  # pools, puddles, floods
    TREE = 5  # standing trees and bushes
    FALLEN_TREE = 6
    ROOF = 7
    WALL = 8
    INSIDE = 9  # trim, rooms seen through holes
    RUBBLE = 10  # of a collapsed building
    HEAP = 11  # of boards at the kerb, which was no building
    VEHICLE = 12
    CONTAINER = 13
    FENCE = 14
    POLE = 15


BUILDING = (Material.ROOF, Material.WALL, Material.INSIDE, Material.RUBBLE)

FACE_MATERIALS = {
    "roof": Material.ROOF,
    "wall": Material.WALL,
    "trim": Material.INSIDE,
    "inside": Material.INSIDE,
    "rubble": Material.RUBBLE,
}

# What is painted on the ground, in the order in which Ground paints it. Lots are what there is
# where nothing else lies; verges, leaves and mud are ground too.
GROUND_MATERIALS = {
    "leaves": Material.GROUND,
    "mud": Material.GROUND,
    "puddle": Material.WATER,
    "verge": Material.GROUND,
    "path": Material.PAVED,
    "gravel": Material.PAVED,
    "drive": Material.PAVED,
    "road": Material.ROAD,
    "patio": Material.PAVED,
    "pool": Material.WATER,
    "fallen": Material.FALLEN_TREE,
    "rubble": Material.HEAP,
}


def material_names() -> list[str]:
    """Names by fine label, in lower case."""
    return [material.name.lower() for material in Material]


def _table(classes: dict[str, tuple[Material, ...]]) -> dict:
    lut = np.full(256, IGNORED, np.uint8)
    for number, materials in enumerate(classes.values()):
        lut[list(materials)] = number
    return {"classes": list(classes), "lut": lut.tolist()}


_M = Material
_COMMON = {
    "ground": (_M.GROUND, _M.HEAP),
    "road": (_M.ROAD, _M.PAVED),
    "vegetation": (_M.TREE, _M.FALLEN_TREE),
    "water": (_M.WATER,),
}
# Each table names its classes and maps the 256 values of a label picture to them. Vehicles,
# containers, fences and poles are ignored by all: too small or too rare to be learned.
LABEL_TABLES = {
    "damage": _table({**_COMMON, "building": BUILDING}),
    "surfaces": _table(
        {**_COMMON, "roof": (_M.ROOF,), "wall": (_M.WALL, _M.INSIDE), "rubble": (_M.RUBBLE,)}
    ),
    "flood": _table(
        {
            "dry": tuple(m for m in Material if m not in (_M.UNKNOWN, _M.WATER)),
            "water": (_M.WATER,),
        }
    ),
}
