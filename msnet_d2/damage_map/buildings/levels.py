"""Damage levels of buildings: a vote over observations, and what the levels are called elsewhere.

A model that was trained on ISBDA knows its three levels and nothing finer. What other scales call
them is indicative: FEMA and EMS-98 are assigned by people who stand in front of the building. There
is no level "none": what was not found damaged was not assessed.

The colors are the map's own: they get darker with the damage, so that gray keeps their order, stay
apart for color-blind readers, and none is green, which reads as safe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NOT_ASSESSED = 0


@dataclass(frozen=True)
class Level:
    """A damage level.

    Attributes:
        number: 1 to 3 as in ISBDA, 0 not assessed.
        name: on ISBDA's scale.
        meaning: in words.
        fema: FEMA's damage categories that it may be, indicative.
        ems98: EMS-98 grades that it may be, indicative.
        color: RGB as "#rrggbb".
    """

    number: int
    name: str
    meaning: str
    fema: str
    ems98: str
    color: str


LEVELS = (
    Level(NOT_ASSESSED, "not assessed", "too little evidence for a level", "", "", "#ffffff"),
    Level(
        1,
        "Slight",
        "cracks, missing shingles, damaged appearance",
        "affected or minor",
        "1-2",
        "#ffcc33",
    ),
    Level(2, "Severe", "part of a wall or roof has collapsed", "major", "3-4", "#e8601c"),
    Level(3, "Debris", "completely collapsed", "destroyed", "5", "#6a0a5c"),
)


@dataclass(frozen=True)
class Vote:
    """What the observations of one building say of its level.

    Attributes:
        level: the level with most weight, of equal ones the worse; 0 without a vote.
        weights: sum of confidences for each of the levels 1, 2, 3.
        confidence: mean confidence of the observations that voted for ``level``.
        agreement: fraction of all weight that ``level`` has; 0 without a vote.
        count: number of votes.
    """

    level: int
    weights: tuple[float, float, float]
    confidence: float
    agreement: float
    count: int

    @classmethod
    def of(cls, levels: Iterable[tuple[int, float]]) -> Vote:
        """Count a level (1 to 3) and its confidence (0 to 1) for each observation.

        Confidences are those after refinement, so that a level that its neighbors in time do not
        support weighs less.
        """
        weights, counts = [0.0, 0.0, 0.0], [0, 0, 0]
        for level, confidence in levels:
            weights[level - 1] += confidence
            counts[level - 1] += 1
        total = sum(weights)
        if total <= 0:
            return cls(NOT_ASSESSED, (0.0, 0.0, 0.0), 0.0, 0.0, sum(counts))
        best = max(range(3), key=lambda i: (weights[i], i))
        return cls(
            best + 1,
            (weights[0], weights[1], weights[2]),
            weights[best] / counts[best],
            weights[best] / total,
            sum(counts),
        )
