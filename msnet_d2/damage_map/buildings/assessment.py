"""One building, once: what all its observations say, and what of it a person should check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msnet_d2.damage_map.buildings.association import Track
from msnet_d2.damage_map.buildings.footprints import Footprint
from msnet_d2.damage_map.buildings.levels import LEVELS, NOT_ASSESSED, Level, Vote, vote
from msnet_d2.damage_map.buildings.merging import merge
from msnet_d2.damage_map.buildings.observations import Observation
from msnet_d2.damage_map.buildings.parts import Part, Placer, find_parts

# Below this agreement of the observations a person should look.
LEAST_AGREEMENT = 2 / 3
# Positions worse than this may be another building.
LARGE_ERROR_M = 15.0


@dataclass(frozen=True)
class Rules:
    """What it takes to be assessed.

    Attributes:
        min_confidence: mean confidence of the observations for the level.
        min_observations: number of frames; where a video has few frames of it, see below.
    """

    min_confidence: float = 0.5
    min_observations: int = 2


@dataclass
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
        point: (2,) local metres: its centre, or under the drone if no more is known; None if
            nothing is.
        ce90_m: 90% radius of ``point``; NaN without one.
        reasons: why a person should look, a line each.
    """

    number: int
    observations: list[Observation]
    passes: int
    vote: Vote
    level: Level
    parts: list[Part] = field(default_factory=list)
    footprint: Footprint | None = None
    point: np.ndarray | None = None
    ce90_m: float = np.nan
    reasons: list[str] = field(default_factory=list)

    @property
    def needs_review(self) -> bool:
        """Whether a person should look."""
        return bool(self.reasons)

    @property
    def worst_level(self) -> Level:
        """Level of the worst part that was seen often enough."""
        return LEVELS[max((p.level for p in self.parts), default=NOT_ASSESSED)]

    @property
    def best(self) -> Observation:
        """The observation to show: whole, of the voted level, and sure."""
        return max(
            self.observations,
            key=lambda s: (not s.truncated, s.worst.level == self.vote.level, s.worst.score),
        )

    @property
    def damaged_share(self) -> float | None:
        """Share of the footprint that its parts cover; None without a footprint."""
        import shapely

        placed = [p.polygon for p in self.parts if p.polygon is not None]
        if self.footprint is None or not placed or self.footprint.polygon.area <= 0:
            return None
        return min(shapely.unary_union(placed).area / self.footprint.polygon.area, 1.0)


def find_buildings(
    tracks: list[Track], placer: Placer | None = None, rules: Rules | None = None
) -> list[Building]:
    """Turn the tracks of all videos into buildings, each once.

    Tracks whose places are known are joined where they overlap on the ground. The others stay as
    they are, and say that they may be of a building that is already counted.
    """
    rules = rules or Rules()
    placed = [t for t in tracks if t.placed]
    other = [t for t in tracks if not t.placed]
    groups: list[tuple[list[Track], Footprint | None]] = [
        (g.tracks, g.footprint) for g in (merge(placed) if placed else [])
    ]
    groups += [([t], None) for t in other]

    def first(group: tuple[list[Track], Footprint | None]) -> tuple:
        s = min((t.observations[0] for t in group[0]), key=lambda s: (s.video, s.frame))
        return s.video, s.frame, tuple(s.box)

    return [
        _building(number, group, print_, placer, rules)
        for number, (group, print_) in enumerate(sorted(groups, key=first), start=1)
    ]


def _building(
    number: int,
    tracks: list[Track],
    footprint: Footprint | None,
    placer: Placer | None,
    rules: Rules,
) -> Building:
    observations = sorted(
        (s for t in tracks for s in t.observations), key=lambda s: (s.video, s.frame)
    )
    ballot = vote((s.worst.level, s.worst.score) for s in observations)
    frames = len({(s.video, s.frame) for s in observations})
    sure = ballot.confidence >= rules.min_confidence and frames >= rules.min_observations
    building = Building(
        number=number,
        observations=observations,
        passes=len(_passes(tracks)),
        vote=ballot,
        level=LEVELS[ballot.level if sure else NOT_ASSESSED],
        footprint=footprint,
        parts=find_parts(observations, None if footprint is None else footprint.polygon, placer),
    )
    if footprint is not None:
        building.point, building.ce90_m = footprint.centre, footprint.ce90_m
    else:
        points = [s for s in observations if s.outline is not None]
        if points:
            nearest = min(points, key=lambda s: s.ce90_m)
            building.point, building.ce90_m = nearest.outline.mean(axis=0), nearest.ce90_m
    building.reasons = _reasons(building, frames, rules)
    return building


def _passes(tracks: list[Track]) -> list[tuple[int, float, float]]:
    """Times in view: video, first, last; tracks that follow within seconds are one."""
    passes: list[tuple[int, float, float]] = []
    spans = sorted(
        (t.observations[0].video, t.observations[0].time_s, t.last.time_s) for t in tracks
    )
    for video, start, end in spans:
        if passes and passes[-1][0] == video and start - passes[-1][2] <= 5.0:
            passes[-1] = (video, passes[-1][1], max(end, passes[-1][2]))
        else:
            passes.append((video, start, end))
    return passes


def _reasons(building: Building, frames: int, rules: Rules) -> list[str]:
    ballot, reasons = building.vote, []
    if ballot.confidence < rules.min_confidence:
        reasons.append(f"low confidence ({ballot.confidence:.2f})")
    if frames < rules.min_observations:
        reasons.append(f"seen in {frames} frame{'s' if frames > 1 else ''} only")
    if ballot.agreement < LEAST_AGREEMENT:
        shares = ", ".join(
            f"{LEVELS[i].name} {w / sum(ballot.weights):.0%}"
            for i, w in enumerate(ballot.weights, start=1)
            if w
        )
        reasons.append(f"observations disagree ({shares})")
    elif building.worst_level.number > ballot.level > 0:
        reasons.append(f"a part is {building.worst_level.name}")
    if building.point is None:
        reasons.append("no place: it may be counted twice")
    elif building.footprint is None:
        reasons.append(f"place known to {building.ce90_m:.0f} m only: it may be counted twice")
    else:
        if building.ce90_m > LARGE_ERROR_M:
            reasons.append(f"place known to {building.ce90_m:.0f} m only")
        if building.footprint.truncated:
            reasons.append("never seen as a whole")
    doubts = sorted({d for s in building.observations for d in s.doubts.split(", ") if d})
    if doubts:
        reasons.append(f"flight log: {', '.join(doubts)}")
    return reasons


def history(building: Building) -> list[dict[str, Any]]:
    """The history of a building for tables and charts: one entry a observation."""
    return [
        {
            "video": s.video,
            "frame": s.frame,
            "time_s": round(s.time_s, 3),
            "level": s.worst.level,
            "score": round(s.worst.score, 4),
            "score_raw": None if s.worst.score_raw is None else round(s.worst.score_raw, 4),
        }
        for s in building.observations
    ]
