"""Pixels to the ground: geometry by hand, round trips, error radii against simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.damage_map import (
    Camera,
    GroundProjector,
    ProjectionFailure,
    TelemetryNoise,
    TelemetrySample,
)
from msnet_d2.damage_map.geometry.projector import circle_radius
from msnet_d2.utils import geodesy

SQUARE = Camera.from_hfov(90, 1000, 1000)


def drone(lat=48.0, lon=11.0, **kwargs) -> TelemetrySample:
    return TelemetrySample(0.0, lat, lon, **{"alt": 100.0, "yaw": 0.0, "pitch": -90.0, **kwargs})


def where(projector: GroundProjector, pixel) -> tuple[float, float]:
    """Azimuth (0 to 360) and distance of a pixel's place from the drone's foot."""
    lat, lon = projector.to_ground([pixel]).lat_lon[0]
    sample = projector.sample
    azimuth, distance = geodesy.azimuth_and_distance(sample.lat, sample.lon, lat, lon)
    return float(azimuth) % 360, float(distance)


# The earth's curvature adds d³ / (2 h R): under 2 mm for these.
@pytest.mark.parametrize(
    ("sample", "pixel", "azimuth", "distance"),
    [
        # Straight down from 100 m with 90 degrees: the picture is 200 m wide, the top is north.
        (drone(), (1000, 500), 90, 100),
        (drone(), (500, 0), 0, 100),
        (drone(), (0, 1000), 225, 100 * 2**0.5),
        (drone(), (750, 500), 90, 50),
        # With yaw 90 the top is east.
        (drone(yaw=90), (500, 0), 90, 100),
        # At 45 degrees the centre is as far away as the camera is high.
        (drone(pitch=-45), (500, 500), 0, 100),
        (drone(pitch=-45, yaw=90), (500, 500), 90, 100),
        (drone(pitch=-45, yaw=-90, alt=60), (500, 500), 270, 60),
        # The lower edge is 90 degrees down: the drone's own foot; 80% there, tan(45°-38.66°) = 1/9.
        (drone(pitch=-45), (500, 900), 0, 100 / 9),
        # The right edge at yaw 0: ray (1, 0, 1) turned is (1, .7071, -.7071): 141.42 m east and
        # 100 m north.
        (drone(pitch=-45), (1000, 500), 54.7356, 173.205),
        # A quarter turn of roll to the right puts the picture's right at the ground.
        (drone(pitch=0, roll=90), (1000, 500), 0, 100),
        # Southern and western hemispheres turn nothing round.
        (drone(-33.9, -70.0, pitch=-45), (500, 500), 0, 100),
        (drone(-33.9, -70.0, pitch=-45, yaw=120), (500, 500), 120, 100),
    ],
)
def test_places_by_hand(sample, pixel, azimuth, distance):
    found = where(GroundProjector(SQUARE, sample), pixel)
    assert found[1] == pytest.approx(distance, abs=0.005)
    assert geodesy.wrap_degrees(found[0] - azimuth) == pytest.approx(0, abs=0.001)


def test_degrees_on_the_ellipsoid():
    # 100 m north of 48° N, where a degree of latitude is 111,194.9 m... on WGS 84 the meridian's
    # radius at 48.0005° is a(1-e²)/(1-e² sin²)^1.5 = 6,370,683 m: 0.00089937 degrees; the
    # parallel's radius is N cos = 4,282,750 m: 0.00133782 degrees.
    points = GroundProjector(SQUARE, drone()).to_ground([[500, 0], [1000, 500]])
    assert points.lat_lon[0] == pytest.approx([48.00089936, 11.0], abs=2e-7)
    assert points.lat_lon[1] == pytest.approx([48.0, 11.00134], abs=2e-6)


def test_straight_down_is_the_drone_s_own_place():
    points = GroundProjector(SQUARE, drone()).to_ground([[500, 500]])
    assert points.lat_lon[0] == pytest.approx([48.0, 11.0], abs=1e-10)
    # Horizontal noise 1.5 m; pitch 0.7° and a tilt of 0.5° over 100 m are 1.22 m and 0.87 m; a
    # pixel is 0.2 m: sigmas of 1.95 m and 1.75 m, whose 90% radius lies between 2.146 times each.
    assert 2.146 * 1.78 < points.ce90_m[0] < 2.146 * 1.92


def test_height_of_the_ground_and_of_roofs():
    # On ground 20 m above take-off the drone is 80 m high.
    projector = GroundProjector(SQUARE, drone(pitch=-45), ground_m=20)
    assert where(projector, (500, 500))[1] == pytest.approx(80, abs=0.005)
    # A roof's ridge 10 m up is met at 90 m.
    place = GroundProjector(SQUARE, drone(pitch=-45)).to_ground([[500, 500]], height_m=10)
    _, distance = geodesy.azimuth_and_distance(48, 11, *place.lat_lon[0])
    assert distance == pytest.approx(90, abs=0.005)


@pytest.mark.parametrize(
    ("lat", "lon", "yaw"), [(-17.0, 179.9999, 90), (89.9995, 50.0, 0), (-89.9995, 0.0, 180)]
)
def test_antimeridian_and_poles(lat, lon, yaw):
    # 89.9995° is 56 m from the pole: 100 m ahead lies beyond it.
    projector = GroundProjector(SQUARE, drone(lat, lon, pitch=-45, yaw=yaw))
    points = projector.to_ground([[500, 500], [300, 600]])
    assert abs(points.lat_lon[0, 1] - lon) > 100  # the longitude jumps
    assert where(projector, (500, 500))[1] == pytest.approx(100, abs=0.005)
    assert projector.to_pixels(points.lat_lon) == pytest.approx(
        np.array([[500, 500], [300, 600]]), abs=1e-3
    )


def test_horizon():
    level = GroundProjector(SQUARE, drone(pitch=0))
    # Half a degree below the horizon is 500 + 500 tan(0.5°) = 504.4; a degree 508.7.
    points = level.to_ground([[500, 0], [500, 500], [500, 504.3], [500, 508], [500, 900]])
    assert points.failure.tolist() == [
        ProjectionFailure.ABOVE_HORIZON,
        ProjectionFailure.ABOVE_HORIZON,
        ProjectionFailure.NEAR_HORIZON,
        ProjectionFailure.NEAR_HORIZON,
        ProjectionFailure.NONE,
    ]
    assert np.isnan(points.lat_lon[:4]).all()
    assert np.isnan(points.ce90_m[:4]).all()
    assert np.isfinite(points.lat_lon[4]).all()
    # 1.1 degrees are past the margin, but the pitch may be 1.645 * 0.7 degrees off.
    pixel = [[500, 500 + 500 * np.tan(np.radians(1.1))]]
    assert level.to_ground(pixel).failure.tolist() == [ProjectionFailure.NEAR_HORIZON]
    steady = replace(level.sample, noise=TelemetryNoise(pitch_deg=0.1, roll_deg=0.1))
    assert GroundProjector(SQUARE, steady).to_ground(pixel).failure.tolist() == [
        ProjectionFailure.NONE
    ]


def test_the_earth_is_round():
    # 2 degrees below the horizon from 100 m: flat ground is 100 / tan 2° = 2863.6 m away, but
    # there the earth is 2863.6² / (2 * 7,432,833) = 0.55 m lower, which takes 16 m more
    # (0.55 / tan 2° = 15.8, and a little again).
    pixel = (500, 500 + 500 * np.tan(np.radians(2)))
    sample = drone(pitch=0, noise=TelemetryNoise(pitch_deg=0.1))
    assert where(GroundProjector(SQUARE, sample), pixel)[1] == pytest.approx(2879.7, abs=0.5)


def test_frames_without_a_place_are_refused_with_their_reason():
    def reason(camera=SQUARE, **kwargs):
        points = GroundProjector(camera, drone(**kwargs)).to_ground([[500, 500]])
        assert np.isnan(points.ce90_m).all() == bool(points.failure[0])
        return ProjectionFailure(points.failure[0])

    assert reason(lat=np.nan) is ProjectionFailure.NO_POSITION
    assert reason(alt=np.nan) is ProjectionFailure.NO_ALTITUDE
    assert reason(alt=-3) is ProjectionFailure.BELOW_GROUND
    assert (
        reason(camera=Camera(1000, 1000, 300, 300, 0, 0, (-0.4, 0, 0, 0)))
        is ProjectionFailure.OUTSIDE_LENS
    )
    assert reason() is ProjectionFailure.NONE
    assert all(r.text for r in ProjectionFailure)
    assert GroundProjector(SQUARE, drone()).to_ground(np.zeros((0, 2))).lat_lon.shape == (0, 2)


@pytest.mark.parametrize(
    ("camera", "kwargs"),
    [(None, {}), (SQUARE, {"pitch": np.nan}), (SQUARE, {"yaw": np.nan})],
    ids=["camera", "pitch", "yaw"],
)
def test_without_angles_it_is_the_point_under_the_drone(camera, kwargs):
    projector = GroundProjector(camera, drone(**kwargs))
    points = projector.to_ground([[10, 20], [900, 900]])
    assert points.lat_lon.tolist() == [[48.0, 11.0], [48.0, 11.0]]
    # Four times the height of 100 m and a little.
    assert (points.ce90_m > 400).all()
    assert (points.ce90_m < 401).all()
    assert np.isnan(projector.to_pixels([[48.0, 11.0]])).all()
    unknown = GroundProjector(camera, drone(alt=np.nan, **kwargs)).to_ground([[10, 20]])
    assert unknown.ce90_m[0] == pytest.approx(480, abs=1)


@settings(deadline=None)
@given(
    st.floats(-85, 85),
    st.floats(-180, 180),
    st.floats(10, 300),
    st.floats(0, 360),
    st.floats(-90, -20),
    st.floats(-20, 20),
    st.tuples(st.floats(0, 960), st.floats(0, 540)),
)
def test_ground_and_back(lat, lon, alt, yaw, pitch, roll, pixel):
    camera = Camera(960, 540, 800, 790, 470, 280, (-0.05, 0.01, 0.001, 0.001))
    sample = drone(lat, lon, alt=alt, yaw=yaw, pitch=pitch, roll=roll)
    projector = GroundProjector(camera, sample)
    points = projector.to_ground([pixel])
    if points.failure[0]:
        # The upper edge is at most 19.5 degrees over the centre, roll adds its share.
        assert pitch > -45
        return
    back = projector.to_pixels(points.lat_lon)
    assert back == pytest.approx(np.array([pixel]), abs=0.01)
    assert points.ce90_m[0] > 2.146 * sample.noise.horizontal_m


def test_places_behind_the_camera_have_no_pixel():
    projector = GroundProjector(SQUARE, drone(pitch=0))
    assert np.isnan(projector.to_pixels([[47.99, 11.0]])).all()
    assert np.isfinite(projector.to_pixels([[48.01, 11.0]])).all()


def test_radius_of_the_90_percent_circle():
    sigma = np.zeros((3, 2, 2))
    sigma[0] = np.eye(2) * 4  # sigma 2 both ways: 2 sqrt(-2 ln 0.1) = 4.292
    sigma[1] = [[9, 0], [0, 0]]  # a line: 3 * 1.645
    sigma[2] = [[4.5, 4.5], [4.5, 4.5]]  # the same line turned by 45 degrees
    assert circle_radius(sigma) == pytest.approx([4.292, 4.935, 4.935], abs=1e-3)


@pytest.mark.parametrize(
    ("pitch", "alt", "pixel", "hfov"),
    [
        (-90, 60, (480, 270), 70),
        (-90, 60, (0, 0), 70),
        (-45, 60, (480, 270), 70),
        (-45, 60, (900, 30), 70),
        (-30, 100, (480, 270), 60),
        (-25, 40, (100, 100), 75),
        (-10, 80, (480, 270), 40),
    ],
)
def test_the_error_radius_holds_the_truth_nine_times_of_ten(pitch, alt, pixel, hfov):
    rng = np.random.default_rng(0)
    camera = Camera.from_hfov(hfov, 960, 540)
    logged = drone(alt=alt, pitch=pitch, yaw=30.0)
    noise = logged.noise
    stated = GroundProjector(camera, logged).to_ground([pixel])
    n, hits = 400, 0
    for _ in range(n):
        e = rng.standard_normal(9)
        foot = geodesy.destination(
            48, 11, np.degrees(np.arctan2(e[0], e[1])), np.hypot(*e[:2]) * noise.horizontal_m
        )
        true = replace(
            logged,
            lat=float(foot[0]),
            lon=float(foot[1]),
            alt=alt + e[2] * noise.altitude_m,
            yaw=logged.yaw + e[3] * noise.yaw_deg,
            pitch=pitch + e[4] * noise.pitch_deg,
            roll=e[5] * noise.roll_deg,
        )
        lens = camera.zoomed(1 + e[6] * noise.focal_share)
        where_it_is = GroundProjector(lens, true, ground_m=rng.normal(0, noise.ground_m))
        place = where_it_is.to_ground([np.array(pixel) + e[7:]]).lat_lon[0]
        _, off = geodesy.azimuth_and_distance(*stated.lat_lon[0], *place)
        hits += bool(off <= stated.ce90_m[0])  # False where the truth is above the horizon
    # 400 draws of 90%: one sigma is 1.5 points. Not below, and not much above either.
    assert 0.865 <= hits / n <= 0.965
