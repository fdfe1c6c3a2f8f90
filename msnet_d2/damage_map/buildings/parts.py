"""The damaged parts of one building: observations of one part gathered, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msnet_d2.damage_map.buildings.levels import Vote, vote
from msnet_d2.damage_map.buildings.observations import Observation, PartObservation
from msnet_d2.structures.annotation_mask import annotation_mask

# Parts are one from this intersection over the smaller one on.
SAME_PART = 0.4
# A part counts if it was seen in so large a share of its building's frames.
LEAST_SHARE = 0.1
# Outlines finer than this, in pixels, say nothing.
_TOLERANCE_PX = 1.0
# A place that misses its building by more than this share of the part is wrong in its height.
_LEAST_INSIDE = 0.4


@dataclass
class Part:
    """A damaged part of a building.

    Attributes:
        vote: of its observations on its level.
        observations: each with the frame in which it was.
        best: the surest of these of the voted level.
        polygon: shapely, local metres, within the building's footprint; None without a place.
    """

    vote: Vote
    observations: list[tuple[Observation, PartObservation]]
    best: tuple[Observation, PartObservation]
    polygon: Any = None

    @property
    def level(self) -> int:
        """The level, 1 to 3."""
        return self.vote.level


# Places (N, 2) in local metres of pixels (N, 2) of a part, or None.
Placer = Callable[[Observation, PartObservation, np.ndarray], "np.ndarray | None"]


def find_parts(
    observations: Sequence[Observation], footprint: Any, placer: Placer | None
) -> list[Part]:
    """Gather the parts of one building, the worst and surest first.

    Args:
        observations: of the building.
        footprint: shapely polygon, or None.
        placer: from pixels of a observation's part to the ground; None: parts get no place.
    """
    pairs = [(s, p) for s in observations for p in s.parts]
    pairs.sort(key=lambda pair: -pair[1].score)
    least = max(2.0, LEAST_SHARE * len(observations)) if len(observations) > 2 else 1.0
    parts = []
    for members in _gather(pairs):
        frames = {(s.video, s.frame) for s, _ in members}
        if len(frames) < least:
            continue
        ballot = vote((p.level, p.score) for _, p in members)
        chosen = [m for m in members if m[1].level == ballot.level]
        # A whole view of the building beats one that the frame's edge cuts off.
        best = max(chosen, key=lambda m: (not m[0].truncated, m[1].score))
        part = Part(ballot, members, best)
        if footprint is not None and placer is not None:
            part.polygon = _place(best, footprint, placer)
        parts.append(part)
    return sorted(parts, key=lambda p: (-p.level, -p.vote.confidence))


def _gather(pairs: list[tuple[Observation, PartObservation]]) -> list[list]:
    """Groups of observations of one part each; the surest one that is left begins a group."""
    import shapely

    shapes = np.array(
        [None if p.outline is None else shapely.Polygon(p.outline) for _, p in pairs], dtype=object
    )
    shapes = shapely.make_valid(shapes)
    areas = shapely.area(shapes)
    hints = [(s.video, p.track_id) for s, p in pairs]
    left = np.ones(len(pairs), dtype=bool)
    groups = []
    for i in range(len(pairs)):
        if not left[i]:
            continue
        same = np.zeros(len(pairs), dtype=bool)
        same[i] = True
        rest = np.flatnonzero(left)
        with np.errstate(invalid="ignore", divide="ignore"):
            common = shapely.area(shapely.intersection(shapes[i], shapes[rest]))
            same[rest] |= np.nan_to_num(common / np.fmin(areas[i], areas[rest])) >= SAME_PART
        if pairs[i][1].track_id is not None:
            same[rest] |= [hints[k] == hints[i] for k in rest]
        if shapes[i] is None:
            # Without places there is no telling parts of one level apart.
            same[rest] |= [
                shapes[k] is None and pairs[k][1].level == pairs[i][1].level for k in rest
            ]
        same &= left
        left &= ~same
        groups.append([pairs[k] for k in np.flatnonzero(same)])
    return groups


def outlines_px(part: PartObservation, size: tuple[float, float]) -> list[np.ndarray]:
    """Outlines (K, 2) of a part in pixels, from its mask, or its box where there is none."""
    import cv2

    x0, y0, x1, y1 = part.box
    box = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
    if not part.segmentation:
        return box
    if not isinstance(part.segmentation, dict):
        polygons = [np.asarray(p, dtype=float).reshape(-1, 2) for p in part.segmentation]
        return [p for p in polygons if len(p) > 2] or box
    crop = annotation_mask(part.segmentation, (1.0, 1.0), (int(size[1]), int(size[0])))
    if crop is None:
        return box
    mask = np.ascontiguousarray(crop.mask, dtype=np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, _TOLERANCE_PX, True)[:, 0].astype(float)
        if len(points) > 2:
            found.append(points + 0.5 + (crop.x, crop.y))
    return found or box


def _place(best: tuple[Observation, PartObservation], footprint: Any, placer: Placer) -> Any:
    """The part's polygon within the footprint; None where it has no place."""
    import shapely

    observation, part = best
    outlines = outlines_px(part, observation.size)
    places = placer(observation, part, np.concatenate(outlines))
    if places is None:
        return None
    pieces = np.split(places, np.cumsum([len(o) for o in outlines])[:-1])
    shape = shapely.unary_union([shapely.make_valid(shapely.Polygon(p)) for p in pieces])
    inside = areas_only(shape.intersection(footprint))
    if inside.area >= _LEAST_INSIDE * shape.area:
        return inside if inside.area > 0 else None
    # A wall's foot or a high ridge lands outside: keep its place within the building's box instead.
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
