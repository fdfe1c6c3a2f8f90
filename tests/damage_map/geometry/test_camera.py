"""The camera: fields of view, lens distortion, and the directions of its angles."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.damage_map import Camera, TelemetrySample
from msnet_d2.damage_map.geometry.camera import camera_to_world
from msnet_d2.errors import InputError


def test_field_of_view():
    # tan(45°) = 1: half of the width is the focal length.
    camera = Camera.from_hfov(90, 1920, 1080)
    assert camera.fx == camera.fy == pytest.approx(960)
    assert (camera.cx, camera.cy) == (960, 540)
    assert camera.hfov_deg == pytest.approx(90)
    # 18 mm on a frame of 36 mm is the same.
    assert Camera.from_focal_mm(18, 1920, 1080).fx == pytest.approx(960)
    # 24 mm: 2 atan(18 / 24) = 73.74 degrees.
    assert Camera.from_focal_mm(24, 1920, 1080).hfov_deg == pytest.approx(73.74, abs=0.01)


def test_rays_of_the_center_and_the_corners():
    camera = Camera.from_hfov(90, 200, 100)
    rays = camera.rays([[100, 50], [200, 50], [0, 0]])
    assert rays[0] == pytest.approx([0, 0, 1])
    assert rays[1] == pytest.approx(np.array([1, 0, 1]) / 2**0.5)
    assert rays[2] == pytest.approx(np.array([-1, -0.5, 1]) / 1.5)  # |(-1, -.5, 1)| = 1.5
    assert camera.rays(np.zeros((0, 2))).shape == (0, 3)


# Columns: where the picture's right, its lower edge and the line of sight point (east, north, up).
@pytest.mark.parametrize(
    ("angles", "right", "down", "forward"),
    [
        ((0, 0, 0), (1, 0, 0), (0, 0, -1), (0, 1, 0)),  # looks north
        ((90, 0, 0), (0, -1, 0), (0, 0, -1), (1, 0, 0)),  # looks east, south at the right
        ((0, -90, 0), (1, 0, 0), (0, -1, 0), (0, 0, -1)),  # straight down, north at the top
        ((90, -90, 0), (0, -1, 0), (-1, 0, 0), (0, 0, -1)),  # straight down, east at the top
        ((0, 0, 90), (0, 0, -1), (-1, 0, 0), (0, 1, 0)),  # the right side dips
        ((0, 30, 0), (1, 0, 0), (0, 0.5, -(0.75**0.5)), (0, 0.75**0.5, 0.5)),  # looks up
    ],
)
def test_angles_turn_the_camera(angles, right, down, forward):
    assert camera_to_world(*angles) == pytest.approx(np.array([right, down, forward]).T, abs=1e-12)


@settings(deadline=None)
@given(st.floats(-360, 360), st.floats(-90, 90), st.floats(-180, 180))
def test_the_matrix_is_a_rotation(yaw, pitch, roll):
    matrix = camera_to_world(yaw, pitch, roll)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


LENS = (-0.25, 0.08, 0.001, -0.0005, -0.01)


def test_distortion_as_opencv_has_it():
    # At (x, y) = (0.5, 0), r² = 0.25: radial 1 - 0.25*0.25 + 0.08*0.0625 - 0.01*0.015625 =
    # 0.94234; x' = 0.5*0.94234 + p2*(r² + 2x²) = 0.471172 - 0.0005*0.75 = 0.470797;
    # y' = p1*r² = 0.00025.
    camera = Camera(1000, 800, 700, 700, 500, 400, LENS)
    pixel = camera.project(np.array([[0.5, 0, 1]]))[0]
    assert pixel == pytest.approx([500 + 700 * 0.470797, 400 + 700 * 0.00025], abs=1e-2)


@settings(deadline=None)
@given(st.floats(0, 1000), st.floats(0, 800))
def test_distortion_round_trip(x, y):
    camera = Camera(1000, 800, 700, 700, 500, 400, LENS)
    assert camera.project(camera.rays([[x, y]])) == pytest.approx(np.array([[x, y]]), abs=1e-2)


def test_outside_the_lens_model_and_behind_is_nan():
    barrel = Camera(1000, 800, 700, 700, 500, 400, (-0.4, 0.0, 0.0, 0.0))
    # r (1 - 0.4 r²) never exceeds 0.609 (at r = 0.913); pixel 1000 is at 0.714.
    assert np.isnan(barrel.rays([[1000, 400]])).all()
    # r = 1.4 would fold back to 1.4 (1 - 0.784) = 0.30, in the middle of the picture.
    assert np.isnan(barrel.project(np.array([[1.4, 0, 1]]))).all()
    assert np.isnan(barrel.project(np.array([[0, 0, -1.0], [1, 0, 0]]))).all()


def test_camera_file(tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(
        json.dumps(
            {"fx": 1000, "fy": 1010, "cx": 959.5, "cy": 539.5, "width": 1920, "height": 1080}
            | {"distortion": [[0.1, 0, 0, 0, 0]]}
        )
    )
    # Half the size: half of everything; OpenCV's centre 959.5 is 960 from the picture's edge.
    camera = Camera.from_file(path, 960, 540)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 505, 480, 270)
    assert camera.distortion == (0.1, 0, 0, 0, 0)
    with pytest.raises(InputError, match="do not have the shape of the video's 640 x 480"):
        Camera.from_file(path, 640, 480)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"fx": 1}', '{"fx": "a", "fy": 1, "cx": 1, "cy": 1}', "\udcff"]
)
def test_what_is_no_camera_file_is_refused(tmp_path, text):
    path = tmp_path / "camera.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="not a camera file"):
        Camera.from_file(path, 640, 480)
    with pytest.raises(InputError, match="cannot be read"):
        Camera.from_file(tmp_path / "none.json", 640, 480)


@pytest.mark.parametrize("hfov", [0, -3, 180, float("nan")])
def test_impossible_cameras_are_refused(hfov):
    with pytest.raises(InputError, match="expected"):
        Camera.from_hfov(hfov, 640, 480)
    with pytest.raises(InputError, match="3 distortion coefficients"):
        Camera(640, 480, 500, 500, 320, 240, (0.1, 0.1, 0.1))


def test_what_is_known_best_makes_the_camera():
    sample = TelemetrySample(0, 1, 2, focal_mm=18)
    assert Camera.for_sample(sample, 640, 480).hfov_deg == pytest.approx(90)
    assert Camera.for_sample(sample, 640, 480, hfov_deg=60).hfov_deg == pytest.approx(60)
    assert Camera.for_sample(TelemetrySample(0, 1, 2), 640, 480) is None


def test_the_film_s_width_is_the_picture_s_long_side():
    # 24 mm of a film 36 mm wide: two thirds of the long side of 1920 pixels, however it is held.
    for width, height in ((1920, 1080), (1080, 1920)):
        assert Camera.from_focal_mm(24, width, height).fx == pytest.approx(1280)


def test_digital_zoom_narrows_a_field_of_view_that_was_given():
    sample = TelemetrySample(time_s=0.0, lat=0.0, lon=0.0, zoom=2.0)
    plain = Camera.from_hfov(70, 1920, 1080)
    assert Camera.for_sample(sample, 1920, 1080, hfov_deg=70).fx == pytest.approx(2 * plain.fx)
