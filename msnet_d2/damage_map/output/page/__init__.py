"""``index.html``: the map as one page that needs no network.

The page is put together from the files beside this one; everything it shows is inside it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np

from msnet_d2 import __version__
from msnet_d2.damage_map.buildings.assessment import Building, history
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.photos import Mosaic
from msnet_d2.damage_map.output.records import GRID_CELL_M, MapGrid, Record

_FILES = {"STYLE": "style.css", "MAP": "map.js", "APP": "app.js", "PRINT": "print.js"}


def build_page(
    buildings: Sequence[Building],
    building_records: Sequence[Record],
    part_records: Sequence[Record],
    *,
    local: EnuFrame | None,
    grid: MapGrid,
    videos: Sequence[Mapping[str, Any]],
    tracks: Sequence[np.ndarray | None],
    crops: Mapping[str, bytes],
    mosaics: Sequence[Mosaic],
    problems: Sequence[str],
) -> str:
    """The page as text.

    Args:
        buildings, building_records: in the same order.
        part_records: of all buildings.
        local: frame of the records' ``local``; None if nothing has a place.
        grid: the grid that gave the records their cells.
        videos: ``name``, ``duration_s``, ``weights_sha256`` and ``notes`` of each.
        tracks: flight line (N, 2) of each video in local metres, or None.
        crops: JPEG by the building's id.
        mosaics: the ground from above.
        problems: what went wrong, a line each.
    """
    origin, cosine = np.zeros(2), 1.0
    if local is not None:
        origin = local.to_mercator(np.zeros((1, 2)))[0]
        cosine = float(np.cos(np.radians(local.origin[0])))
    to_page = _to_page(local, origin)
    parts: dict[str, list[Record]] = {}
    for record in part_records:
        parts.setdefault(record.properties["building"], []).append(record)
    features = []
    for building, record in zip(buildings, building_records, strict=True):
        name = record.properties["id"]
        feature: dict[str, Any] = {
            "p": record.properties,
            "h": history(building),
            "parts": [
                {"p": p.properties, "g": _rings(p.local, to_page)} for p in parts.get(name, [])
            ],
        }
        if record.local is not None:
            feature["c"] = to_page(building.point[None])[0]
            feature["e"] = round(float(building.ce90_m) / cosine, 2)
            if record.local.geom_type != "Point":
                feature["g"] = _rings(record.local, to_page)
        if name in crops:
            feature["img"] = _data_url("image/jpeg", crops[name])
        features.append(feature)
    data = {
        "version": __version__,
        "levels": [asdict(level) for level in LEVELS],
        "videos": list(videos),
        "problems": list(problems),
        "buildings": features,
        "tracks": [[] if t is None else to_page(_thin(t)) for t in tracks],
        "origin": origin.round(3).tolist(),
        "cosine": cosine,
        "grid_cell_m": GRID_CELL_M,
        "grid": {
            grid.name(b.point): to_page(grid.ring(b.point))
            for b in buildings
            if b.point is not None
        },
        "mosaics": [
            {
                "box": np.round(np.array(m.box) - np.tile(origin, 2), 3).tolist(),
                "src": _data_url("image/webp", m.encode()),
            }
            for m in mosaics
        ],
    }
    # The only markup that could end the script element early.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    files = resources.files(__name__)
    page = files.joinpath("page.html").read_text(encoding="utf-8")
    for mark, name in _FILES.items():
        page = page.replace(f"/*{mark}*/", files.joinpath(name).read_text(encoding="utf-8"))
    return page.replace("/*DATA*/", text)


def _to_page(local: EnuFrame | None, origin: np.ndarray):
    def convert(xy: np.ndarray) -> list[list[float]]:
        return np.round(local.to_mercator(xy) - origin, 2).tolist()

    return convert


def _rings(shape: Any, to_page) -> list | None:
    """All rings of a geometry; None without one."""
    import shapely

    if shape is None:
        return None
    polygons = [g for g in shapely.get_parts(shape) if g.geom_type == "Polygon"]
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
