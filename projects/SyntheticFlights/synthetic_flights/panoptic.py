"""Panoptic segments of a frame: damaged parts, buildings, kinds of ground; none overlap."""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.labels import FEWEST_PIXELS
from synthetic_flights.materials import Material
from synthetic_flights.scene import Flight, Frame

__all__ = ["CATEGORIES", "encode_ids", "panoptic_segments"]

BUILDING = 4
BUILDING_PIXELS = 200  # of a frame 1280 wide; smaller segments are void
FIRST_THING = 1000  # segment ids of things begin here, those of stuff are its category

# Colours are RGB; levels as everywhere in this project.
CATEGORIES = [
    {"id": 1, "name": "Slight", "isthing": 1, "color": [90, 200, 90]},
    {"id": 2, "name": "Severe", "isthing": 1, "color": [255, 176, 0]},
    {"id": 3, "name": "Debris", "isthing": 1, "color": [214, 32, 39]},
    {"id": BUILDING, "name": "building", "isthing": 1, "color": [150, 150, 160]},
    {"id": 5, "name": "ground", "isthing": 0, "color": [168, 180, 130]},
    {"id": 6, "name": "road", "isthing": 0, "color": [100, 100, 110]},
    {"id": 7, "name": "vegetation", "isthing": 0, "color": [50, 110, 60]},
    {"id": 8, "name": "water", "isthing": 0, "color": [150, 120, 90]},
]
_STUFF = {
    5: (Material.GROUND, Material.HEAP),
    6: (Material.ROAD, Material.PAVED),
    7: (Material.TREE, Material.FALLEN_TREE),
    8: (Material.WATER,),
}
_STUFF_LUT = np.zeros(256, np.int32)
for _category, _materials in _STUFF.items():
    _STUFF_LUT[list(_materials)] = _category


def panoptic_segments(flight: Flight, frame: Frame) -> tuple[np.ndarray, list[dict]]:
    """Return segment ids (H, W) int32, 0 for void, and COCO's ``segments_info``.

    Void are vehicles, containers, fences and poles, and parts and buildings of which too little is
    seen. A part is no part of its building's segment, whose id stands in ``parent_id``.
    """
    ids = _STUFF_LUT[frame.truth.materials]
    unit = (frame.building_ids.shape[1] / 1280) ** 2
    open_view = frame.truth.tree_ids == 0
    things = []  # (mask's source, number there, fields)
    buildings = np.where(open_view & (frame.part_ids == 0), frame.building_ids, 0)
    segment_of = {}
    for number in _large(buildings, lambda _: BUILDING_PIXELS * unit):
        plan = flight.buildings[number - 1]
        segment_of[plan.id] = FIRST_THING + len(things)
        things.append((number, {"category_id": BUILDING, "building_id": plan.id}))
    ids = _paint(ids, buildings, things, 0)
    first_part = len(things)

    def fewest(part_index: int) -> float:
        return max(FEWEST_PIXELS[flight.parts[part_index][1].level] * unit, 12)

    for part_index in _large(frame.part_ids, fewest):
        plan, part = flight.parts[part_index]
        fields = {"category_id": part.level, "building_id": plan.id, "part_id": part.id}
        fields["parent_id"] = segment_of.get(plan.id)
        things.append((part_index, fields))
    ids = _paint(ids, frame.part_ids, things, first_part)
    return ids, _segments_info(ids, [fields for _, fields in things])


def _large(numbers: np.ndarray, fewest) -> list[int]:
    """The values above 0 that are at enough pixels."""
    counts = np.bincount(numbers.ravel())
    return [int(n) for n in np.nonzero(counts)[0] if n and counts[n] >= fewest(int(n))]


def _paint(ids: np.ndarray, numbers: np.ndarray, things: list, first: int) -> np.ndarray:
    """Write the segments of ``things`` from ``first`` on over ``ids``; the others become void."""
    lut = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
    for k, (number, _) in enumerate(things[first:], start=first):
        lut[number] = FIRST_THING + k
    return np.where(numbers > 0, lut[numbers], ids)


def _segments_info(ids: np.ndarray, things: list[dict]) -> list[dict]:
    counts = np.bincount(ids.ravel())
    segments = []
    for segment in np.nonzero(counts)[0].tolist():
        if not segment:
            continue
        thing = segment >= FIRST_THING
        fields = things[segment - FIRST_THING] if thing else {"category_id": segment}
        box = cv2.boundingRect((ids == segment).view(np.uint8))
        segments.append(
            {
                "id": segment,
                **fields,
                "area": int(counts[segment]),
                "bbox": list(box),
                "iscrowd": 0,
            }
        )
    return segments


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Return COCO's picture (H, W, 3) uint8, BGR, of segment ids: id = R + 256 G + 65536 B."""
    return np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
