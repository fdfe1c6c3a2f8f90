"""Linking observations of one video over its frames: a track is one building in one pass.

Observations with a place are linked on the ground, however the camera moves. Those without one are
linked in the picture, by overlap with the box that is expected there. The detector's ``track_id``
and the level help to choose between candidates. A building that leaves the picture and comes back
gives two tracks, which :mod:`msnet_d2.damage_map.buildings.assessment` joins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from msnet_d2.damage_map.buildings.observations import Observation, box_iou

# After so long without a observation a track has ended.
MAX_GAP_S = 2.0
# The least overlap (intersection over the smaller one) on the ground, and IoU in the picture.
LEAST_ON_GROUND = 0.3
LEAST_IN_PICTURE = 0.15
# So soon after the last observation the picture speaks too, also where the frame's edge cuts off.
SOON_S = 0.5
# What a shared hint adds to an overlap of 0 to 1, and another level takes away.
HINT_BONUS = 0.5
LEVEL_MALUS = 0.1


@dataclass
class Track:
    """Observations of one building, in order of time, all of one video."""

    observations: list[Observation] = field(default_factory=list)

    @property
    def last(self) -> Observation:
        """The latest observation."""
        return self.observations[-1]

    @property
    def placed(self) -> list[Observation]:
        """Observations with a place on the ground and a direction of view."""
        return [s for s in self.observations if s.outline is not None and s.view is not None]

    def expected_box(self, time_s: float) -> np.ndarray:
        """Where the box is at ``time_s`` if it goes on as it did."""
        last = self.last
        if len(self.observations) < 2:
            return last.box
        # Over a few frames: the step of a single one is mostly the detector's unrest.
        before = self.observations[max(0, len(self.observations) - 4)]
        step = last.time_s - before.time_s
        if step <= 0:
            return last.box
        shift = (last.box[:2] + last.box[2:] - before.box[:2] - before.box[2:]) / 2 / step
        return last.box + np.tile(shift, 2) * (time_s - last.time_s)


def link(observations: list[Observation]) -> list[Track]:
    """Link the observations of one video, in order of frames, to tracks.

    In each frame every track gets at most one observation and every observation one track. The
    assignment with the largest sum of overlaps is taken.
    """
    from scipy.optimize import linear_sum_assignment

    tracks: list[Track] = []
    live: list[Track] = []
    for _, group in groupby(observations, key=lambda s: s.frame):
        seen = list(group)
        now = seen[0].time_s
        live = [t for t in live if now - t.last.time_s <= MAX_GAP_S]
        gain = _gains(live, seen)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        taken = set()
        for row, column in zip(rows, columns):
            if gain[row, column] > 0:
                live[row].observations.append(seen[column])
                taken.add(column)
        for column, observation in enumerate(seen):
            if column not in taken:
                track = Track([observation])
                tracks.append(track)
                live.append(track)
    return tracks


def _gains(tracks: list[Track], seen: list[Observation]) -> np.ndarray:
    """How well each observation continues each track (T, S); 0 where it does not."""
    gain = np.zeros((len(tracks), len(seen)))
    if not gain.size:
        return gain
    on_ground = _ground_overlaps([t.last for t in tracks], seen)
    for i, track in enumerate(tracks):
        for j, observation in enumerate(seen):
            hint = bool(track.last.track_ids & observation.track_ids)
            overlap = on_ground[i, j]
            enough = overlap >= LEAST_ON_GROUND * (1 / 3 if hint else 1)
            if np.isnan(overlap) or observation.time_s - track.last.time_s <= SOON_S:
                seen_overlap = box_iou(track.expected_box(observation.time_s), observation.box)
                # A hint stands in for overlap, but never where there is none at all.
                enough |= seen_overlap >= LEAST_IN_PICTURE * (1 / 3 if hint else 1)
                overlap = np.fmax(overlap, seen_overlap)
            if not enough:
                continue
            same = track.last.worst.level == observation.worst.level
            gain[i, j] = overlap + HINT_BONUS * hint - (0.0 if same else LEVEL_MALUS)
    return np.maximum(gain, 0.0)


def _ground_overlaps(last: list[Observation], seen: list[Observation]) -> np.ndarray:
    """Overlap (T, S) of outlines on the ground; NaN where one has none.

    The mean of IoU and intersection over the smaller one: a building cut off by the frame's edge
    overlaps with itself, and of two candidates the one of equal size is taken.
    """
    import shapely

    def outlines(items: list[Observation]) -> np.ndarray:
        return np.array(
            [
                None if s.outline is None or s.view is None else shapely.Polygon(s.outline)
                for s in items
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
