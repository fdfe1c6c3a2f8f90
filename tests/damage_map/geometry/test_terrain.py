"""Elevation rasters: reading them, heights between cells, and rays that meet a slope."""

import numpy as np
import pytest

from msnet_d2.damage_map import (
    Camera,
    ElevationGrid,
    GroundProjector,
    ProjectionFailure,
    TelemetrySample,
    Terrain,
)
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError
from msnet_d2.utils import geodesy

CAMERA = Camera.from_hfov(90, 1000, 1000)
# UTM zone 32, whose central meridian is 9° E; there easting is 500 km and scale 0.9996.
UTM = "EPSG:32632"
LAT, LON, NORTHING = 48.0, 9.0, 5316300.0


def plane(slope_east: float, slope_north: float, size=101, cell=20.0) -> ElevationGrid:
    """Ground that is 500 m high at (LAT, LON) and rises by the slopes."""
    geod_north = ElevationGrid(np.zeros((2, 2)), 0, 0, 1, 1, UTM).to_xy(LAT, LON)[1]
    half = size // 2 * cell
    x = 500_000 - half + np.arange(size) * cell
    y = geod_north + half - np.arange(size) * cell
    # Slopes per true metre: a map metre is 1 / 0.9996 of one.
    values = 500 + (slope_east * (x - 500_000) + slope_north * (y - geod_north)[:, None]) / 0.9996
    return ElevationGrid(values, x[0], y[0], cell, cell, UTM)


def project(grid, pixel=(500, 500), **kwargs):
    sample = TelemetrySample(0, LAT, LON, **{"alt": 100.0, "yaw": 90.0, "pitch": -45.0, **kwargs})
    projector = GroundProjector(CAMERA, sample, terrain=Terrain(grid, 500.0))
    return projector, projector.to_ground([pixel])


@pytest.mark.parametrize(
    ("slope", "yaw", "distance"),
    [
        # Looking 45 degrees down from 100 m: 100 - d = slope * d, so d = 100 / (1 + slope).
        ((0.0, 0.0), 90, 100.0),
        ((0.25, 0.0), 90, 80.0),
        ((-0.2, 0.0), 90, 125.0),
        ((0.25, 0.0), 0, 100.0),  # across the slope
        ((0.0, 0.25), 0, 80.0),
        ((0.0, 0.25), 180, 400 / 3),
    ],
)
def test_a_slope_is_met_where_it_is(slope, yaw, distance):
    projector, points = project(plane(*slope), yaw=float(yaw))
    azimuth, found = geodesy.azimuth_and_distance(LAT, LON, *points.lat_lon[0])
    assert found == pytest.approx(distance, abs=0.05)
    assert geodesy.wrap_degrees(azimuth - yaw) == pytest.approx(0, abs=0.01)
    assert projector.to_pixels(points.lat_lon) == pytest.approx(np.array([[500, 500]]), abs=0.1)


def test_flat_terrain_equals_flat_ground():
    pixels = np.array([[500, 500], [100, 900], [990, 200], [500, 999.999]])
    flat = plane(0, 0, size=401)
    sample = TelemetrySample(0, LAT, LON, alt=100.0, yaw=33.0, pitch=-60.0)
    over = GroundProjector(CAMERA, sample, terrain=Terrain(flat, 500.0)).to_ground(pixels)
    plain = GroundProjector(CAMERA, sample).to_ground(pixels)
    assert over.lat_lon == pytest.approx(plain.lat_lon, abs=1e-7)  # a centimetre
    assert over.ce90_m == pytest.approx(plain.ce90_m, rel=1e-3)


def test_a_ridge_hides_what_lies_behind():
    # A wall of 60 m, 40 m wide, 100 m east, on flat ground. Looking 30 degrees down from 100 m the
    # ray would meet the ground at 173 m; at 90 m, where the wall begins to rise, it is at 48 m.
    grid = plane(0, 0, size=101, cell=5.0)
    x = grid.west + np.arange(101) * 5.0 - 500_000
    grid.values[:, (x > 97) & (x < 140)] += 60
    _, points = project(grid, pitch=-30.0)
    _, distance = geodesy.azimuth_and_distance(LAT, LON, *points.lat_lon[0])
    # Between the cells at 95 m (0) and 100 m (60 m) the wall rises 12 m a metre:
    # 100 - 0.57735 d = 12 (d - 95) gives d = 98.61.
    assert distance == pytest.approx(98.61, abs=0.05)


def test_a_rising_slope_makes_the_error_smaller():
    # The ground that faces the camera is met more squarely.
    _, rising = project(plane(0.5, 0))
    _, flat = project(plane(0, 0))
    _, falling = project(plane(-0.5, 0))
    assert rising.ce90_m[0] < flat.ce90_m[0] < falling.ce90_m[0]


def test_outside_the_raster_is_refused():
    small = plane(0, 0, size=5)  # 40 m each way
    _, points = project(small)
    assert points.failure.tolist() == [ProjectionFailure.OUTSIDE_TERRAIN]
    _, points = project(small, pitch=-80.0)
    assert points.failure.tolist() == [ProjectionFailure.NONE]
    holed = plane(0, 0)
    holed.values[:, 52:54] = np.nan  # 40 to 60 m east: the ray passes over what is not known
    _, points = project(holed)
    assert points.failure.tolist() == [ProjectionFailure.OUTSIDE_TERRAIN]
    _, points = project(plane(0, 0), alt=-2.0)
    assert points.failure.tolist() == [ProjectionFailure.BELOW_GROUND]
    _, points = project(plane(-1.0, 0), alt=50.0)  # the slope falls as fast as the ray
    assert points.failure.tolist() == [ProjectionFailure.OUTSIDE_TERRAIN]


def test_bilinear_heights():
    grid = ElevationGrid(np.array([[0.0, 10.0], [20.0, 30.0]]), 8.0, 47.0, 0.5, 0.5)
    # Cell centres: 8.0 and 8.5 east, 47.0 and 46.5 north.
    assert grid.at([47.0, 46.5, 46.75, 46.75], [8.5, 8.0, 8.25, 8.0]).tolist() == [10, 20, 15, 10]
    # Half a cell further the edge's height holds, beyond that nothing.
    assert grid.at([47.2], [8.0]).tolist() == [0.0]
    assert np.isnan(grid.at([47.3, 47.0], [8.0, 7.7])).all()


def test_a_raster_beyond_the_antimeridian():
    grid = ElevationGrid(np.arange(4.0).reshape(2, 2), 179.9, -17.0, 0.2, 0.2)
    # The second column's centre is 180.1, which is -179.9.
    assert grid.at([-17.0], [-179.9]) == pytest.approx([1.0])


def telemetry(lat=47.0, lon=8.0) -> Telemetry:
    rows = [{"time_s": t, "lat": lat, "lon": lon + t * 1e-5, "alt": 60.0} for t in range(3)]
    return Telemetry.from_log(
        FlightLog.from_rows(rows, dialect="gpx", source="a", time_is_video=True)
    )


def test_takeoff_height_comes_from_the_raster():
    grid = ElevationGrid(np.full((3, 3), 440.0), 7.9, 47.1, 0.1, 0.1)
    terrain = Terrain.for_flight(grid, telemetry())
    assert terrain.takeoff_m == pytest.approx(440.0)
    assert terrain.height(47.0, 8.0) == pytest.approx(0.0, abs=1e-9)
    assert Terrain.for_flight(grid, telemetry(), takeoff_m=430.0).height(
        47.0, 8.0
    ) == pytest.approx(10)
    with pytest.raises(InputError, match="no elevation at the take-off point .50.00000, 8.00000"):
        Terrain.for_flight(grid, telemetry(lat=50.0))


ASC = """ncols 3
nrows 2
xllcorner 8.0
yllcorner 47.0
cellsize 0.01
NODATA_value -9999
1 2 3
4 -9999 6
"""


def test_ascii_grid(tmp_path):
    path = tmp_path / "ground.asc"
    path.write_text(ASC)
    grid = ElevationGrid.read(path)
    # The corner's cell centre is half a cell in: 8.005, and 47.005 in the last row.
    assert (grid.west, grid.north, grid.dx) == pytest.approx((8.005, 47.015, 0.01))
    assert grid.at([47.015, 47.005], [8.015, 8.005]) == pytest.approx([2.0, 4.0])
    assert np.isnan(grid.values[1, 1])
    path.write_text(ASC.replace("corner", "center").replace("\n", "\r\n"))
    assert ElevationGrid.read(path).west == pytest.approx(8.0)
    meters = ASC.replace("8.0", "500000").replace("47.0", "5316000").replace("0.01", "5")
    path.write_text(meters)
    with pytest.raises(InputError, match="coordinate system is not known.*EPSG:32632"):
        ElevationGrid.read(path)
    assert ElevationGrid.read(path, crs=UTM).at(*reversed_lon_lat()) == pytest.approx(4.0)
    path.with_suffix(".prj").write_text(UTM)
    assert ElevationGrid.read(path).crs == UTM


def reversed_lon_lat() -> tuple[float, float]:
    """Latitude and longitude of the centre of the lower left cell of the raster in metres."""
    pyproj = geodesy.import_pyproj()
    back = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lon, lat = back.transform(500_002.5, 5_316_002.5)
    return lat, lon


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not an ESRI ASCII grid"),
        (ASC + "7 8 9\n", "9 heights for 2 rows of 3"),
        (ASC.replace("1 2 3", "1 x 3"), "not an ESRI ASCII grid"),
        (ASC.replace("0.01", "-1"), "cannot be placed"),
        (ASC.replace("0.01", "nan"), "cannot be placed"),
        (ASC.replace("1 2 3\n4 -9999 6", "-9999 " * 6), "no cell has an elevation"),
        (ASC.replace("ncols 3", "ncols 1").replace("1 2 3\n4 -9999 6", "1 2"), "2 x 2 or more"),
    ],
)
def test_broken_grids_are_refused(tmp_path, text, match):
    (tmp_path / "a.asc").write_text(text)
    with pytest.raises(InputError, match=match):
        ElevationGrid.read(tmp_path / "a.asc")


rasterio = pytest.importorskip("rasterio")
CORNER = rasterio.Affine(0.01, 0, 8.0, 0, -0.01, 47.0)


def write_geotiff(path, values, *, crs="EPSG:4326", transform=CORNER, nodata=-9999, **options):
    values = np.atleast_3d(np.asarray(values, options.pop("dtype", "float32")))
    tags = options.pop("tags", {})
    rows, columns, bands = values.shape
    with rasterio.open(
        path, "w", driver=options.pop("driver", "GTiff"), width=columns, height=rows, count=bands,
        dtype=values.dtype, crs=crs, transform=transform, nodata=nodata, **options,
    ) as file:  # fmt: skip
        file.write(values.transpose(2, 0, 1))
        file.update_tags(**tags)


def test_geotiff(tmp_path):
    path = tmp_path / "ground.tif"
    values = [[1, 2, 3], [4, -9999, 6]]
    write_geotiff(path, values)
    grid = ElevationGrid.read(path)
    # The transform's origin is the outer corner of the first cell.
    assert (grid.west, grid.north, grid.dx) == pytest.approx((8.005, 46.995, 0.01))
    assert grid.crs == "EPSG:4326"
    assert grid.values[0].tolist() == [1, 2, 3]
    assert np.isnan(grid.values[1, 1])


def test_a_value_of_a_point_is_that_of_the_point(tmp_path):
    # PixelIsPoint: the file's tie point is the first cell's center. rasterio's transform is that of
    # corners either way: a corner at 8 E with cells of 5 m has its center at 10.5.
    path = tmp_path / "ground.tif"
    transform = rasterio.Affine(5, 0, 8, 0, -5, 47)
    write_geotiff(
        path, np.ones((2, 3)), crs=UTM, transform=transform, tags={"AREA_OR_POINT": "Point"}
    )
    grid = ElevationGrid.read(path)
    assert (grid.west, grid.north, grid.dx, grid.crs) == (10.5, 44.5, 5.0, UTM)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float64"},
        {"dtype": "int16", "compress": "lzw", "predictor": 2},
        {"compress": "zstd", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "deflate", "BIGTIFF": "YES"},
        {"driver": "COG", "compress": "deflate", "predictor": 3},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_geotiffs_as_surveys_give_them_out_are_read(tmp_path, options):
    heights = np.arange(40 * 50).reshape(40, 50)
    write_geotiff(tmp_path / "ground.tif", heights, **options)
    assert ElevationGrid.read(tmp_path / "ground.tif").values.tolist() == heights.tolist()


def test_a_system_without_an_epsg_code_is_taken_by_its_own_words(tmp_path):
    path = tmp_path / "ground.tif"
    about = "+proj=tmerc +lat_0=48 +lon_0=9.123 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"
    transform = rasterio.Affine(10, 0, -20, 0, -10, 20)
    write_geotiff(path, np.full((4, 4), 7.0), crs=about, transform=transform)
    assert ElevationGrid.read(path).at([48.0], [9.123]).tolist() == [7.0]


def test_scaled_heights_are_meters(tmp_path):
    path = tmp_path / "ground.tif"
    write_geotiff(path, [[10, 20], [30, -9999]], dtype="int16")
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [0.5], [100.0]
    values = ElevationGrid.read(path).values
    assert values[0].tolist() == [105.0, 110.0]
    assert np.isnan(values[1, 1])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_geotiffs_that_cannot_be_placed_are_refused(tmp_path):
    path = tmp_path / "ground.tif"
    write_geotiff(path, np.zeros((2, 2, 3)))
    with pytest.raises(InputError, match="3 bands"):
        ElevationGrid.read(path)
    turned = CORNER @ rasterio.Affine.rotation(10)
    for transform in (None, turned, rasterio.Affine(1, 0, 0, 0, 1, 0)):
        write_geotiff(path, np.zeros((2, 2)), transform=transform)
        with pytest.raises(InputError, match="not placed, or not north up.*gdalwarp"):
            ElevationGrid.read(path)
    write_geotiff(path, np.zeros((2, 2)), crs=None)
    with pytest.raises(InputError, match="coordinate system is not known; give `elevation_crs`"):
        ElevationGrid.read(path)
    assert ElevationGrid.read(path, crs=UTM).crs == UTM
    with pytest.raises(InputError, match="coordinate system 'EPSG:29999' is not known"):
        ElevationGrid.read(path, crs="EPSG:29999")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"ground.tif: not a GeoTIFF that can be read") as error:
        ElevationGrid.read(path)
    assert "vsimem" not in str(error.value)


def test_a_file_of_more_cells_than_are_read_is_refused_before_it_is(tmp_path):
    # 100,000 x 100,000 bytes of zeros, of which nothing is stored.
    path = tmp_path / "ground.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100_000, height=100_000, count=1, dtype="uint8",
        crs="EPSG:4326", transform=CORNER, tiled=True, SPARSE_OK=True, BIGTIFF="YES",
        blockxsize=4096, blockysize=4096,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="100000 x 100000 cells, over the limit"):
        ElevationGrid.read(path)


def test_files_beside_a_raster_and_formats_that_lead_to_others_are_not_opened(tmp_path):
    path = tmp_path / "ground.tif"
    write_geotiff(path, [[1, 2], [3, 4]], crs=None, nodata=None)
    # GDAL by itself would take system and unknown value out of this one.
    path.with_suffix(".tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:4326</SRS><PAMRasterBand band='1'><NoDataValue>4</NoDataValue>"
        "</PAMRasterBand></PAMDataset>"
    )
    with pytest.raises(InputError, match="coordinate system is not known"):
        ElevationGrid.read(path)
    assert ElevationGrid.read(path, crs=UTM).values.tolist() == [[1, 2], [3, 4]]
    from rasterio import shutil

    virtual = tmp_path / "ground.vrt"
    shutil.copy(path, virtual, driver="VRT")
    virtual.rename(tmp_path / "other.tif")
    with pytest.raises(InputError, match="not an ESRI ASCII grid"):
        ElevationGrid.read(tmp_path / "other.tif")
