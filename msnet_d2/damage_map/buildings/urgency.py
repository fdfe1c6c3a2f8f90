"""In which order people should go to the buildings of a map."""

from __future__ import annotations

from collections.abc import Sequence

from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import NOT_ASSESSED

# What too little evidence takes from a level: a hint of Debris comes after Severe and before
# Slight, as a collapse that is missed costs more than a way for nothing.
_THIN_EVIDENCE = 1.5
# What a part that is worse than the building's level adds.
_WORSE_PART = 0.5


def rank_by_urgency(buildings: Sequence[Building]) -> dict[int, int]:
    """Rank of each building's number, 1 first.

    By level, a part that is worse counting half a level more, and what is not assessed counting a
    level and a half less than its indication; of equal ones by damaged share, then by confidence.
    """
    ordered = sorted(buildings, key=_key)
    return {b.number: rank for rank, b in enumerate(ordered, start=1)}


def _key(building: Building) -> tuple[float, float, float, int]:
    level = float(building.level.number)
    if building.level.number == NOT_ASSESSED:
        level = building.vote.level - _THIN_EVIDENCE
    elif building.worst_level.number > building.level.number:
        level += _WORSE_PART
    return -level, -(building.damaged_share or 0.0), -building.vote.confidence, building.number
