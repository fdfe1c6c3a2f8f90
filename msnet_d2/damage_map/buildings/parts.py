"""The damaged parts of one building: observations of one part gathered, each with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from msnet_d2.damage_map.buildings.levels import Vote
from msnet_d2.damage_map.buildings.observations import (
    Observation,
    PartObservation,
    PlacedObservation,
)
from msnet_d2.damage_map.buildings.placement import place_part
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.structures.annotation_mask import annotation_mask

# Least intersection over the smaller one of two observations of one part.
SAME_PART_OVERLAP = 0.4
# Least fraction of its building's frames that a part is seen in.
MIN_FRAMES_RATIO = 0.1
# Tolerance in pixels to which outlines are simplified, more where they have still more points than
# the next constant: the time that shapely takes grows with their square.
_TOLERANCE_PX = 1.0
_MAX_POINTS = 400
# Least fraction of a part's outline that lies in its building's footprint; else the height that was
# assumed for the part was wrong.
_MIN_INSIDE = 0.4


class SeenPart(NamedTuple):
    """A part in a frame.

    Attributes:
        observation: of its building.
        part: the part.
        outline: (4, 2) of its box on the ground; None where it has no place.
    """

    observation: Observation
    part: PartObservation
    outline: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Part:
    """A damaged part of a building.

    Attributes:
        vote: of its observations on its level.
        seen: its observations, the one with the highest score first.
        best: to show it: of the voted level, not truncated if there is such, of the highest score.
        polygon: shapely, metres east and north, within the building's footprint; None without a
            place.
    """

    vote: Vote
    seen: tuple[SeenPart, ...]
    best: SeenPart
    polygon: Any = None

    @property
    def level(self) -> int:
        """The level, 1 to 3."""
        return self.vote.level


def find_parts(
    observations: Sequence[Observation], footprint: Any = None, enu: EnuFrame | None = None
) -> list[Part]:
    """Gather the parts of one building, those of the worst level and highest confidence first.

    Args:
        observations: of the building.
        footprint: shapely polygon; None: parts get no place.
        enu: plane of the footprint; None: parts get no place.
    """
    seen = [s for o in observations for s in _seen_parts(o)]
    seen.sort(key=lambda s: -s.part.score)
    least = max(2.0, MIN_FRAMES_RATIO * len(observations)) if len(observations) > 2 else 1.0
    parts = []
    for members in _gather(seen):
        if len({s.observation.order for s in members}) < least:
            continue
        vote = Vote.of((s.part.level, s.part.score) for s in members)
        chosen = [s for s in members if s.part.level == vote.level]
        best = max(chosen, key=lambda s: (not s.observation.truncated, s.part.score))
        polygon = None
        if footprint is not None and enu is not None:
            polygon = _place(best, footprint, enu)
        parts.append(Part(vote, tuple(members), best, polygon))
    return sorted(parts, key=lambda p: (-p.level, -p.vote.confidence))


def _seen_parts(observation: Observation) -> list[SeenPart]:
    outlines: Sequence[np.ndarray | None] = (None,) * len(observation.parts)
    if isinstance(observation, PlacedObservation):
        outlines = observation.part_outlines
    return [SeenPart(observation, p, o) for p, o in zip(observation.parts, outlines, strict=True)]


def _gather(seen: Sequence[SeenPart]) -> list[list[SeenPart]]:
    """Groups of observations of one part each; the first one that is left begins a group."""
    import shapely

    shapes = np.array(
        [None if s.outline is None else shapely.Polygon(s.outline) for s in seen], dtype=object
    )
    shapes = shapely.make_valid(shapes)
    areas = shapely.area(shapes)
    track_ids = [(s.observation.video, s.part.track_id) for s in seen]
    left = np.ones(len(seen), dtype=bool)
    groups = []
    for i in range(len(seen)):
        if not left[i]:
            continue
        same = np.zeros(len(seen), dtype=bool)
        same[i] = True
        rest = np.flatnonzero(left)
        with np.errstate(invalid="ignore", divide="ignore"):
            common = shapely.area(shapely.intersection(shapes[i], shapes[rest]))
            overlap = np.nan_to_num(common / np.fmin(areas[i], areas[rest]))
            same[rest] |= overlap >= SAME_PART_OVERLAP
        if seen[i].part.track_id is not None:
            same[rest] |= [track_ids[k] == track_ids[i] for k in rest]
        if shapes[i] is None:
            # Without places there is no telling parts of one level apart.
            same[rest] |= [
                shapes[k] is None and seen[k].part.level == seen[i].part.level for k in rest
            ]
        same &= left
        left &= ~same
        groups.append([seen[k] for k in np.flatnonzero(same)])
    return groups


def outlines_px(part: PartObservation, size: tuple[float, float]) -> list[np.ndarray]:
    """Outlines (K, 2) of a part in pixels, from its mask, or its box where there is none.

    The largest ones, of 400 points together at most. Polygons are filled first, so that no outline
    crosses itself.
    """
    import cv2

    x0, y0, x1, y1 = part.box
    box = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
    if not part.segmentation:
        return box
    crop = annotation_mask(part.segmentation, (1.0, 1.0), (int(size[1]), int(size[0])))
    if crop is None:
        return box
    mask = np.ascontiguousarray(crop.mask, dtype=np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found, room = [], _MAX_POINTS
    for contour in sorted(contours, key=cv2.contourArea, reverse=True):
        tolerance, points = _TOLERANCE_PX, cv2.approxPolyDP(contour, _TOLERANCE_PX, True)
        while len(points) > _MAX_POINTS:
            tolerance *= 2
            points = cv2.approxPolyDP(contour, tolerance, True)
        room -= len(points)
        if room < 0:
            break
        if len(points) > 2:
            found.append(points[:, 0].astype(float) + 0.5 + (crop.x, crop.y))
    return found or box


def _place(best: SeenPart, footprint: Any, enu: EnuFrame) -> Any:
    """The part's polygon within the footprint; None where it has no place."""
    import shapely

    observation, part, _ = best
    if not isinstance(observation, PlacedObservation):
        return None
    outlines = outlines_px(part, observation.size)
    places = place_part(observation, part, np.concatenate(outlines), enu)
    if places is None:
        return None
    pieces = np.split(places, np.cumsum([len(o) for o in outlines])[:-1])
    shape = shapely.unary_union([shapely.make_valid(shapely.Polygon(p)) for p in pieces])
    inside = areas_only(shape.intersection(footprint))
    if inside.area >= _MIN_INSIDE * shape.area:
        return inside if inside.area > 0 else None
    # A wall's foot or a high ridge lands outside: its place within the building's box is kept.
    x0, y0, x1, y1 = observation.box
    corners = observation.outline
    moved = []
    for outline in outlines:
        u = np.clip((outline[:, 0] - x0) / max(x1 - x0, 1e-6), 0, 1)[:, None]
        v = np.clip((y1 - outline[:, 1]) / max(y1 - y0, 1e-6), 0, 1)[:, None]
        near = corners[0] * (1 - u) + corners[1] * u
        far = corners[3] * (1 - u) + corners[2] * u
        moved.append(shapely.make_valid(shapely.Polygon(near * (1 - v) + far * v)))
    inside = areas_only(shapely.unary_union(moved).intersection(footprint))
    return inside if inside.area > 0 else None


def areas_only(shape: Any) -> Any:
    """The polygons of a geometry, without the lines and points that cutting may leave."""
    import shapely

    pieces = [g for g in shapely.get_parts(shape) if g.geom_type == "Polygon"]
    return pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
