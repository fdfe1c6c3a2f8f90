"""One building, once: what all its observations say, and what of it a person should check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msnet_d2.damage_map.buildings.association import Track
from msnet_d2.damage_map.buildings.footprints import Footprint
from msnet_d2.damage_map.buildings.levels import LEVELS, NOT_ASSESSED, Level, Vote
from msnet_d2.damage_map.buildings.merging import merge
from msnet_d2.damage_map.buildings.observations import (
    NadirObservation,
    Observation,
    PlacedObservation,
)
from msnet_d2.damage_map.buildings.parts import Part, find_parts
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag

# Agreement of the observations below which a person should look.
MIN_AGREEMENT = 2 / 3
# CE90 in metres above which a place may be that of another building.
LARGE_CE90_M = 15.0
# Tracks that are apart by at most this many seconds are one pass.
SAME_PASS_S = 5.0
# Flags of the telemetry that a reader of the map should know of a single building.
_TOLD_FLAGS = (
    TelemetryFlag.GAP
    | TelemetryFlag.JUMP
    | TelemetryFlag.FLIGHT_YAW
    | TelemetryFlag.ASSUMED_ANGLES
    | TelemetryFlag.NO_ANGLES
)


@dataclass(frozen=True)
class Rules:
    """What it takes to be assessed.

    Attributes:
        min_confidence: mean confidence of the observations for the level.
        min_observations: number of frames.
    """

    min_confidence: float = 0.5
    min_observations: int = 2


@dataclass(frozen=True, eq=False)
class Building:
    """A building with damage.

    Attributes:
        number: from 1, in order of the first observation.
        observations: all of them, in order of video and time.
        passes: how many times it came into view.
        vote: what they say of the level.
        level: the level; "not assessed" where the evidence does not suffice.
        parts: its damaged parts.
        footprint: None where it has no place, or only a point.
        point: (2,) metres east and north: its center, or under the drone if no more is known; None
            if nothing is.
        ce90_m: radius about ``point`` that holds the truth with a probability of 90%; None without
            a point.
        review_reasons: why a person should look, a line each.
    """

    number: int
    observations: tuple[Observation, ...]
    passes: int
    vote: Vote
    level: Level
    parts: tuple[Part, ...]
    footprint: Footprint | None
    point: np.ndarray | None
    ce90_m: float | None
    review_reasons: tuple[str, ...]

    @property
    def needs_review(self) -> bool:
        """Whether a person should look."""
        return bool(self.review_reasons)

    @property
    def worst_level(self) -> Level:
        """Level of the worst part that was seen often enough."""
        return _worst_level(self.parts)

    @property
    def best(self) -> Observation:
        """The observation to show: not truncated, of the voted level, of the highest score."""
        return max(
            self.observations,
            key=lambda o: (not o.truncated, o.worst.level == self.vote.level, o.worst.score),
        )

    @property
    def damaged_share(self) -> float | None:
        """Fraction of the footprint that its parts cover; None without a footprint."""
        import shapely

        placed = [p.polygon for p in self.parts if p.polygon is not None]
        if self.footprint is None or not placed or self.footprint.polygon.area <= 0:
            return None
        return min(shapely.unary_union(placed).area / self.footprint.polygon.area, 1.0)


def find_buildings(
    tracks: Sequence[Track], enu: EnuFrame | None = None, rules: Rules | None = None
) -> list[Building]:
    """Turn the tracks of all videos into buildings, each once.

    Tracks whose places are known are joined where they overlap on the ground. The others stay as
    they are, and say that they may be of a building that is already counted.

    Args:
        tracks: of all videos.
        enu: plane of the places; None: parts get no place.
        rules: what it takes to be assessed.
    """
    rules = rules or Rules()
    placed = [t for t in tracks if t.placed]
    groups: list[tuple[Sequence[Track], Footprint | None]] = [
        (g.tracks, g.footprint) for g in (merge(placed) if placed else [])
    ]
    groups += [((t,), None) for t in tracks if not t.placed]

    def first(group: tuple[Sequence[Track], Footprint | None]) -> tuple:
        o = min((t.observations[0] for t in group[0]), key=lambda o: o.order)
        return *o.order, tuple(o.box)

    return [
        _building(number, group, footprint, enu, rules)
        for number, (group, footprint) in enumerate(sorted(groups, key=first), start=1)
    ]


def _building(
    number: int,
    tracks: Sequence[Track],
    footprint: Footprint | None,
    enu: EnuFrame | None,
    rules: Rules,
) -> Building:
    observations = sorted((o for t in tracks for o in t.observations), key=lambda o: o.order)
    vote = Vote.of((o.worst.level, o.worst.score) for o in observations)
    frames = len({o.order for o in observations})
    is_assessed = vote.confidence >= rules.min_confidence and frames >= rules.min_observations
    polygon = None if footprint is None else footprint.polygon
    parts = find_parts(observations, polygon, enu)
    point, ce90_m = _point(observations, footprint)
    reasons = _evidence_reasons(vote, frames, rules)
    reasons += _level_reasons(vote, _worst_level(parts))
    reasons += _place_reasons(footprint, ce90_m)
    reasons += _telemetry_reasons(observations)
    return Building(
        number=number,
        observations=tuple(observations),
        passes=_count_passes(tracks),
        vote=vote,
        level=LEVELS[vote.level if is_assessed else NOT_ASSESSED],
        parts=tuple(parts),
        footprint=footprint,
        point=point,
        ce90_m=ce90_m,
        review_reasons=tuple(reasons),
    )


def _worst_level(parts: Sequence[Part]) -> Level:
    return LEVELS[max((p.level for p in parts), default=NOT_ASSESSED)]


def _point(
    observations: Sequence[Observation], footprint: Footprint | None
) -> tuple[np.ndarray | None, float | None]:
    """Where a building is, and the CE90 of it; None where nothing is known."""
    if footprint is not None:
        return footprint.center, float(footprint.ce90_m)
    under_drone = [o for o in observations if isinstance(o, NadirObservation)]
    if not under_drone:
        return None, None
    nearest = min(under_drone, key=lambda o: o.ce90_m)
    return nearest.point, nearest.ce90_m


def _count_passes(tracks: Sequence[Track]) -> int:
    """Times in view: tracks of a video that follow within seconds are one."""
    count, last = 0, None
    for video, start, end in sorted((t.video.order, *t.span_s) for t in tracks):
        if last is not None and last[0] == video and start - last[1] <= SAME_PASS_S:
            last = video, max(end, last[1])
        else:
            count, last = count + 1, (video, end)
    return count


def _evidence_reasons(vote: Vote, frames: int, rules: Rules) -> list[str]:
    reasons = []
    if vote.confidence < rules.min_confidence:
        reasons.append(f"low confidence ({vote.confidence:.2f})")
    if frames < rules.min_observations:
        reasons.append(f"seen in {frames} frame{'s' if frames > 1 else ''} only")
    return reasons


def _level_reasons(vote: Vote, worst: Level) -> list[str]:
    if vote.agreement < MIN_AGREEMENT:
        shares = ", ".join(
            f"{LEVELS[i].name} {w / sum(vote.weights):.0%}"
            for i, w in enumerate(vote.weights, start=1)
            if w
        )
        return [f"observations disagree ({shares})"]
    if worst.number > vote.level > 0:
        return [f"a part is {worst.name}"]
    return []


def _place_reasons(footprint: Footprint | None, ce90_m: float | None) -> list[str]:
    if ce90_m is None:
        return ["no place: it may be counted twice"]
    if footprint is None:
        return [f"place known to {ce90_m:.0f} m only: it may be counted twice"]
    reasons = []
    if ce90_m > LARGE_CE90_M:
        reasons.append(f"place known to {ce90_m:.0f} m only")
    if footprint.truncated:
        reasons.append("never seen as a whole")
    return reasons


def _telemetry_reasons(observations: Sequence[Observation]) -> list[str]:
    flags = TelemetryFlag.GOOD
    for observation in observations:
        if isinstance(observation, (NadirObservation, PlacedObservation)):
            flags |= observation.flags & _TOLD_FLAGS
    reasons = [f"flight log: {', '.join(sorted(flags.text.split(', ')))}"] if flags else []
    flights = {o.video.flight for o in observations if o.video.flight is not None}
    if any(flight.doubts for flight in flights):
        reasons.append("the place of the whole flight is doubtful")
    return reasons
