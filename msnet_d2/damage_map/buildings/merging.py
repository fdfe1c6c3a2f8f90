"""Joining tracks that are one building: over a flight, its revisits, and several videos.

Counting a roof twice is the error that matters, so whatever overlaps well is joined, unless both
were seen side by side in the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msnet_d2.damage_map.buildings.association import Track
from msnet_d2.damage_map.buildings.footprints import Footprint, footprint
from msnet_d2.damage_map.buildings.observations import MapVideo

# Least overlap (mean of IoU and intersection over the smaller one) of two footprints that are one
# building.
MIN_OVERLAP = 0.35
# The same for covisible footprints: their places share the errors of the frame, so that
# neighbors hardly overlap, and only a building that was found twice does.
MIN_OVERLAP_COVISIBLE = 0.5
# Covisible footprints are also one from this intersection over the smaller one on: a detector takes
# a wing or a roof for a building of its own.
MIN_INSIDE_COVISIBLE = 0.6
# Two groups are covisible if they share more than this fraction of the frames of the one that has
# fewer.
COVISIBLE_FRAMES = 0.1
# A truncated footprint is misplaced by up to this many metres: its foot or top is not seen.
TRUNCATED_SLACK_M = 4.0
# Footprints of two passes are moved towards each other by up to this fraction of the smaller side.
SLACK_RATIO = 0.3
# Tracks of a video that are apart by at most this many seconds share the errors of the log.
SAME_PASS_S = 5.0


@dataclass(frozen=True, eq=False)
class Group:
    """Tracks that are taken for one building.

    Attributes:
        tracks: each with a place.
        footprint: of all of them.
        frames: indices of the frames of each video that show it.
    """

    tracks: tuple[Track, ...]
    footprint: Footprint
    frames: dict[MapVideo, set[int]]

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> Group:
        """Make a group of tracks that each have a place."""
        frames: dict[MapVideo, set[int]] = {}
        for track in tracks:
            frames.setdefault(track.video, set()).update(o.frame for o in track.observations)
        return cls(tuple(tracks), footprint([o for t in tracks for o in t.placed]), frames)

    @property
    def size(self) -> float:
        """Shorter side of a square as large as the footprint, in metres."""
        return float(np.sqrt(max(self.footprint.polygon.area, 1e-6)))

    def times(self, video: MapVideo) -> list[tuple[float, float]]:
        """First and last time of each track in ``video``."""
        return [t.span_s for t in self.tracks if t.video is video]


def merge(tracks: Sequence[Track]) -> list[Group]:
    """Join tracks, the best overlap first, until none is left to join.

    Args:
        tracks: of all videos, each with at least one observation that has a place.
    """
    import shapely

    groups = [Group.of([t]) for t in tracks]
    while True:
        shapes = [g.footprint.polygon.buffer(SLACK_RATIO * g.size) for g in groups]
        tree = shapely.STRtree(shapes)
        pairs = tree.query(shapes, predicate="intersects").T
        rated = []
        for i, j in pairs:
            if i < j:
                overlap = joinable(groups[i], groups[j])
                if overlap > 0:
                    rated.append((overlap, int(i), int(j)))
        if not rated:
            return groups
        taken: set[int] = set()
        joined = []
        for _, i, j in sorted(rated, key=lambda r: (-r[0], r[1], r[2])):
            if not {i, j} & taken:
                taken |= {i, j}
                joined.append(Group.of(groups[i].tracks + groups[j].tracks))
        groups = [g for k, g in enumerate(groups) if k not in taken] + joined


def joinable(a: Group, b: Group) -> float:
    """Overlap of two groups if it is enough to make them one building, else 0."""
    shared = sum(len(frames & b.frames.get(v, set())) for v, frames in a.frames.items())
    fewer = min(sum(map(len, g.frames.values())) for g in (a, b))
    covisible = shared > COVISIBLE_FRAMES * fewer
    slack = 0.0 if covisible or _same_pass(a, b) else _slack(a, b)
    if not covisible and (a.footprint.truncated or b.footprint.truncated):
        slack = max(slack, TRUNCATED_SLACK_M)
    overlap, inside = _overlap(a, b, slack)
    least = MIN_OVERLAP_COVISIBLE if covisible else MIN_OVERLAP
    enough = overlap >= least or (covisible and inside >= MIN_INSIDE_COVISIBLE)
    return overlap if enough else 0.0


def _slack(a: Group, b: Group) -> float:
    errors = np.hypot(a.footprint.ce90_m, b.footprint.ce90_m)
    return float(min(errors, SLACK_RATIO * min(a.size, b.size)))


def _same_pass(a: Group, b: Group) -> bool:
    """Whether tracks of both follow on each other, with the same errors of the log."""
    return any(
        start_a - SAME_PASS_S <= end_b and start_b - SAME_PASS_S <= end_a
        for video in a.frames.keys() & b.frames.keys()
        for start_a, end_a in a.times(video)
        for start_b, end_b in b.times(video)
    )


def _overlap(a: Group, b: Group, slack: float) -> tuple[float, float]:
    """Mean of IoU and intersection over the smaller, and the latter alone; ``b`` is moved towards
    ``a`` by ``slack``.

    A piece that the frame's edge has cut off need not be of the building's size: there both are the
    intersection over the smaller.
    """
    import shapely.affinity

    between = a.footprint.center - b.footprint.center
    distance = float(np.hypot(*between))
    polygon = b.footprint.polygon
    if slack > 0 and distance > 0:
        step = between * min(1.0, slack / distance)
        polygon = shapely.affinity.translate(polygon, *step)
    common = a.footprint.polygon.intersection(polygon).area
    if common <= 0:
        return 0.0, 0.0
    first, second = a.footprint.polygon.area, polygon.area
    inside = common / min(first, second)
    if a.footprint.truncated or b.footprint.truncated:
        return inside, inside
    return (common / (first + second - common) + inside) / 2, inside
