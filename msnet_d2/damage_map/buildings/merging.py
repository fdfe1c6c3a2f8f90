"""Joining tracks that are one building: over a flight, its revisits, and several videos.

Counting a roof twice is the error that matters, so whatever overlaps well is joined, unless both
were seen side by side in the same frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msnet_d2.damage_map.buildings.association import Track
from msnet_d2.damage_map.buildings.footprints import Footprint, footprint

# Footprints are one building from this mean of IoU and intersection over the smaller one on…
LEAST_OVERLAP = 0.35
# … or, if both were seen in the same frames, from this on: a building found twice there. Places of
# one frame share their errors, so that neighbours hardly overlap, and so does what lies within
# another: a detector takes a wing or a roof for a building of its own.
LEAST_OVERLAP_COVISIBLE = 0.5
LEAST_WITHIN_COVISIBLE = 0.6
# So large a share of the shorter track's frames may be shared without being seen side by side.
SHARED_FRAMES = 0.1
# What the frame's edge cuts off is misplaced by up to so many metres: its foot or top is not seen.
TRUNCATED_SLACK_M = 4.0
# Places of two passes may be shifted against each other by so much of a building's size.
SLACK_SHARE = 0.3
# Within this time two tracks of a video share the errors of the log.
SAME_PASS_S = 5.0


@dataclass
class Group:
    """Tracks that are taken for one building."""

    tracks: list[Track]
    footprint: Footprint
    frames: dict[int, set[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, tracks: list[Track]) -> Group:
        """Make a group; each track has a place."""
        frames: dict[int, set[int]] = {}
        for track in tracks:
            for s in track.observations:
                frames.setdefault(s.video, set()).add(s.frame)
        return cls(tracks, footprint([s for t in tracks for s in t.placed]), frames)

    @property
    def size(self) -> float:
        """Shorter side of a square as large as the footprint, in metres."""
        return float(np.sqrt(max(self.footprint.polygon.area, 1e-6)))

    def times(self, video: int) -> list[tuple[float, float]]:
        """First and last time of each track in ``video``."""
        return [
            (t.observations[0].time_s, t.last.time_s)
            for t in self.tracks
            if t.observations[0].video == video
        ]


def merge(tracks: list[Track]) -> list[Group]:
    """Join tracks, the best overlap first, until none is left to join.

    Args:
        tracks: of all videos, each with at least one observation that has outline and view.
    """
    import shapely

    groups = [Group.of([t]) for t in tracks]
    while True:
        shapes = [g.footprint.polygon.buffer(SLACK_SHARE * g.size) for g in groups]
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
    covisible = shared > SHARED_FRAMES * fewer
    slack = 0.0 if covisible or _same_pass(a, b) else _slack(a, b)
    if not covisible and (a.footprint.truncated or b.footprint.truncated):
        slack = max(slack, TRUNCATED_SLACK_M)
    overlap, within = _overlap(a, b, slack)
    least = LEAST_OVERLAP_COVISIBLE if covisible else LEAST_OVERLAP
    enough = overlap >= least or (covisible and within >= LEAST_WITHIN_COVISIBLE)
    return overlap if enough else 0.0


def _slack(a: Group, b: Group) -> float:
    errors = np.hypot(a.footprint.ce90_m, b.footprint.ce90_m)
    return float(min(errors, SLACK_SHARE * min(a.size, b.size)))


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

    between = a.footprint.centre - b.footprint.centre
    distance = float(np.hypot(*between))
    polygon = b.footprint.polygon
    if slack > 0 and distance > 0:
        step = between * min(1.0, slack / distance)
        polygon = shapely.affinity.translate(polygon, *step)
    common = a.footprint.polygon.intersection(polygon).area
    if common <= 0:
        return 0.0, 0.0
    first, second = a.footprint.polygon.area, polygon.area
    within = common / min(first, second)
    if a.footprint.truncated or b.footprint.truncated:
        return within, within
    return (common / (first + second - common) + within) / 2, within
