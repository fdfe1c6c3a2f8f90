"""Height of the ground: rasters of elevation, and where rays meet them."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msnet_d2.errors import DependencyError, InputError
from msnet_d2.utils import geodesy
from msnet_d2.utils.file_io import leads_out, read_regular_file
from msnet_d2.utils.image_io import DEFAULT_LIMITS

if TYPE_CHECKING:
    from msnet_d2.damage_map.telemetry.telemetry import Telemetry

# Longest reach of a ray over terrain, and the most steps along it.
MAX_RANGE_M = 10_000.0
MAX_STEPS = 4096
_BISECTIONS = 40
# Steps times rays that are looked at together.
_MARCH_CELLS = 2_000_000
_ASCII_KEYS = {
    *("ncols", "nrows", "cellsize", "dx", "dy", "nodata_value"),
    *("xllcorner", "yllcorner", "xllcenter", "yllcenter"),
}
_MAX_BYTES = 1 << 27
_MAX_PRJ_BYTES = 1 << 16


@dataclass(frozen=True)
class ElevationGrid:
    """A raster of heights in metres above sea level.

    Attributes:
        values: heights (H, W), the first row northernmost; NaN where unknown.
        west: x of the centers of the first column, in the coordinates of ``crs``.
        north: y of the centers of the first row.
        dx: width of a cell.
        dy: height of a cell.
        crs: coordinate reference system, as pyproj takes it ("EPSG:4326", "EPSG:32632", WKT).
        source: name of the file, for messages.
    """

    values: np.ndarray
    west: float
    north: float
    dx: float
    dy: float
    crs: str = "EPSG:4326"
    source: str = "elevation raster"

    def __post_init__(self):
        if self.values.ndim != 2 or min(self.values.shape) < 2:
            raise InputError(
                f"{self.source}: elevations of shape {self.values.shape}: expected a "
                "grid of 2 x 2 or more"
            )
        if not (self.dx > 0 and self.dy > 0 and np.isfinite([self.west, self.north]).all()):
            raise InputError(f"{self.source}: cells of {self.dx} x {self.dy} cannot be placed")
        if not np.isfinite(self.values).any():
            raise InputError(f"{self.source}: no cell has an elevation")
        object.__setattr__(self, "_transformer", self._make_transformer())

    def _make_transformer(self):
        pyproj = geodesy.import_pyproj()
        try:
            crs = pyproj.CRS.from_user_input(self.crs)
            if crs.is_geographic:
                return None
            return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        except pyproj.exceptions.ProjError as error:
            raise InputError(
                f"{self.source}: coordinate system {str(self.crs)[:80]!r} is not known ({error})"
            ) from error

    @classmethod
    def read(cls, path: Path | str, crs: str | None = None) -> ElevationGrid:
        """Read an ESRI ASCII grid (.asc) or a GeoTIFF (.tif, north up, one band).

        Args:
            path: the file. An .asc takes its coordinate system from the .prj beside it.
            crs: coordinate system, where the file does not say.

        Raises:
            InputError: if it cannot be read, or its coordinate system is not known.
        """
        path = Path(path)
        try:
            raw = read_regular_file(path, _MAX_BYTES)
        except OSError as error:
            raise InputError(
                f"{path}: the elevation raster cannot be read ({error.strerror})"
            ) from error
        if raw[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _read_geotiff(raw, path.name, crs)
        beside = path.with_suffix(".prj")
        if crs is None and beside.exists():
            if leads_out(beside, path.parent):
                raise InputError(f"{beside} is a link to another folder, which is not followed")
            crs = read_regular_file(beside, _MAX_PRJ_BYTES).decode("utf-8", errors="replace")
        return _read_ascii(raw.decode("latin-1"), path.name, crs)

    def to_xy(self, lat, lon) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the raster, each (N,), of places in degrees."""
        lat, lon = np.asarray(lat, float), np.asarray(lon, float)
        if self._transformer is not None:
            return self._transformer.transform(lon, lat)
        # Rasters run from -180 or from 0; either way on the side of the raster's middle.
        middle = self.west + self.dx * self.values.shape[1] / 2
        return middle + geodesy.wrap_degrees(lon - middle), lat

    def sample(self, x, y) -> np.ndarray:
        """Heights (N,) at coordinates of the raster, bilinear; NaN outside and beside unknowns."""
        column, row = (np.asarray(x) - self.west) / self.dx, (self.north - np.asarray(y)) / self.dy
        rows, columns = self.values.shape
        # The half cell between the outer centers and the edge belongs to the raster.
        inside = (column >= -0.5) & (column <= columns - 0.5) & (row >= -0.5) & (row <= rows - 0.5)
        column = np.clip(np.where(inside, column, 0), 0, columns - 1)
        row = np.clip(np.where(inside, row, 0), 0, rows - 1)
        left = np.minimum(column.astype(int), columns - 2)
        top = np.minimum(row.astype(int), rows - 2)
        across, along = column - left, row - top
        height, total = np.zeros(column.shape), np.zeros(column.shape)
        for down, weight_down in ((0, 1 - along), (1, along)):
            for right, weight_right in ((0, 1 - across), (1, across)):
                weight = weight_down * weight_right
                # A neighbour without weight may be unknown.
                value = self.values[top + down, left + right]
                height += np.where(weight > 1e-9, weight * value, 0.0)
                total += np.where(weight > 1e-9, weight, 0.0)
        return np.where(inside, height / total, np.nan)

    def at(self, lat, lon) -> np.ndarray:
        """Heights (N,) at places in degrees; NaN outside."""
        return self.sample(*self.to_xy(lat, lon))

    def cell_m(self, lat: float, lon: float) -> float:
        """Width of a cell in metres near a place."""
        there = geodesy.destination(lat, lon, np.array([0.0, 90.0]), 1.0)
        x0, y0 = self.to_xy(lat, lon)
        x, y = self.to_xy(*there)
        per_meter = np.array(
            [np.hypot((x[i] - x0) / self.dx, (y[i] - y0) / self.dy) for i in (0, 1)]
        )
        return float(1 / np.max(per_meter)) if (per_meter > 0).any() else 1.0


@dataclass(frozen=True)
class Terrain:
    """Ground by an elevation raster, in heights above the take-off point.

    The raster's height at the take-off point is what heights above take-off are counted from, so
    its vertical datum does not matter.
    """

    grid: ElevationGrid
    takeoff_m: float

    @classmethod
    def for_flight(
        cls, grid: ElevationGrid, telemetry: Telemetry, takeoff_m: float | None = None
    ) -> Terrain:
        """The terrain of a flight; ``takeoff_m`` is the take-off point's height if it is known.

        Raises:
            InputError: if the raster does not have the take-off point.
        """
        if takeoff_m is None:
            takeoff_m = float(grid.at(*telemetry.home))
            if not np.isfinite(takeoff_m):
                raise InputError(
                    f"{grid.source}: no elevation at the take-off point "
                    f"({telemetry.home[0]:.5f}, {telemetry.home[1]:.5f}); give a raster that has "
                    "it, or `takeoff_elevation` in its metres"
                )
        return cls(grid, float(takeoff_m))

    def height(self, lat, lon) -> np.ndarray:
        """Height of the ground (N,) above take-off; NaN outside the raster."""
        return self.grid.at(lat, lon) - self.takeoff_m

    def intersect(
        self, lat: float, lon: float, height: float, azimuth: np.ndarray, cot: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where rays first meet the ground.

        Args:
            lat: of the camera.
            lon: of the camera.
            height: of the camera above take-off.
            azimuth: of the rays (N,), degrees.
            cot: metres that each ray goes sideways for one down (N,), not negative.

        Returns:
            Distance from the camera's foot (N,), NaN where a ray leaves the raster or meets
            nothing within ``MAX_RANGE_M``; and the slope of the ground there to the east and to
            the north (N, 2).
        """
        distance = np.full(azimuth.shape, np.nan)
        lowest = float(np.nanmin(self.grid.values)) - self.takeoff_m
        start = float(self.height(lat, lon))
        if np.isfinite(start) and start < height and azimuth.size:
            # No ray can go on below the lowest ground; a little more for the earth's curvature.
            reach = np.clip((height - lowest) * cot * 1.02 + 1.0, 1.0, MAX_RANGE_M)
            steps = int(np.ceil(2 * reach.max() / self.grid.cell_m(lat, lon)))
            steps = int(np.clip(steps, 16, MAX_STEPS))
            size = max(_MARCH_CELLS // steps, 1)
            for i in range(0, azimuth.size, size):
                part = slice(i, i + size)
                distance[part] = self._march(
                    lat, lon, height, azimuth[part], cot[part], reach[part], steps
                )
        return distance, self._slope(lat, lon, azimuth, distance)

    def _march(self, lat, lon, height, azimuth, cot, reach, steps) -> np.ndarray:
        # Along a ray the raster's coordinates are straight to well below a cell.
        x0, y0 = self.grid.to_xy(lat, lon)
        x1, y1 = self.grid.to_xy(*geodesy.destination(lat, lon, azimuth, reach))

        def above(share: np.ndarray) -> np.ndarray:
            """Height of the ray above the ground at ``share`` (K, N) of its reach."""
            d = share * reach
            ground = self.grid.sample(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)
            drop = d**2 / (2 * geodesy.EFFECTIVE_RADIUS_M)
            with np.errstate(divide="ignore", invalid="ignore"):
                ray = height - np.where(cot > 0, d / cot, np.where(d > 0, np.inf, 0.0))
            return ray - (ground - self.takeoff_m - drop)

        share = np.linspace(0, 1, steps + 1)[:, None]
        gap = above(np.broadcast_to(share, (steps + 1, azimuth.size)))
        stop = ~(gap > 0)  # below the ground, or unknown
        first = np.argmax(stop, axis=0)
        # The first known height at or below the ground, with known ground all the way there.
        met = stop.any(axis=0) & np.isfinite(gap[first, np.arange(azimuth.size)])
        low, high = share[np.maximum(first - 1, 0), 0], share[first, 0]
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            over = above(middle[None])[0] > 0
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        return np.where(met, (low + high) / 2 * reach, np.nan)

    def _slope(self, lat, lon, azimuth, distance) -> np.ndarray:
        """Slope (N, 2) of the ground to the east and the north; 0 where unknown."""
        there = geodesy.destination(lat, lon, azimuth, distance)
        step = self.grid.cell_m(lat, lon)
        slopes = [
            (
                self.grid.at(*geodesy.destination(*there, direction, step / 2))
                - self.grid.at(*geodesy.destination(*there, direction + 180.0, step / 2))
            )
            / step
            for direction in (90.0, 0.0)
        ]
        return np.nan_to_num(np.stack(slopes, axis=-1))


def _read_ascii(text: str, source: str, crs: str | None) -> ElevationGrid:
    """Parse an ESRI ASCII grid."""
    header = {
        key.lower(): value
        for key, value in re.findall(r"^\s*([A-Za-z_]{2,})[ \t]+(\S+)[ \t]*\r?$", text[:2000], re.M)
        if key.lower() in _ASCII_KEYS
    }
    try:
        columns, rows = int(header["ncols"]), int(header["nrows"])
        cell_x = float(header.get("cellsize") or header["dx"])
        cell_y = float(header.get("cellsize") or header["dy"])
        centerd = "xllcenter" in header
        west = float(header["xllcenter"] if centerd else header["xllcorner"])
        south = float(header["yllcenter"] if centerd else header["yllcorner"])
        no_data = float(header.get("nodata_value", -9999))
        # Numbers at once, without the words: a cell of three bytes would take sixty.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # over what is no number
            heights = np.fromstring(_below_header(text), dtype=float, sep=" ")
        if len(heights) != rows * columns or rows < 1:
            raise ValueError(f"{len(heights)} heights for {rows} rows of {columns}")
        values = heights.reshape(rows, columns)
    except (KeyError, ValueError, OverflowError) as error:
        raise InputError(
            f"{source}: not an ESRI ASCII grid ({type(error).__name__}: {error}); expected ncols, "
            "nrows, xllcorner, yllcorner, cellsize and then the heights"
        ) from error
    if not centerd:
        west, south = west + cell_x / 2, south + cell_y / 2
    values[values == no_data] = np.nan
    north = south + (rows - 1) * cell_y
    if crs is None:
        degrees = not abs(west) > 360 and not max(abs(south), abs(north)) > 90 and not cell_x >= 0.1
        if not degrees:
            raise InputError(
                f"{source}: its coordinate system is not known; put its .prj beside it or give "
                "`elevation_crs`, for example EPSG:32632"
            )
        crs = "EPSG:4326"
    return ElevationGrid(values, west, north, cell_x, cell_y, crs, source)


def _below_header(text: str) -> str:
    """What follows the last line of the header."""
    keys = "|".join(sorted(_ASCII_KEYS))
    lines = re.finditer(rf"^[ \t]*(?:{keys})[ \t].*$", text[:2000], re.M | re.I)
    return text[max((line.end() for line in lines), default=0) :]


def _read_geotiff(raw: bytes, source: str, crs: str | None) -> ElevationGrid:
    """Read a north-up GeoTIFF of one band.

    GDAL sees these bytes alone, and as a GeoTIFF: it opens no file beside it, and no format that
    leads to others.
    """
    rasterio = import_rasterio()
    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.MemoryFile(raw) as memory,
        ):
            warnings.simplefilter("ignore")  # of what is missing: looked at below
            with memory.open(driver=["GTiff"]) as dataset:
                _check_layout(dataset, source)
                values = dataset.read(1, masked=True, out_dtype="float64").filled(np.nan)
                values = values * dataset.scales[0] + dataset.offsets[0]
                transform, own_crs = dataset.transform, dataset.crs
    except rasterio.errors.RasterioError as error:
        reason = str(error.__cause__ or error).replace(str(getattr(memory, "name", "")), source)
        raise InputError(f"{source}: not a GeoTIFF that can be read ({reason})") from error
    if crs is None and own_crs is None:
        raise InputError(f"{source}: its coordinate system is not known; give `elevation_crs`")
    if crs is None:
        code = own_crs.to_epsg()
        crs = own_crs.to_wkt() if code is None else f"EPSG:{code}"
    # GDAL's transform leads to the outer corner of the first cell, also where the file's tie point
    # is a cell's center.
    west, north = transform @ (0.5, 0.5)
    return ElevationGrid(values, west, north, transform.a, -transform.e, crs, source)


def _check_layout(dataset, source: str) -> None:
    """See that a raster is one of heights that can be placed, before any of it is decoded."""
    if dataset.count != 1:
        raise InputError(f"{source}: {dataset.count} bands; expected heights in one")
    blocks = max(rows * columns for rows, columns in dataset.block_shapes)
    if max(dataset.width * dataset.height, blocks) > DEFAULT_LIMITS.max_pixels:
        raise InputError(
            f"{source}: {dataset.width} x {dataset.height} cells, over the limit of "
            f"{DEFAULT_LIMITS.max_pixels}; cut out the flight's surroundings"
        )
    transform = dataset.transform
    if transform.is_identity or transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(
            f"{source}: not placed, or not north up; turn it by: gdalwarp -t_srs EPSG:4326 IN OUT"
        )


def import_rasterio():
    """Return the module rasterio.

    Raises:
        DependencyError: if it is not installed.
    """
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise DependencyError.for_extra("rasterio", "map", "reading a GeoTIFF") from error
    # GDAL's own messages; what matters is raised.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    return rasterio
