"""``damage.gpkg``: two layers for GIS programs, written by GDAL through pyogrio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.output.records import Record
from msnet_d2.errors import DependencyError

_INTEGERS = {
    "level_number",
    "parts",
    "observations",
    "passes",
    "best_frame",
}
_FLOATS = {
    "confidence",
    "agreement",
    "vote_slight",
    "vote_severe",
    "vote_debris",
    "damaged_share",
    "first_time_s",
    "last_time_s",
    "best_time_s",
    "latitude",
    "longitude",
    "ce90_m",
    "best_score",
}
_BOOLEANS = {"needs_review"}


def import_pyogrio():
    """Return the module pyogrio.raw.

    Raises:
        DependencyError: if it is not installed.
    """
    try:
        import pyogrio.raw
    except ImportError as error:
        raise DependencyError.for_extra("pyogrio", "map", "writing a GeoPackage") from error
    # It reports every layer that it writes.
    logging.getLogger("pyogrio").setLevel(logging.WARNING)
    return pyogrio.raw


def write_gpkg(
    path: Path,
    buildings: Sequence[Record],
    parts: Sequence[Record],
    building_columns: Sequence[str],
    part_columns: Sequence[str],
) -> None:
    """Write the layers ``buildings`` and ``damaged_parts``, both in WGS 84; either may be empty."""
    _write_layer(path, "buildings", buildings, building_columns, append=False)
    _write_layer(path, "damaged_parts", parts, part_columns, append=True)


def _write_layer(path, layer: str, records, columns: Sequence[str], *, append: bool) -> None:
    import shapely

    raw = import_pyogrio()
    geometry = np.array(
        [None if r.geometry is None else shapely.to_wkb(r.geometry) for r in records], dtype=object
    )
    data, masks = [], []
    for column in columns:
        values = [r.properties[column] for r in records]
        missing = np.array([v is None for v in values], dtype=bool)
        if column in _INTEGERS:
            array = np.array([0 if v is None else v for v in values], dtype=np.int64)
        elif column in _BOOLEANS:
            array = np.array([bool(v) for v in values], dtype=bool)
        elif column in _FLOATS:
            array = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        else:
            array = np.array(values, dtype=object)
        data.append(array)
        masks.append(missing)
    kinds = {g.geom_type for r in records if (g := r.geometry) is not None}
    raw.write(
        path,
        geometry,
        data,
        np.array(columns, dtype=object),
        field_mask=masks,
        layer=layer,
        driver="GPKG",
        geometry_type="Polygon" if kinds <= {"Polygon"} else "Unknown",
        crs="EPSG:4326",
        append=append,
    )
