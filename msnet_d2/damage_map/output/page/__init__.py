"""``index.html``: the map as one page that needs no network.

The page is put together from the files beside this one. Everything it shows is inside it, but for
the photos of many buildings, which lie in a folder beside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from msnet_d2 import __version__
from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.grid import GRID_CELL_M
from msnet_d2.damage_map.output.page.bundle import bundle
from msnet_d2.damage_map.output.photos import MANY_BUILDINGS, Pictures
from msnet_d2.damage_map.output.records import BuildingRecord, Geometry, MapContent, PartRecord

# Folder of photos beside the page, where there are more than MANY_BUILDINGS of them.
PHOTOS = "photos"
# Of parts the page shows no more than this.
_PART_FIELDS = ("level_number", "confidence", "observations")

# Metres east and north (N, 2) to the page's coordinates: metres of web maps from its origin.
ToPage = Callable[[np.ndarray], list[list[float]]]


def build_page(content: MapContent, pictures: Pictures, files: tuple[str, ...] = ()) -> str:
    """The page as text.

    Args:
        content: of the map.
        pictures: photos of buildings and the ground; see :func:`photos_beside`.
        files: names of the files beside the page that it links to.
    """
    return bundle(_data(content, pictures), files)


def photos_beside(pictures: Pictures) -> Mapping[str, bytes]:
    """Photos that must lie beside the page, by their path from it."""
    if len(pictures.crops) <= MANY_BUILDINGS:
        return {}
    return {f"{PHOTOS}/{name}.jpg": photo for name, photo in pictures.crops.items()}


def _data(content: MapContent, pictures: Pictures) -> dict[str, Any]:
    enu, grid = content.enu, content.grid
    origin, cosine = np.zeros(2), 1.0
    if enu is not None:
        origin = enu.to_mercator(np.zeros((1, 2)))[0]
        cosine = float(np.cos(np.radians(enu.origin[0])))
    to_page = _to_page(enu, origin)
    return {
        "version": __version__,
        "map_id": _map_id(content.records),
        "levels": [asdict(level) for level in LEVELS],
        "videos": [asdict(video) for video in content.videos],
        "problems": list(content.problems),
        "doubts": list(content.doubts),
        "place": _place(content),
        "buildings": _buildings(content, _photo_urls(pictures), to_page, cosine),
        "flight_lines": [[] if t is None else to_page(_thin(t)) for t in content.flight_lines],
        "origin": origin.round(3).tolist(),
        "cosine": cosine,
        "grid_cell_m": GRID_CELL_M,
        "grid": {
            grid.name(b.point): to_page(grid.ring(b.point))
            for b in content.buildings
            if b.point is not None
        },
        "mosaics": [
            {
                "box": np.round(np.array(m.box) - np.tile(origin, 2), 3).tolist(),
                "src": _data_url("image/webp", m.encode()),
            }
            for m in pictures.mosaics
        ],
    }


def _map_id(records: tuple[BuildingRecord, ...]) -> str:
    """Name under which a browser keeps reviews: other buildings or places make another."""
    key = [(r.id, r.latitude, r.longitude, r.best_video, r.best_frame) for r in records]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _place(content: MapContent) -> dict[str, Any] | None:
    """Center of the buildings, or of the flights over none, and their extent in metres."""
    points = [b.point[None] for b in content.buildings if b.point is not None]
    points = points or [line for line in content.flight_lines if line is not None and len(line)]
    if not points or content.enu is None:
        return None
    xy = np.concatenate(points)
    low, high = xy.min(axis=0), xy.max(axis=0)
    latitude, longitude = content.enu.to_lat_lon((low + high) / 2)[0]
    return {
        "latitude": round(float(latitude), 6),
        "longitude": round(float(longitude), 6),
        "size_m": np.round(high - low, 1).tolist(),
    }


def _photo_urls(pictures: Pictures) -> dict[str, str]:
    if photos_beside(pictures):
        return {name: f"{PHOTOS}/{name}.jpg" for name in pictures.crops}
    return {name: _data_url("image/jpeg", photo) for name, photo in pictures.crops.items()}


def _buildings(
    content: MapContent, photos: Mapping[str, str], to_page: ToPage, cosine: float
) -> list[dict[str, Any]]:
    """What the page has of each building: its record, history and parts, and with a place its
    center, the radius of its CE90 in metres of web maps, and the rings of its outline."""
    parts: dict[str, list[PartRecord]] = {}
    for part in content.parts:
        parts.setdefault(part.building, []).append(part)
    shown = []
    for building, record in zip(content.buildings, content.records, strict=True):
        entry: dict[str, Any] = {
            "record": record.row(),
            "history": _history(building),
            "parts": [_part(p, to_page) for p in parts.get(record.id, [])],
        }
        if record.geometry is not None:
            entry["center"] = to_page(building.point[None])[0]
            entry["radius"] = round(building.ce90_m / cosine, 2)
            if record.geometry.enu.geom_type != "Point":
                entry["rings"] = _rings(record.geometry, to_page)
        if record.id in photos:
            entry["photo"] = photos[record.id]
        shown.append(entry)
    return shown


def _part(part: PartRecord, to_page: ToPage) -> dict[str, Any]:
    record = {name: getattr(part, name) for name in _PART_FIELDS}
    return {"record": record, "rings": _rings(part.geometry, to_page)}


def _history(building: Building) -> dict[str, list[Any]]:
    """A value for each observation; ``video`` is its place in the page's list of videos."""
    seen = building.observations
    raw = [o.worst.score_raw for o in seen]
    return {
        "video": [o.video.order for o in seen],
        "frame": [o.frame for o in seen],
        "time_s": [round(o.time_s, 2) for o in seen],
        "level": [o.worst.level for o in seen],
        "score": [round(o.worst.score, 3) for o in seen],
        "score_raw": [None if score is None else round(score, 3) for score in raw],
    }


def _to_page(enu: EnuFrame | None, origin: np.ndarray) -> ToPage:
    def convert(xy: np.ndarray) -> list[list[float]]:
        return np.round(enu.to_mercator(xy) - origin, 2).tolist()

    return convert


def _rings(geometry: Geometry | None, to_page: ToPage) -> list | None:
    """All rings of a geometry; None without one."""
    import shapely

    if geometry is None:
        return None
    polygons = [g for g in shapely.get_parts(geometry.enu) if g.geom_type == "Polygon"]
    return [
        to_page(np.array(ring.coords)[:-1, :2])
        for polygon in polygons
        for ring in (polygon.exterior, *polygon.interiors)
    ]


def _thin(track: np.ndarray) -> np.ndarray:
    """A flight line without points that make no difference of half a metre."""
    import shapely

    if len(track) < 3:
        return track
    return np.array(shapely.LineString(track).simplify(0.5).coords)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
