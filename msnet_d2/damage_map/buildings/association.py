"""Linking observations of one video over its frames: a track is one building in one pass.

Observations with a place are linked on the ground, however the camera moves. Those without one are
linked in the picture, by overlap with the box that is expected there. The detector's ``track_id``
and the level help to choose between candidates. A building that leaves the picture and comes back
gives two tracks, which :mod:`msnet_d2.damage_map.buildings.assessment` joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from msnet_d2.damage_map.buildings.observations import (
    MapVideo,
    Observation,
    PlacedObservation,
    box_iou,
)

# Seconds without an observation after which a track has ended.
MAX_GAP_S = 2.0
# Least overlap on the ground (mean of IoU and intersection over the smaller one).
MIN_GROUND_OVERLAP = 0.3
# Least IoU in the picture.
MIN_IMAGE_IOU = 0.15
# Up to this many seconds after the last observation the picture is asked too: it also holds where
# the frame's edge truncates a building.
IMAGE_LINK_S = 0.5
# Both are compared with overlaps of 0 to 1: added for a shared track_id, taken off for another
# level. A shared track_id also divides the least overlaps by three.
TRACK_ID_BONUS = 0.5
LEVEL_PENALTY = 0.1
# The speed of a box is taken over this many observations: a single step is mostly the detector's
# noise.
SPEED_STEPS = 3


@dataclass(frozen=True, eq=False)
class Track:
    """Observations of one building, in order of time, all of one video; at least one."""

    observations: tuple[Observation, ...]

    @property
    def video(self) -> MapVideo:
        """In which all were made."""
        return self.observations[0].video

    @property
    def span_s(self) -> tuple[float, float]:
        """Times of the first and the last observation."""
        return self.observations[0].time_s, self.observations[-1].time_s

    @property
    def placed(self) -> list[PlacedObservation]:
        """Observations with a place on the ground."""
        return [o for o in self.observations if isinstance(o, PlacedObservation)]


def link(observations: Sequence[Observation]) -> list[Track]:
    """Link the observations of one video, in order of frames, to tracks.

    In each frame every track gets at most one observation and every observation one track. The
    assignment with the largest sum of overlaps is taken.
    """
    from scipy.optimize import linear_sum_assignment

    tracks: list[list[Observation]] = []
    live: list[list[Observation]] = []
    for _, group in groupby(observations, key=lambda o: o.frame):
        seen = list(group)
        now = seen[0].time_s
        live = [t for t in live if now - t[-1].time_s <= MAX_GAP_S]
        gain = _gains(live, seen)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        taken = set()
        for row, column in zip(rows, columns):
            if gain[row, column] > 0:
                live[row].append(seen[column])
                taken.add(column)
        fresh = [[o] for column, o in enumerate(seen) if column not in taken]
        tracks += fresh
        live += fresh
    return [Track(tuple(t)) for t in tracks]


def expected_box(track: Sequence[Observation], time_s: float) -> np.ndarray:
    """Where the box (4,) of a track is at ``time_s`` if it goes on as it did."""
    last = track[-1]
    if len(track) < 2:
        return last.box
    before = track[max(0, len(track) - 1 - SPEED_STEPS)]
    step = last.time_s - before.time_s
    if step <= 0:
        return last.box
    shift = (last.box[:2] + last.box[2:] - before.box[:2] - before.box[2:]) / 2 / step
    return last.box + np.tile(shift, 2) * (time_s - last.time_s)


def _gains(tracks: Sequence[Sequence[Observation]], seen: Sequence[Observation]) -> np.ndarray:
    """How well each observation continues each track (T, S); 0 where it does not."""
    gain = np.zeros((len(tracks), len(seen)))
    if not gain.size:
        return gain
    on_ground = _ground_overlaps([t[-1] for t in tracks], seen)
    for i, track in enumerate(tracks):
        for j, observation in enumerate(seen):
            same_id = bool(track[-1].track_ids & observation.track_ids)
            ease = 1 / 3 if same_id else 1
            overlap = on_ground[i, j]
            enough = overlap >= MIN_GROUND_OVERLAP * ease
            if np.isnan(overlap) or observation.time_s - track[-1].time_s <= IMAGE_LINK_S:
                in_image = box_iou(expected_box(track, observation.time_s), observation.box)
                # A shared track_id stands in for overlap, but never where there is none at all.
                enough |= in_image >= MIN_IMAGE_IOU * ease
                overlap = np.fmax(overlap, in_image)
            if not enough:
                continue
            same_level = track[-1].worst.level == observation.worst.level
            gain[i, j] = overlap + TRACK_ID_BONUS * same_id - LEVEL_PENALTY * (not same_level)
    return np.maximum(gain, 0.0)


def _ground_overlaps(last: Sequence[Observation], seen: Sequence[Observation]) -> np.ndarray:
    """Overlap (T, S) of outlines on the ground; NaN where one has none.

    The mean of IoU and intersection over the smaller one: a truncated building overlaps with its
    whole self, and of two candidates the one of equal size is taken.
    """
    import shapely

    def outlines(items: Sequence[Observation]) -> np.ndarray:
        return np.array(
            [
                shapely.Polygon(o.outline) if isinstance(o, PlacedObservation) else None
                for o in items
            ],
            dtype=object,
        )

    a, b = outlines(last)[:, None], outlines(seen)[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = shapely.make_valid(a), shapely.make_valid(b)
        common = shapely.area(shapely.intersection(a, b))
        smaller = np.fmin(shapely.area(a), shapely.area(b))
        union = shapely.area(a) + shapely.area(b) - common
        return (common / smaller + common / union) / 2
