"""Height of the ground: rasters of elevation, and where rays meet them."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msnet_d2.errors import InputError
from msnet_d2.utils import geodesy
from msnet_d2.utils.file_io import leads_out, read_regular_file
from msnet_d2.utils.image_io import DEFAULT_LIMITS, check_size

if TYPE_CHECKING:
    from msnet_d2.damage_map.telemetry.telemetry import Telemetry

# Longest reach of a ray over terrain, and the most steps along it.
MAX_RANGE_M = 10_000.0
MAX_STEPS = 4096
_BISECTIONS = 40
# Steps times rays that are looked at together.
_MARCH_CELLS = 2_000_000
# GeoTIFF: tags and keys that a simple one has.
_PIXEL_SCALE, _TIE_POINT, _TRANSFORM, _GEO_KEYS, _NO_DATA = 33550, 33922, 34264, 34735, 42113
_RASTER_TYPE, _GEOGRAPHIC_CRS, _PROJECTED_CRS = 1025, 2048, 3072
_ASCII_KEYS = {
    *("ncols", "nrows", "cellsize", "dx", "dy", "nodata_value"),
    *("xllcorner", "yllcorner", "xllcenter", "yllcenter"),
}
_MAX_BYTES = 1 << 27
_MAX_PRJ_BYTES = 1 << 16
_CONVERT = "convert it by: gdal_translate -of AAIGrid IN OUT.asc"


@dataclass(frozen=True)
class ElevationGrid:
    """A raster of heights in metres above sea level.

    Attributes:
        values: heights (H, W), the first row northernmost; NaN where unknown.
        west: x of the centres of the first column, in the coordinates of ``crs``.
        north: y of the centres of the first row.
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
        """Read an ESRI ASCII grid (.asc) or a simple GeoTIFF (.tif).

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
        # The half cell between the outer centres and the edge belongs to the raster.
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
        per_metre = np.array(
            [np.hypot((x[i] - x0) / self.dx, (y[i] - y0) / self.dy) for i in (0, 1)]
        )
        return float(1 / np.max(per_metre)) if (per_metre > 0).any() else 1.0


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
        centred = "xllcenter" in header
        west = float(header["xllcenter"] if centred else header["xllcorner"])
        south = float(header["yllcenter"] if centred else header["yllcorner"])
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
    if not centred:
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
    """Read a north-up GeoTIFF of one band with a coordinate system of an EPSG code, by Pillow."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters raises, or shows below
            with Image.open(io.BytesIO(raw), formats=["TIFF"]) as image:
                check_size(image, DEFAULT_LIMITS)
                names = (_PIXEL_SCALE, _TIE_POINT, _TRANSFORM, _GEO_KEYS, _NO_DATA)
                tags = {tag: image.tag_v2.get(tag) for tag in names}
                bands = len(image.getbands())
                values = np.array(image, dtype=float)
    except Exception as error:  # Pillow raises whatever its decoders do
        raise InputError(
            f"{source}: not a TIFF that can be read here ({error}); {_CONVERT}"
        ) from error
    if bands != 1:
        raise InputError(f"{source}: {bands} bands; expected heights in one; {_CONVERT}")
    scale, tie, keys = tags[_PIXEL_SCALE], tags[_TIE_POINT], tags[_GEO_KEYS]
    if not scale or not tie or len(tie) < 6 or len(scale) < 2 or tags[_TRANSFORM]:
        raise InputError(f"{source}: not placed as a simple north-up GeoTIFF; {_CONVERT}")
    entries = (
        {}
        if keys is None
        else {keys[i]: keys[i + 3] for i in range(4, len(keys) - 3, 4) if keys[i + 1] == 0}
    )
    code = entries.get(_PROJECTED_CRS) or entries.get(_GEOGRAPHIC_CRS)
    if crs is None and code in (None, 32767):
        raise InputError(f"{source}: its coordinate system has no EPSG code; give `elevation_crs`")
    # A value is that of its cell, unless the raster type (2) says that it is of the tie point.
    half = 0.0 if entries.get(_RASTER_TYPE) == 2 else 0.5
    west = tie[3] + (half - tie[0]) * scale[0]
    north = tie[4] - (half - tie[1]) * scale[1]
    try:
        no_data = float(str(tags[_NO_DATA]).strip("\0 ")) if tags[_NO_DATA] else None
    except ValueError:
        no_data = None
    if no_data is not None:
        values[np.isclose(values, no_data, rtol=1e-6)] = np.nan
    return ElevationGrid(values, west, north, scale[0], scale[1], crs or f"EPSG:{code}", source)
