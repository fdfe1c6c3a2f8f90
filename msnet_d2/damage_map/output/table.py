"""``buildings.csv`` and ``damage.geojson``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.damage_map.output.records import BuildingRecord, PartRecord
from msnet_d2.utils.file_io import write_text
from msnet_d2.utils.text import printable

# A spreadsheet takes a cell that begins with one of these signs for a formula, full-width ones too.
# Which character ends a cell depends on the country that it is set to.
_FORMULA = re.compile(r"""((?:^|[,;\t|\r\n])[\s"']*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])""")


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
    if isinstance(value, str):
        return printable(_FORMULA.sub(r"\1'", value))
    return value


def write_geojson(
    path: Path,
    buildings: Sequence[BuildingRecord],
    parts: Sequence[PartRecord],
    doubts: Sequence[str] = (),
) -> None:
    """One collection (RFC 7946) of buildings and parts, told apart by the property ``layer``.

    Those without a place have the geometry null. ``doubts`` about all places stand beside the
    features, in a member of that name.
    """
    import shapely

    features = [
        {
            "type": "Feature",
            "id": r.id,
            "geometry": None
            if r.geometry is None
            else shapely.geometry.mapping(shapely.orient_polygons(split_at_180(r.geometry.wgs84))),
            "properties": {"layer": layer, **r.row()},
        }
        for layer, records in (("building", buildings), ("part", parts))
        for r in records
    ]
    lines = ",\n".join(
        json.dumps(f, allow_nan=False, separators=(",", ":"), ensure_ascii=False) for f in features
    )
    members = f'"doubts":{json.dumps(list(doubts), ensure_ascii=False)},' if doubts else ""
    write_text(path, f'{{"type":"FeatureCollection",{members}"features":[\n{lines}\n]}}\n')


def split_at_180(shape: Any) -> Any:
    """The geometry with what crosses the antimeridian cut there (RFC 7946, section 3.1.9).

    Its longitudes may run beyond 180 degrees, or jump from one side to the other.
    """
    import shapely

    low, _, high, _ = shapely.bounds(shape)
    if high - low > 180:  # 179.9 and -179.9 are neighbours
        shape = shapely.transform(shape, lambda c: np.column_stack([c[:, 0] % 360, c[:, 1]]))
        low, _, high, _ = shapely.bounds(shape)
    if high <= 180:
        return shape
    east = shapely.intersection(shape, shapely.box(low - 1, -90, 180, 90))
    west = shapely.intersection(shape, shapely.box(180, -90, high + 1, 90))
    west = shapely.transform(west, lambda c: c - [360, 0])
    pieces = [p for g in (east, west) for p in shapely.get_parts(g) if p.geom_type == "Polygon"]
    return shapely.MultiPolygon(pieces)
