"""Control points: reading them, and what they mend of a flight's pose."""

from dataclasses import replace

import numpy as np
import pytest

from msnet_d2.damage_map import (
    Camera,
    GroundControlPoint,
    GroundProjector,
    PoseOffsets,
    TelemetrySample,
    calibrate_pose,
    read_gcps,
)
from msnet_d2.errors import InputError
from msnet_d2.utils import geodesy

CAMERA = Camera.from_hfov(70, 1920, 1080)
WRONG = {"yaw": 3.0, "pitch": -1.5, "altitude": 4.0, "roll": 0.8, "focal": 0.03}
PIXELS = [(300, 300), (1700, 350), (960, 900), (200, 1000), (1750, 980), (960, 540)]


def logged(i: int = 0, pitch: float = -45.0) -> TelemetrySample:
    return TelemetrySample(float(i), 30.0 + i * 1e-4, -90.0, alt=80.0, yaw=20.0 * i, pitch=pitch)


def flight(count: int, truth: dict[str, float], *, pitch: float = -45.0, pixel_noise=0.0, seed=0):
    """Control points seen by a camera that is off from its log by ``truth``."""
    rng = np.random.default_rng(seed)
    offset = PoseOffsets(**truth)
    points, samples = [], []
    for i in range(count):
        sample = logged(i, pitch)
        pixel = np.array(PIXELS[i % len(PIXELS)], float)
        true = GroundProjector(offset.apply_camera(CAMERA), offset.apply(sample))
        lat, lon = true.to_ground([pixel]).lat_lon[0]
        x, y = pixel + pixel_noise * rng.standard_normal(2)
        points.append(GroundControlPoint(x, y, float(lat), float(lon), frame=i))
        samples.append(sample)
    return points, samples


def offsets(fit) -> dict[str, float]:
    return {name: getattr(fit.offsets, name) for name in fit.fitted}


@pytest.mark.parametrize(
    ("count", "fitted"),
    [
        (1, ("yaw", "pitch")),  # two equations
        (2, ("yaw", "pitch", "altitude")),
        (3, ("yaw", "pitch", "altitude", "roll")),
        (6, ("yaw", "pitch", "altitude", "roll", "focal")),
    ],
)
def test_offsets_are_recovered_as_far_as_the_points_support(count, fitted):
    truth = {name: WRONG[name] for name in fitted}
    fit = calibrate_pose(*flight(count, truth), CAMERA)
    assert fit.fitted == fitted
    assert offsets(fit) == pytest.approx(truth, abs=1e-4)
    assert fit.residual_px.max() < 0.01
    assert fit.residual_m.max() < 0.01
    assert fit.before_px.min() > 20
    assert (len(fit.notes) == 2) == (len(fitted) < 5)  # "the points do not support …"


def test_the_calibrated_pose_places_other_pixels_right():
    points, samples = flight(6, WRONG)
    fit = calibrate_pose(points, samples, CAMERA)
    true = PoseOffsets(**WRONG)
    pixels = [[100, 700], [1500, 600]]
    sample = logged(2)
    want = GroundProjector(true.apply_camera(CAMERA), true.apply(sample)).to_ground(pixels)
    found = GroundProjector(fit.offsets.apply_camera(CAMERA), fit.offsets.apply(sample)).to_ground(
        pixels
    )
    _, off = geodesy.azimuth_and_distance(*want.lat_lon.T, *found.lat_lon.T)
    assert off.max() < 0.01
    # What is fitted is known better than what was logged, and the radius says so.
    plain = GroundProjector(CAMERA, sample).to_ground(pixels)
    _, wrong = geodesy.azimuth_and_distance(*want.lat_lon.T, *plain.lat_lon.T)
    assert wrong.min() > 3
    assert (found.ce90_m < 0.8 * plain.ce90_m).all()


def test_straight_down_height_and_focal_length_cannot_be_told_apart():
    points, samples = flight(6, {"yaw": 3.0, "altitude": 4.0}, pitch=-90.0)
    fit = calibrate_pose(points, samples, CAMERA)
    assert "altitude" in fit.fitted
    assert "focal" not in fit.fitted
    assert any("do not support" in note and "focal" in note for note in fit.notes)
    assert fit.offsets.altitude == pytest.approx(4.0, abs=1e-3)


def test_sigma_is_the_scatter_of_fits_to_noisy_points():
    fits = [calibrate_pose(*flight(12, WRONG, pixel_noise=2.0, seed=s), CAMERA) for s in range(16)]
    assert all(fit.fitted == tuple(WRONG) for fit in fits)
    for i, name in enumerate(WRONG):
        found = np.array([getattr(fit.offsets, name) for fit in fits])
        stated = np.mean([fit.offsets.sigma[i][1] for fit in fits])
        # 16 fits give a standard deviation to 18%; three times that.
        assert 0.45 < found.std(ddof=1) / stated < 1.55
        assert abs(found.mean() - WRONG[name]) < 4 * stated / 4
    # Two pixels each way are 2.8 at a point, a little less since five offsets were fitted to 24
    # equations: 2.8 sqrt(19 / 24) = 2.5.
    assert np.mean([fit.rms_px for fit in fits]) == pytest.approx(2.5, abs=0.3)


def test_a_slip_is_named():
    points, samples = flight(8, {"yaw": 1.0})
    points[4] = replace(points[4], x=points[4].x + 60)
    fit = calibrate_pose(points, samples, CAMERA)
    assert any("point 5 is" in note and "a slip?" in note for note in fit.notes)


def test_points_of_elsewhere_are_said_not_to_fit():
    points, samples = flight(6, {})
    points = [replace(p, lat=p.lat + 0.01 * (-1) ** i) for i, p in enumerate(points)]
    assert any(
        "do not fit the flight" in note for note in calibrate_pose(points, samples, CAMERA).notes
    )


def test_height_of_a_point():
    # A roof 10 m up, seen by an exact camera: with its height there is nothing to mend.
    sample = logged()
    lat, lon = GroundProjector(CAMERA, sample).to_ground([[800, 700]], height_m=10).lat_lon[0]
    point = GroundControlPoint(800, 700, float(lat), float(lon), frame=0, height_m=10.0)
    fit = calibrate_pose([point], [sample], CAMERA)
    assert abs(fit.offsets.pitch) < 1e-6
    assert abs(fit.offsets.yaw) < 1e-6


def test_points_without_a_pose_are_refused():
    point = GroundControlPoint(1, 2, 30.0, -90.0, frame=0)
    for sample in (
        TelemetrySample(0, np.nan, np.nan, alt=50, yaw=0, pitch=-45),
        TelemetrySample(0, 30.0, -90.0, alt=50, yaw=0),
        TelemetrySample(0, 30.0, -90.0, yaw=0, pitch=-45),
    ):
        with pytest.raises(InputError, match="control point 1 .pixel 1, 2.*not known"):
            calibrate_pose([point], [sample], CAMERA)
    with pytest.raises(InputError, match="0 control points"):
        calibrate_pose([], [], CAMERA)


def test_reading(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(
        "Frame,Pixel_X,pixel_y,Latitude,Longitude,height\n12,100.5,200,30.25,-90.5,\n\n"
        "13,1,2,30,-90,3.5\n"
    )
    first, second = read_gcps(path)
    assert (first.frame, first.x, first.y, first.lat, first.lon) == (12, 100.5, 200, 30.25, -90.5)
    assert (first.height_m, second.height_m) == (0.0, 3.5)
    path.write_text("time;x;y;lat;lon\n1,5;100;200;30,25;-90,5\n")
    (point,) = read_gcps(path)
    assert (point.time_s, point.frame, point.lat) == (1.5, -1, 30.25)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no column x, y, lat, lon, frame.*an empty file"),
        ("x,y,lat,lon\n1,2,3,4\n", "no column frame"),
        ("x,y,frame,lat,lon\n", "no control point"),
        ("x,y,frame,lat,lon\n1,2,0,91,4\n", "line 2: 1,2,0,91,4: expected"),
        ("x,y,frame,lat,lon\n1,2,0,9,4\n1,2,0\n", "line 3: 1,2,0: expected"),
        ("x,y,frame,lat,lon\n1,2,-1,9,4\n", "line 2"),
        ("x,y,frame,lat,lon\n1,b,0,9,4\n", "line 2"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, match):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=match):
        read_gcps(tmp_path / "points.csv")
