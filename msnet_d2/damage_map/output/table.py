"""``buildings.csv`` and ``damage.geojson``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from msnet_d2.damage_map.output.records import BuildingRecord, PartRecord
from msnet_d2.utils.file_io import write_text

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, buildings: Sequence[BuildingRecord]) -> None:
    """One row a building, in UTF-8 with a mark that spreadsheets need to see that it is."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(BuildingRecord.columns())
    for record in buildings:
        writer.writerow([_cell(value) for value in record.row().values()])
    write_text(path, "\ufeff" + text.getvalue())


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Names of videos are the user's, and a table may be opened by others.
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def write_geojson(
    path: Path, buildings: Sequence[BuildingRecord], parts: Sequence[PartRecord]
) -> None:
    """One collection (RFC 7946) of buildings and parts, told apart by the property ``layer``.

    Those without a place have the geometry null.
    """
    import shapely

    features = [
        {
            "type": "Feature",
            "id": r.id,
            "geometry": None
            if r.geometry is None
            else shapely.geometry.mapping(shapely.orient_polygons(r.geometry.wgs84)),
            "properties": {"layer": layer, **r.row()},
        }
        for layer, records in (("building", buildings), ("part", parts))
        for r in records
    ]
    lines = ",\n".join(
        json.dumps(f, allow_nan=False, separators=(",", ":"), ensure_ascii=False) for f in features
    )
    write_text(path, '{"type":"FeatureCollection","features":[\n' + lines + "\n]}\n")
