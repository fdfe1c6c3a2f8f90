"""``damage.kmz``: the map for phones, with a picture of every building inside."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.output.records import BuildingRecord, PartRecord, Record
from msnet_d2.utils.file_io import write_bytes

_SHOWN = (
    ("Level", "level"),
    ("Confidence", "confidence"),
    ("FEMA, indicative", "fema_indicative"),
    ("EMS-98, indicative", "ems98_indicative"),
    ("Damaged share", "damaged_share"),
    ("Observations", "observations"),
    ("Position, CE90 (m)", "ce90_m"),
    ("Needs review", "review_reasons"),
    ("Urgency", "urgency"),
    ("Checked by", "checked_by"),
    ("Note", "note"),
)
# Zip files hold dates; a fixed one makes equal maps equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_kmz(
    path: Path,
    buildings: Sequence[BuildingRecord],
    parts: Sequence[PartRecord],
    crops: Mapping[str, bytes],
    doubts: Sequence[str] = (),
) -> None:
    """Write the placed records; ``crops`` has a JPEG for a building's id, ``doubts`` concern all
    places."""
    kml = ET.Element("kml", xmlns="http://www.opengis.net/kml/2.2")
    document = ET.SubElement(kml, "Document")
    ET.SubElement(document, "name").text = "Damage map: DOUBTFUL" if doubts else "Damage map"
    if doubts:
        ET.SubElement(document, "description").text = "Places may be wrong. " + " ".join(doubts)
    for level in LEVELS:
        _style(document, level)
    placed = [r for r in buildings if r.geometry is not None]
    for level in reversed(LEVELS):
        members = [r for r in placed if r.level_number == level.number]
        if members:
            folder = ET.SubElement(document, "Folder")
            ET.SubElement(folder, "name").text = f"{level.name} ({len(members)})"
            for record in members:
                _building(folder, record, record.id in crops)
    placed_parts = [r for r in parts if r.geometry is not None]
    if placed_parts:
        folder = ET.SubElement(document, "Folder")
        ET.SubElement(folder, "name").text = "Damaged parts"
        for record in placed_parts:
            mark = _placemark(folder, record, f"part{record.level_number}")
            _geometry(mark, record.geometry.wgs84)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        text = ET.tostring(kml, encoding="utf-8", xml_declaration=True)
        file.writestr(zipfile.ZipInfo("doc.kml", _DATE), text, zipfile.ZIP_DEFLATED)
        for record in placed:
            name = record.id
            if name in crops:
                file.writestr(zipfile.ZipInfo(f"pictures/{name}.jpg", _DATE), crops[name])
    write_bytes(path, archive.getvalue())


def _style(document: ET.Element, level) -> None:
    red, green, blue = (level.color[i : i + 2] for i in (1, 3, 5))
    for kind, alpha, width in (("building", "40", "3"), ("part", "b0", "1")):
        style = ET.SubElement(document, "Style", id=f"{kind}{level.number}")
        line = ET.SubElement(style, "LineStyle")
        ET.SubElement(line, "color").text = f"ff{blue}{green}{red}"
        ET.SubElement(line, "width").text = width
        ET.SubElement(
            ET.SubElement(style, "PolyStyle"), "color"
        ).text = f"{alpha}{blue}{green}{red}"
        ET.SubElement(ET.SubElement(style, "IconStyle"), "color").text = f"ff{blue}{green}{red}"


def _placemark(folder: ET.Element, record: Record, style: str) -> ET.Element:
    mark = ET.SubElement(folder, "Placemark", id=record.id)
    ET.SubElement(mark, "name").text = f"{record.id} {record.level}"
    ET.SubElement(mark, "styleUrl").text = f"#{style}"
    return mark


def _building(folder: ET.Element, record: BuildingRecord, has_picture: bool) -> None:
    mark = _placemark(folder, record, f"building{record.level_number}")
    rows = "".join(
        f"<tr><td>{escape(title)}</td><td>{escape(str(getattr(record, key)))}</td></tr>"
        for title, key in _SHOWN
        if getattr(record, key) is not None
    )
    picture = f'<img src="pictures/{record.id}.jpg" width="320"/>'
    ET.SubElement(mark, "description").text = (
        picture if has_picture else ""
    ) + f"<table>{rows}</table>"
    # The point carries the pin, which polygons do not have.
    multi = ET.SubElement(mark, "MultiGeometry")
    point = ET.SubElement(multi, "Point")
    ET.SubElement(point, "coordinates").text = f"{record.longitude},{record.latitude}"
    if record.geometry.wgs84.geom_type != "Point":
        _geometry(multi, record.geometry.wgs84)


def _geometry(parent: ET.Element, shape: Any) -> None:
    import shapely

    polygons = [g for g in shapely.get_parts(shape) if g.geom_type == "Polygon"]
    if len(polygons) > 1:
        parent = ET.SubElement(parent, "MultiGeometry")
    for polygon in polygons:
        element = ET.SubElement(parent, "Polygon")
        rings = [("outerBoundaryIs", polygon.exterior)]
        rings += [("innerBoundaryIs", ring) for ring in polygon.interiors]
        for name, ring in rings:
            line = ET.SubElement(ET.SubElement(element, name), "LinearRing")
            ET.SubElement(line, "coordinates").text = " ".join(
                f"{x:.7f},{y:.7f}" for x, y in ring.coords
            )
