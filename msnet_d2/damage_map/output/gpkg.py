"""``damage.gpkg``: two layers for GIS programs, written by GDAL through pyogrio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.output.records import BuildingRecord, PartRecord, Record
from msnet_d2.errors import DependencyError, OutputError

# Type of a column: what stands where a value is missing, and the type in the layer.
_IN_LAYERS = {
    int: (0, np.int64),
    bool: (False, bool),
    float: (np.nan, np.float64),
    str: (None, object),
}


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


def import_pyogrio_errors() -> tuple[type[Exception], ...]:
    """What pyogrio raises if a file cannot be written."""
    from pyogrio import errors

    return errors.DataSourceError, errors.DataLayerError, errors.FeatureError, errors.GeometryError


def write_gpkg(
    path: Path, buildings: Sequence[BuildingRecord], parts: Sequence[PartRecord]
) -> None:
    """Write the layers ``buildings`` and ``damaged_parts``, both in WGS 84; either may be empty.

    Raises:
        OutputError: if it cannot be written, such as to a full disk.
    """
    errors = import_pyogrio_errors()
    try:
        _write_layer(path, "buildings", BuildingRecord, buildings, append=False)
        _write_layer(path, "damaged_parts", PartRecord, parts, append=True)
    except errors as error:
        reason = " ".join(str(error).split())[:200]
        raise OutputError(
            f"cannot write {path}: {reason}. Free some space or choose another place"
        ) from error


def _write_layer(
    path: Path, layer: str, kind: type[Record], records: Sequence[Record], *, append: bool
) -> None:
    import shapely

    raw = import_pyogrio()
    shapes = [None if r.geometry is None else r.geometry.wgs84 for r in records]
    wkb = np.array([None if s is None else shapely.to_wkb(s) for s in shapes], dtype=object)
    columns = kind.columns()
    data, masks = [], []
    for name, of_type in columns.items():
        values = [getattr(r, name) for r in records]
        missing, dtype = _IN_LAYERS[of_type]
        data.append(np.array([missing if v is None else v for v in values], dtype=dtype))
        masks.append(np.array([v is None for v in values], dtype=bool))
    kinds = {s.geom_type for s in shapes if s is not None}
    raw.write(
        path,
        wkb,
        data,
        np.array(list(columns), dtype=object),
        field_mask=masks,
        layer=layer,
        driver="GPKG",
        geometry_type="Polygon" if kinds <= {"Polygon"} else "Unknown",
        crs="EPSG:4326",
        append=append,
    )
