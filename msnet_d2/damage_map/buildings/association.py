"""Linking sightings of one video over its frames: a track is one building in one pass.

Where sightings have places they are linked on the ground, which does not mind how the camera moves;
without places in the picture, by overlap with where the box is expected. Hints of the detector
(``track_id``) and the level help to choose between candidates. A building that leaves the picture
and comes back gives two tracks, which :mod:`msnet_d2.damage_map.buildings.assessment` joins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from msnet_d2.damage_map.buildings.observations import Sighting, box_iou

# After so long without a sighting a track has ended.
MAX_GAP_S = 2.0
# The least overlap (intersection over the smaller one) on the ground, and IoU in the picture.
LEAST_ON_GROUND = 0.3
LEAST_IN_PICTURE = 0.15
# So soon after the last sighting the picture speaks too, also where the frame's edge cuts off.
SOON_S = 0.5
# What a shared hint adds to an overlap of 0 to 1, and another level takes away.
HINT_BONUS = 0.5
LEVEL_MALUS = 0.1


@dataclass
class Track:
    """Sightings of one building, in order of time, all of one video."""

    sightings: list[Sighting] = field(default_factory=list)

    @property
    def last(self) -> Sighting:
        """The latest sighting."""
        return self.sightings[-1]

    @property
    def placed(self) -> list[Sighting]:
        """Sightings with a place on the ground and a direction of view."""
        return [s for s in self.sightings if s.outline is not None and s.view is not None]

    def expected_box(self, time_s: float) -> np.ndarray:
        """Where the box is at ``time_s`` if it goes on as it did."""
        last = self.last
        if len(self.sightings) < 2:
            return last.box
        # Over a few frames: the step of a single one is mostly the detector's unrest.
        before = self.sightings[max(0, len(self.sightings) - 4)]
        step = last.time_s - before.time_s
        if step <= 0:
            return last.box
        shift = (last.box[:2] + last.box[2:] - before.box[:2] - before.box[2:]) / 2 / step
        return last.box + np.tile(shift, 2) * (time_s - last.time_s)


def link(sightings: list[Sighting]) -> list[Track]:
    """Link the sightings of one video, in order of frames, to tracks.

    In each frame every track gets at most one sighting and every sighting one track, such that the
    sum of overlaps is largest.
    """
    from scipy.optimize import linear_sum_assignment

    tracks: list[Track] = []
    live: list[Track] = []
    for _, group in groupby(sightings, key=lambda s: s.frame):
        seen = list(group)
        now = seen[0].time_s
        live = [t for t in live if now - t.last.time_s <= MAX_GAP_S]
        gain = _gains(live, seen)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        taken = set()
        for row, column in zip(rows, columns):
            if gain[row, column] > 0:
                live[row].sightings.append(seen[column])
                taken.add(column)
        for column, sighting in enumerate(seen):
            if column not in taken:
                track = Track([sighting])
                tracks.append(track)
                live.append(track)
    return tracks


def _gains(tracks: list[Track], seen: list[Sighting]) -> np.ndarray:
    """How well each sighting continues each track (T, S); 0 where it does not."""
    gain = np.zeros((len(tracks), len(seen)))
    if not gain.size:
        return gain
    on_ground = _ground_overlaps([t.last for t in tracks], seen)
    for i, track in enumerate(tracks):
        for j, sighting in enumerate(seen):
            hint = bool(track.last.track_ids & sighting.track_ids)
            overlap = on_ground[i, j]
            enough = overlap >= LEAST_ON_GROUND * (1 / 3 if hint else 1)
            if np.isnan(overlap) or sighting.time_s - track.last.time_s <= SOON_S:
                seen_overlap = box_iou(track.expected_box(sighting.time_s), sighting.box)
                # A hint stands in for overlap, but never where there is none at all.
                enough |= seen_overlap >= LEAST_IN_PICTURE * (1 / 3 if hint else 1)
                overlap = np.fmax(overlap, seen_overlap)
            if not enough:
                continue
            same = track.last.worst.level == sighting.worst.level
            gain[i, j] = overlap + HINT_BONUS * hint - (0.0 if same else LEVEL_MALUS)
    return np.maximum(gain, 0.0)


def _ground_overlaps(last: list[Sighting], seen: list[Sighting]) -> np.ndarray:
    """Overlap (T, S) of outlines on the ground; NaN where one has none.

    The mean of IoU and intersection over the smaller one: a building cut off by the frame's edge
    overlaps with itself, and of two candidates the one of equal size is taken.
    """
    import shapely

    def outlines(items: list[Sighting]) -> np.ndarray:
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
