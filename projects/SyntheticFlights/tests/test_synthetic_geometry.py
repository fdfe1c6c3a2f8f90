"""The camera, the plans of buildings, the globe and the telemetry of rendered scenes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from synthetic_flights.buildings import (
    Block,
    Face,
    block_faces,
    outline_of_blocks,
    signed_area,
)
from synthetic_flights.camera import (
    Intrinsics,
    Pose,
    ground_footprint,
    project,
    rotation_matrix,
)
from synthetic_flights.config import Appearance, SceneConfig
from synthetic_flights.labels import mask_polygons
from synthetic_flights.meshes import Mesh
from synthetic_flights.raster import Raster
from synthetic_flights.telemetry import srt_text, to_latlon, to_local

from msnet_d2.errors import InputError

CAMERA = Intrinsics(200, 100, 100.0)


def test_a_camera_that_looks_north_and_45_degrees_down():
    # From (0, 0, 50) the optical axis meets the ground 50 m north; 10 m east of there is 100 * 10
    # / 70.71 = 14.14 pixels right of the middle. A point right below the horizon line straight
    # ahead lies on the middle column, above.
    pose = Pose(0.0, (0.0, 0.0, 50.0), 0.0, -45.0, 0.0)
    pixels, depth = project(np.array([[0, 50, 0], [10, 50, 0], [0, 80, 0]]), pose, CAMERA)
    np.testing.assert_allclose(pixels[0], (100, 50), atol=1e-9)
    np.testing.assert_allclose(pixels[1], (100 + 10 * np.sqrt(2), 50), atol=1e-9)
    assert pixels[2, 0] == pytest.approx(100)
    assert pixels[2, 1] < 50
    assert depth[0] == pytest.approx(50 * np.sqrt(2))


def test_yaw_is_clockwise_from_north_and_roll_dips_the_right_side():
    east = rotation_matrix(Pose(0.0, (0, 0, 0), 90.0, 0.0, 0.0))
    np.testing.assert_allclose(
        east, [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12
    )  # right is south
    rolled = rotation_matrix(Pose(0.0, (0, 0, 0), 0.0, 0.0, 90.0))
    np.testing.assert_allclose(rolled[0], (0, 0, -1), atol=1e-12)  # the right side points down
    np.testing.assert_allclose(rolled @ rolled.T, np.eye(3), atol=1e-12)


def test_footprint_projects_back_to_the_corners():
    pose = Pose(0.0, (3.0, -7.0, 60.0), 33.0, -47.0, 1.5)
    ground = np.concatenate([ground_footprint(pose, CAMERA), np.zeros((4, 1))], 1)
    pixels, _ = project(ground, pose, CAMERA)
    np.testing.assert_allclose(pixels, [[0, 0], [200, 0], [200, 100], [0, 100]], atol=1e-6)


def _level_square(x0, y0, z, side, color, part_index) -> Face:
    polygon = np.array([(0, 0), (side, 0), (side, side), (0, side)], float)
    face = Face(
        "wall", np.array([x0, y0 + side, z]), np.array([1.0, 0, 0]), np.array([0.0, -1, 0]), polygon
    )
    face.textures = [np.full((1, 1, 3), color, np.uint8)]
    face.part_ids = np.full((4, 4), part_index, np.uint16)
    return face


@pytest.mark.parametrize("supersample", [1.0, 2.0])
def test_faces_land_on_their_pixels_and_the_nearer_wins(supersample):
    # Straight down from 50 m, north up: at z = 10 (depth 40) 10 m are 25 pixels, at z = 25 (depth
    # 25) 40 pixels.
    pose = Pose(0.0, (0.0, 0.0, 50.0), 0.0, -90.0, 0.0)
    raster = Raster(CAMERA, pose, supersample, with_ids=True)
    raster.color[...] = 0
    # The nearer one first: the depth buffer decides, not the order.
    raster.draw_face(
        _level_square(5, 0, 25, 10, 200, 2), building_id=8
    )  # columns 120..160, rows 10..50
    raster.draw_face(
        _level_square(0, 0, 10, 10, 100, 1), building_id=7
    )  # columns 100..125, rows 25..50
    s = int(supersample)
    ids = raster.part_ids[s // 2 :: s, s // 2 :: s]
    expected = np.zeros((100, 200), np.uint16)
    expected[25:50, 100:125] = 1
    expected[10:50, 120:160] = 2
    # Borders are drawn inclusively: one raster pixel of tolerance.
    wrong = ids != expected
    assert wrong.sum() <= 2 * (40 + 40 + 25 + 25)
    assert not wrong[28:47, 103:117].any()
    assert not wrong[13:47, 123:157].any()
    assert raster.building_ids[30 * s, 122 * s + 1] == 8
    assert raster.color[30 * s, 110 * s].tolist() == [100] * 3
    assert raster.nearness[30 * s, 110 * s] == pytest.approx(1 / 40, rel=1e-5)


def test_a_face_behind_the_camera_is_left_out():
    raster = Raster(CAMERA, Pose(0.0, (0.0, 0.0, 5.0), 0.0, -90.0, 0.0), 1.0, with_ids=True)
    raster.draw_face(_level_square(0, 0, 10, 10, 100, 1), building_id=7)
    assert not raster.part_ids.any()


def test_a_single_pixel_of_a_mesh_at_the_corner_of_the_frame():
    # Straight down from 50 m the frame's corner is at (-40, 20) on z = 10, and a pixel is 0.4 m:
    # of a square of 0.4 m with its middle 1 mm beyond the corner one pixel is seen.
    raster = Raster(CAMERA, Pose(0.0, (0.0, 0.0, 50.0), 0.0, -90.0, 0.0), 1.0, with_ids=True)
    x, y = -40.001 + np.array([-0.2, 0.2, 0.2, -0.2]), 20.001 + np.array([-0.2, -0.2, 0.2, 0.2])
    quad = np.stack([x, y, np.full(4, 10.0)], axis=1)
    raster.draw_mesh(Mesh(quad[None], np.full((1, 3), 90), part_index=3), building_id=5)
    assert np.argwhere(raster.part_ids).tolist() == [[0, 0]]
    assert (raster.part_ids[0, 0], raster.building_ids[0, 0]) == (3, 5)
    # What is farther away loses there.
    below = np.where(np.arange(3) == 2, 0.0, quad)
    raster.draw_mesh(Mesh(below[None], np.full((1, 3), 90), part_index=4), building_id=6)
    assert raster.part_ids[0, 0] == 3


def test_outline_of_an_l():
    # A 4 × 2 bar with a 1 × 2 wing on top of its left end: area 8 + 2.
    outline = outline_of_blocks([(0, 0, 4, 2), (0, 1.5, 1, 4)])
    assert signed_area(outline) == pytest.approx(10)
    assert {tuple(p) for p in outline} == {(0, 0), (4, 0), (4, 2), (1, 2), (1, 4), (0, 4)}


def test_outline_of_pieces_is_the_larger_one():
    assert signed_area(outline_of_blocks([(0, 0, 1, 1), (5, 5, 8, 8)])) == pytest.approx(9)


@pytest.mark.parametrize("roof", ["gable", "hip", "flat"])
@pytest.mark.parametrize("along", [0, 1])
def test_roofs_close_over_the_block_and_face_outwards(roof, along):
    block = Block(2.0, -1.0, along, (5.0, 3.0), 2.8, roof, 0.0 if roof == "flat" else 0.5, 0.4)
    faces = block_faces(block, 0)
    roofs = [f for f in faces if f.kind == "roof"]
    assert all(f.normal[2] > 0 for f in roofs)
    # Seen from above, the roof planes tile the eave's rectangle: (2·5.4) × (2·3.4), or the walls'
    # for a flat roof.
    plan = sum(abs(signed_area(f.corners[:, :2])) for f in roofs)
    assert plan == pytest.approx(10 * 6 if roof == "flat" else 10.8 * 6.8)
    top = max(f.corners[:, 2].max() for f in roofs)
    assert top == pytest.approx(2.8 if roof == "flat" else 2.8 + 3 * 0.5 + 0.12)
    center = np.array([2.0, -1.0, 1.0])
    for wall in (f for f in faces if f.kind == "wall"):
        assert wall.normal @ (wall.corners.mean(0) - center) > 0
        assert abs(wall.normal[2]) < 1e-12


def test_latlon_round_trip_and_scale():
    origin = (30.0, -90.0)
    points = np.array([[0.0, 0.0], [120.0, -50.0], [-3.0, 900.0]])
    np.testing.assert_allclose(to_local(to_latlon(points, origin), origin), points, atol=1e-6)
    # On WGS 84 one degree of latitude at 30° is 110,852.4 m (meridian radius 6,351,377 m · π/180),
    # of longitude 96,486.3 m (normal radius 6,383,481 m · cos 30° · π/180).
    one = to_latlon(np.array([96486.3, 110852.4]), origin)
    np.testing.assert_allclose(one, (31.0, -89.0), atol=2e-6)


def test_srt_has_one_block_a_frame_and_the_poses():
    appearance = Appearance.draw(np.random.default_rng(3))
    poses = [
        Pose(i / 25, (10.0 * i, -4.0 * i, 55.5 + i), -170.25 + i, -44.5, 0.25) for i in range(3)
    ]
    blocks = srt_text(poses, 25.0, appearance, CAMERA).strip().split("\n\n")
    assert len(blocks) == 3
    assert blocks[1].splitlines()[:2] == ["2", "00:00:00,040 --> 00:00:00,080"]
    number = r"(-?\d+\.\d+)"
    for pose, block in zip(poses, blocks):
        lat = float(re.search(rf"\[latitude: {number}\]", block)[1])
        lon = float(re.search(rf"\[longitude: {number}\]", block)[1])
        local = to_local(np.array([lat, lon]), (appearance.latitude, appearance.longitude))
        np.testing.assert_allclose(local, pose.position[:2], atol=0.02)
        rel, high = re.search(rf"\[rel_alt: {number} abs_alt: {number}\]", block).groups()
        assert float(rel) == pytest.approx(pose.position[2], abs=1e-3)
        assert float(high) - float(rel) == pytest.approx(appearance.ground_altitude, abs=2e-3)
        angles = re.search(
            rf"\[gb_yaw: {number} gb_pitch: {number} gb_roll: {number}\]", block
        ).groups()
        np.testing.assert_allclose(
            [float(a) for a in angles], (pose.yaw, pose.pitch, pose.roll), atol=0.006
        )


def test_polygons_cover_their_pixels_to_the_edge():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:20] = 1
    (polygon,) = mask_polygons(mask, closing=1, least=1)
    # The pixels' outer edges, less an eighth of a pixel.
    np.testing.assert_allclose(polygon.min(0), (8, 5), atol=0.13)
    np.testing.assert_allclose(polygon.max(0), (20, 15), atol=0.13)


def test_polygons_of_nothing_and_of_scraps():
    mask = np.zeros((20, 30), np.uint8)
    assert mask_polygons(mask) == []
    mask[3, 4] = 1
    assert mask_polygons(mask, closing=1, least=5) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 8}, "8x540"),
        ({"fps": 0}, "0 frames per second"),
        ({"seconds": -1}, "-1 s"),
        ({"seed": -2}, "seed -2"),
    ],
)
def test_config_refuses_nonsense(change, message):
    with pytest.raises(InputError, match=message):
        SceneConfig(**change)
