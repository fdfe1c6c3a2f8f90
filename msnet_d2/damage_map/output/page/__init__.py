"""``index.html``: the map as one page that needs no network.

The page is put together from the files beside this one; everything it shows is inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np

from msnet_d2 import __version__
from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.grid import GRID_CELL_M
from msnet_d2.damage_map.output.photos import Pictures
from msnet_d2.damage_map.output.records import Geometry, MapContent, PartRecord

# Metres east and north (N, 2) to the page's coordinates: metres of web maps from its origin.
ToPage = Callable[[np.ndarray], list[list[float]]]

_FILES = {"STYLE": "style.css", "MAP": "map.js", "APP": "app.js", "PRINT": "print.js"}


def build_page(content: MapContent, pictures: Pictures) -> str:
    """The page as text."""
    enu = content.enu
    origin, cosine = np.zeros(2), 1.0
    if enu is not None:
        origin = enu.to_mercator(np.zeros((1, 2)))[0]
        cosine = float(np.cos(np.radians(enu.origin[0])))
    to_page = _to_page(enu, origin)
    grid = content.grid
    data = {
        "version": __version__,
        "levels": [asdict(level) for level in LEVELS],
        "videos": [asdict(video) for video in content.videos],
        "problems": list(content.problems),
        "doubts": list(content.doubts),
        "buildings": _features(content, pictures.crops, to_page, cosine),
        "tracks": [[] if t is None else to_page(_thin(t)) for t in content.flight_lines],
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
    # The only markup that could end the script element early.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    files = resources.files(__name__)
    page = files.joinpath("page.html").read_text(encoding="utf-8")
    for mark, name in _FILES.items():
        page = page.replace(f"/*{mark}*/", files.joinpath(name).read_text(encoding="utf-8"))
    for mark, kind in (("/*STYLES*/", "style"), ("/*SCRIPTS*/", "script")):
        page = page.replace(mark, _digests(page, kind))
    return page.replace("/*DATA*/", text)


def _digests(page: str, kind: str) -> str:
    """What a content security policy says of the elements of a kind: these, and no others."""
    contents = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(d).decode('ascii')}'" for d in digests)


def _features(
    content: MapContent, crops: Mapping[str, bytes], to_page: ToPage, cosine: float
) -> list[dict[str, Any]]:
    """What the page has of each building: ``p`` its row, ``h`` its history, ``parts``, and with a
    place ``c`` its center, ``e`` its CE90 in metres of web maps, ``g`` the rings of its outline."""
    parts: dict[str, list[PartRecord]] = {}
    for part in content.parts:
        parts.setdefault(part.building, []).append(part)
    features = []
    for building, record in zip(content.buildings, content.records, strict=True):
        feature: dict[str, Any] = {
            "p": record.row(),
            "h": _history(building),
            "parts": [
                {"p": p.row(), "g": _rings(p.geometry, to_page)} for p in parts.get(record.id, [])
            ],
        }
        if record.geometry is not None:
            feature["c"] = to_page(building.point[None])[0]
            feature["e"] = round(building.ce90_m / cosine, 2)
            if record.geometry.enu.geom_type != "Point":
                feature["g"] = _rings(record.geometry, to_page)
        if record.id in crops:
            feature["img"] = _data_url("image/jpeg", crops[record.id])
        features.append(feature)
    return features


def _history(building: Building) -> list[dict[str, Any]]:
    """One entry for each observation; ``video`` is its place in the page's list of videos."""
    return [
        {
            "video": o.video.order,
            "frame": o.frame,
            "time_s": round(o.time_s, 3),
            "level": o.worst.level,
            "score": round(o.worst.score, 4),
            "score_raw": None if o.worst.score_raw is None else round(o.worst.score_raw, 4),
        }
        for o in building.observations
    ]


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
