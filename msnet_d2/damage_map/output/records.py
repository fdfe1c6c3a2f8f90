"""Buildings and parts as flat records: the one source of every output file.

The fields of a record are the columns of ``buildings.csv`` and of the layers of ``damage.gpkg``,
the properties in ``damage.geojson`` and the page's data, by these names and in this order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import Observation
from msnet_d2.damage_map.buildings.parts import Part
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.grid import MapGrid


class Geometry(NamedTuple):
    """A place.

    Attributes:
        wgs84: shapely, longitude and latitude.
        enu: the same in metres east and north.
    """

    wgs84: Any
    enu: Any


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the files say of a building or a part.

    Attributes:
        geometry: its place, or None; no column.
    """

    geometry: Geometry | None

    @classmethod
    @cache
    def columns(cls) -> dict[str, type]:
        """Name of each column and the type of its values, of which each may be missing (None)."""
        hints = get_type_hints(cls)
        types = {f.name: hints[f.name] for f in fields(cls) if f.name != "geometry"}
        return {n: getattr(t, "__args__", (t,))[0] for n, t in types.items()}

    def row(self) -> dict[str, Any]:
        """Value of each column."""
        return {name: getattr(self, name) for name in self.columns()}


@dataclass(frozen=True, kw_only=True)
class BuildingRecord(Record):
    """A building.

    Attributes:
        id: "B" and its number.
        level, level_number: the voted level; "not assessed" and 0 where the evidence is too thin.
        worst_level: of the parts that were seen often enough.
        confidence, agreement: see :class:`.levels.Vote`, 0 to 1.
        indication: the voted level, also where the evidence is too thin.
        fema_indicative, ems98_indicative: what other scales call the level.
        parts: number of damaged parts.
        damaged_share: fraction of the footprint that the parts cover.
        latitude, longitude: degrees, WGS 84.
        ce90_m: radius in metres that holds the true place with a probability of 90%.
        grid_cell: cell of :class:`MapGrid`.
        needs_review, review_reasons: whether and why a person should look.
        urgency: place in the order of :func:`.urgency.rank_by_urgency`, from 1.
        checked, checked_by, checked_at, note: what a person said of it, see :mod:`.reviews`.
        observations: number of frames that show it.
        passes: how many times it came into view.
        vote_slight, vote_severe, vote_debris: sum of confidences for each level.
        first_video, first_time_s: where it was seen first, and the time in seconds.
        last_video, last_time_s: where it was seen last.
        best_video, best_frame, best_time_s: where it is seen best.
        weights_sha256: digest of the weights that found it there.
    """

    id: str
    level: str
    level_number: int
    worst_level: str
    confidence: float
    agreement: float
    indication: str
    fema_indicative: str | None
    ems98_indicative: str | None
    parts: int
    damaged_share: float | None
    latitude: float | None
    longitude: float | None
    ce90_m: float | None
    grid_cell: str | None
    needs_review: bool
    review_reasons: str | None
    urgency: int
    observations: int
    passes: int
    vote_slight: float
    vote_severe: float
    vote_debris: float
    first_video: str
    first_time_s: float
    last_video: str
    last_time_s: float
    best_video: str
    best_frame: int
    best_time_s: float
    weights_sha256: str | None
    checked: bool = False
    checked_by: str | None = None
    checked_at: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class PartRecord(Record):
    """A damaged part of a building; columns as those of :class:`BuildingRecord`.

    Attributes:
        id: of the building, and the part's number in it.
        building: id of the building.
        best_score: of the detection that shows it best.
    """

    id: str
    building: str
    level: str
    level_number: int
    confidence: float
    agreement: float
    ce90_m: float | None
    observations: int
    first_video: str
    first_time_s: float
    last_video: str
    last_time_s: float
    best_video: str
    best_frame: int
    best_score: float
    weights_sha256: str | None


@dataclass(frozen=True)
class VideoRecord:
    """A video of the map, for the summary and the page.

    Attributes:
        name: of its file.
        duration_s: its length in seconds.
        frames: number of frames that were looked at.
        flight_log: name of the log, or None.
        weights_sha256: digest of the weights that were used.
        start: date and time of the first frame (ISO 8601), with a zone only where it is known; or
            None.
        notes: what to know of it, a line each.
        doubts: why its places may be wrong, a line each.
    """

    name: str
    duration_s: float
    frames: int
    flight_log: str | None
    weights_sha256: str | None
    start: str | None
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MapContent:
    """What all files of a map are made of.

    Attributes:
        enu: plane of the places; None if nothing has one.
        grid: over the buildings.
        buildings: all of them.
        records: of the buildings, in the same order.
        parts: records of the parts of all buildings.
        videos: in the order of the map.
        flight_lines: places (N, 2) in metres east and north of the drone in each video, or None.
        problems: what could not be used, a line each.
    """

    enu: EnuFrame | None
    grid: MapGrid
    buildings: tuple[Building, ...]
    records: tuple[BuildingRecord, ...]
    parts: tuple[PartRecord, ...]
    videos: tuple[VideoRecord, ...]
    flight_lines: tuple[np.ndarray | None, ...]
    problems: tuple[str, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why places may be wrong, a line each, with the video's name."""
        return tuple(f"{v.name}: {d}" for v in self.videos for d in v.doubts)


def building_id(number: int) -> str:
    """Name of a building."""
    return f"B{number:04d}"


def building_record(
    building: Building, enu: EnuFrame | None, grid: MapGrid, urgency: int
) -> BuildingRecord:
    """The record of a building.

    Args:
        building: with its observations.
        enu: plane of its place; None if nothing on the map has one.
        grid: over all buildings of the map.
        urgency: see :class:`BuildingRecord`.
    """
    first, last, best = building.observations[0], building.observations[-1], building.best
    vote, level, share = building.vote, building.level, building.damaged_share
    place = None
    if building.point is not None and enu is not None:
        place = enu.to_lat_lon(building.point)[0]
    return BuildingRecord(
        geometry=None if place is None else _building_geometry(building, enu),
        id=building_id(building.number),
        level=level.name,
        level_number=level.number,
        worst_level=building.worst_level.name,
        confidence=round(vote.confidence, 4),
        agreement=round(vote.agreement, 4),
        indication=LEVELS[vote.level].name,
        fema_indicative=level.fema or None,
        ems98_indicative=level.ems98 or None,
        parts=len(building.parts),
        damaged_share=None if share is None else round(share, 4),
        latitude=None if place is None else round(float(place[0]), 7),
        longitude=None if place is None else round(float(place[1]), 7),
        ce90_m=None if place is None else round(building.ce90_m, 2),
        grid_cell=None if place is None else grid.name(building.point),
        needs_review=building.needs_review,
        review_reasons="; ".join(building.review_reasons) or None,
        urgency=urgency,
        observations=len(building.observations),
        passes=building.passes,
        vote_slight=round(vote.weights[0], 3),
        vote_severe=round(vote.weights[1], 3),
        vote_debris=round(vote.weights[2], 3),
        best_time_s=round(best.time_s, 3),
        **_where_seen(first, last, best),
    )


def part_records(building: Building, enu: EnuFrame | None) -> list[PartRecord]:
    """The records of a building's parts."""
    return [
        _part_record(building, number, part, enu)
        for number, part in enumerate(building.parts, start=1)
    ]


def _part_record(building: Building, number: int, part: Part, enu: EnuFrame | None) -> PartRecord:
    seen = sorted((s.observation for s in part.seen), key=lambda o: (o.video.order, o.time_s))
    level = LEVELS[part.level]
    geometry = None
    if part.polygon is not None and enu is not None:
        geometry = Geometry(to_wgs84(part.polygon, enu), part.polygon)
    return PartRecord(
        geometry=geometry,
        id=f"{building_id(building.number)}-{number}",
        building=building_id(building.number),
        level=level.name,
        level_number=level.number,
        confidence=round(part.vote.confidence, 4),
        agreement=round(part.vote.agreement, 4),
        ce90_m=None if part.polygon is None else round(building.ce90_m, 2),
        observations=len(part.seen),
        best_score=round(part.best.part.score, 4),
        **_where_seen(seen[0], seen[-1], part.best.observation),
    )


def _where_seen(first: Observation, last: Observation, best: Observation) -> dict[str, Any]:
    """The columns that both kinds of records have of videos and times."""
    return {
        "first_video": first.video.name,
        "first_time_s": round(first.time_s, 3),
        "last_video": last.video.name,
        "last_time_s": round(last.time_s, 3),
        "best_video": best.video.name,
        "best_frame": best.frame,
        "weights_sha256": best.video.weights_sha256,
    }


def _building_geometry(building: Building, enu: EnuFrame) -> Geometry:
    import shapely

    if building.footprint is None:
        shape = shapely.Point(building.point)
    else:
        shape = building.footprint.polygon
    return Geometry(to_wgs84(shape, enu), shape)


def to_wgs84(shape: Any, enu: EnuFrame) -> Any:
    """A geometry in metres east and north as longitude and latitude, to a centimetre."""
    import shapely

    return shapely.transform(shape, lambda xy: np.round(enu.to_lat_lon(xy)[:, ::-1], 7))
