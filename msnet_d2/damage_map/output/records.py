"""Buildings and parts as flat records: the one source of every output file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import VideoResults
from msnet_d2.damage_map.buildings.parts import Part
from msnet_d2.damage_map.geometry.local_frame import EnuFrame

# Side of an area of the printed report, metres.
GRID_CELL_M = 250.0


BUILDING_COLUMNS = (
    "id",
    "level",
    "level_number",
    "worst_level",
    "confidence",
    "agreement",
    "indication",
    "fema_indicative",
    "ems98_indicative",
    "parts",
    "damaged_share",
    "latitude",
    "longitude",
    "ce90_m",
    "grid_cell",
    "needs_review",
    "review_reasons",
    "observations",
    "passes",
    "vote_slight",
    "vote_severe",
    "vote_debris",
    "first_video",
    "first_time_s",
    "last_video",
    "last_time_s",
    "best_video",
    "best_frame",
    "best_time_s",
    "weights_sha256",
)
PART_COLUMNS = (
    "id",
    "building",
    "level",
    "level_number",
    "confidence",
    "agreement",
    "ce90_m",
    "observations",
    "first_video",
    "first_time_s",
    "last_video",
    "last_time_s",
    "best_video",
    "best_frame",
    "best_score",
    "weights_sha256",
)


@dataclass
class Record:
    """A building or a part with its place.

    Attributes:
        properties: name to text, number, bool or None; the names are those of files' columns.
        geometry: shapely, longitude and latitude; None without a place.
        local: the same in local metres.
    """

    properties: dict[str, Any]
    geometry: Any = None
    local: Any = None


def building_id(number: int) -> str:
    """Name of a building."""
    return f"B{number:04d}"


def building_record(
    building: Building,
    videos: Sequence[VideoResults],
    local: EnuFrame | None,
    grid: MapGrid | None = None,
) -> Record:
    """The record of a building; ``videos`` by the numbers that observations have.

    ``grid`` is the grid over all buildings of the map; None: over this one.
    """
    first, last, best = building.observations[0], building.observations[-1], building.best
    ballot, level = building.vote, building.level
    place = None
    if building.point is not None and local is not None:
        place = local.to_lat_lon(building.point)[0]
    share = building.damaged_share
    properties = {
        "id": building_id(building.number),
        "level": level.name,
        "level_number": level.number,
        "confidence": round(ballot.confidence, 4),
        "agreement": round(ballot.agreement, 4),
        "indication": LEVELS[ballot.level].name,
        "worst_level": building.worst_level.name,
        "fema_indicative": level.fema or None,
        "ems98_indicative": level.ems98 or None,
        "vote_slight": round(ballot.weights[0], 3),
        "vote_severe": round(ballot.weights[1], 3),
        "vote_debris": round(ballot.weights[2], 3),
        "parts": len(building.parts),
        "damaged_share": None if share is None else round(share, 4),
        "observations": len(building.observations),
        "passes": building.passes,
        "first_video": videos[first.video].name,
        "first_time_s": round(first.time_s, 3),
        "last_video": videos[last.video].name,
        "last_time_s": round(last.time_s, 3),
        "best_video": videos[best.video].name,
        "best_frame": best.frame,
        "best_time_s": round(best.time_s, 3),
        "latitude": None if place is None else round(float(place[0]), 7),
        "longitude": None if place is None else round(float(place[1]), 7),
        "ce90_m": None if place is None else round(float(building.ce90_m), 2),
        "grid_cell": None
        if place is None
        else (grid or MapGrid([building.point])).name(building.point),
        "needs_review": building.needs_review,
        "review_reasons": "; ".join(building.reasons) or None,
        "weights_sha256": videos[best.video].weights_sha256,
    }
    record = Record(properties)
    if place is not None:
        import shapely

        record.local = (
            shapely.Point(building.point)
            if building.footprint is None
            else building.footprint.polygon
        )
        record.geometry = to_wgs84(record.local, local)
    return record


def part_records(
    building: Building, videos: Sequence[VideoResults], local: EnuFrame | None
) -> list[Record]:
    """The records of a building's parts."""
    return [
        _part_record(building, number, part, videos, local)
        for number, part in enumerate(building.parts, start=1)
    ]


def _part_record(building: Building, number: int, part: Part, videos, local) -> Record:
    observation, best = part.best
    times = sorted((s.video, s.time_s) for s, _ in part.observations)
    level = LEVELS[part.level]
    record = Record(
        {
            "id": f"{building_id(building.number)}-{number}",
            "building": building_id(building.number),
            "level": level.name,
            "level_number": level.number,
            "confidence": round(part.vote.confidence, 4),
            "agreement": round(part.vote.agreement, 4),
            "observations": len(part.observations),
            "first_video": videos[times[0][0]].name,
            "first_time_s": round(times[0][1], 3),
            "last_video": videos[times[-1][0]].name,
            "last_time_s": round(times[-1][1], 3),
            "best_video": videos[observation.video].name,
            "best_frame": observation.frame,
            "best_score": round(best.score, 4),
            "ce90_m": None if part.polygon is None else round(float(building.ce90_m), 2),
            "weights_sha256": videos[observation.video].weights_sha256,
        }
    )
    if part.polygon is not None and local is not None:
        record.local = part.polygon
        record.geometry = to_wgs84(part.polygon, local)
    return record


def to_wgs84(shape: Any, local: EnuFrame) -> Any:
    """A geometry in local metres as longitude and latitude, to a centimetre."""
    import shapely

    return shapely.transform(shape, lambda xy: np.round(local.to_lat_lon(xy)[:, ::-1], 7))


class MapGrid:
    """Squares of :data:`GRID_CELL_M` over all buildings, named as in a street atlas.

    Letters go from west to east, numbers from north to south: A1 is the north-west corner. Columns
    and rows without a building have no name, so that flights far apart have short ones too.
    """

    def __init__(self, points: Sequence[np.ndarray]) -> None:
        """Cover ``points``, each (2,) in local metres; there may be none."""
        xy = np.array(points, dtype=float).reshape(-1, 2)
        self.west, self.north = (xy[:, 0].min(), xy[:, 1].max()) if len(xy) else (0.0, 0.0)
        cells = [self._cell(p) for p in xy]
        self._columns = {c: i for i, c in enumerate(sorted({c for c, _ in cells}))}
        self._rows = {r: i for i, r in enumerate(sorted({r for _, r in cells}))}

    def _cell(self, point: np.ndarray) -> tuple[int, int]:
        x, y = np.asarray(point, dtype=float)
        return int((x - self.west) // GRID_CELL_M), int((self.north - y) // GRID_CELL_M)

    def name(self, point: np.ndarray) -> str:
        """Name of the square that holds one of the places that are covered."""
        column, row = self._cell(point)
        column, letters = self._columns[column], ""
        while column >= 0:
            column, digit = divmod(column, 26)
            letters, column = chr(ord("A") + digit) + letters, column - 1
        return f"{letters}{self._rows[row] + 1}"

    def ring(self, point: np.ndarray) -> np.ndarray:
        """Corners (4, 2) in local metres of the square that holds a place."""
        column, row = self._cell(point)
        corner = np.array([self.west + column * GRID_CELL_M, self.north - row * GRID_CELL_M])
        return corner + np.array([[0, -1], [1, -1], [1, 0], [0, 0]]) * GRID_CELL_M
