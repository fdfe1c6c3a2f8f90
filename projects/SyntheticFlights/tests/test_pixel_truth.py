"""Materials, depth, trees and water of rendered frames, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic_flights.camera import Intrinsics, Pose, project
from synthetic_flights.config import SceneConfig
from synthetic_flights.flood import mirrored
from synthetic_flights.materials import BUILDING, LABEL_TABLES, Material
from synthetic_flights.meshes import Mesh, box
from synthetic_flights.raster import Raster
from synthetic_flights.scene import Flight

from msnet_d2.errors import InputError

CONFIG = SceneConfig(width=320, height=180, fps=10.0, seconds=1.0, seed=3)


@pytest.fixture(scope="module")
def flight() -> Flight:
    return Flight(CONFIG)


@pytest.fixture(scope="module")
def frame(flight):
    return flight.frame(4, with_truth=True)


@pytest.fixture(scope="module")
def wooded() -> Flight:
    return Flight(replace(CONFIG, trees=6.0))


@pytest.fixture(scope="module")
def flooded() -> Flight:
    return Flight(replace(CONFIG, flood=0.4))


def unproject(flight: Flight, frame) -> np.ndarray:
    """World points (H, W, 3) that a frame shows, by the camera's definition."""
    from synthetic_flights.camera import rotation_matrix

    height, width = frame.truth.depth.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(flight.intrinsics.matrix).T
    offsets = (rays * frame.truth.depth[..., None]) @ rotation_matrix(frame.pose)
    return offsets + np.array(frame.pose.position)


def _plans(flight: Flight) -> list:
    return [
        (b.id, b.center, b.angle, [(p.id, p.kind, p.center, p.radii) for p in b.parts])
        for b in flight.buildings
    ]


def test_what_is_asked_for_does_not_change_the_picture(flight, frame):
    plain = flight.frame(4, with_ids=False)
    np.testing.assert_array_equal(plain.image, frame.image)
    assert (plain.part_ids, plain.truth) == (None, None)
    blind = flight.frame(4, with_truth=True, with_image=False)
    assert blind.image is None
    for name in ("materials", "depth", "tree_ids", "tree_cover", "wires"):
        np.testing.assert_array_equal(getattr(blind.truth, name), getattr(frame.truth, name))
    np.testing.assert_array_equal(blind.part_ids, frame.part_ids)
    np.testing.assert_array_equal(blind.building_ids, frame.building_ids)


@pytest.mark.parametrize("seed", [3, 5])
def test_labels_agree_with_the_id_buffers(seed):
    frame = Flight(replace(CONFIG, seed=seed)).frame(2, with_truth=True)
    materials, trees = frame.truth.materials, frame.truth.tree_ids > 0
    np.testing.assert_array_equal(materials == Material.TREE, trees)
    np.testing.assert_array_equal(np.isin(materials, BUILDING), (frame.building_ids > 0) & ~trees)
    # A part lies on its building, and no tree lies on it.
    assert (frame.building_ids[frame.part_ids > 0] > 0).all()
    assert not (trees & (frame.part_ids > 0)).any()
    assert {Material.GROUND, Material.ROAD, Material.ROOF, Material.WALL} <= set(materials.flat)


def test_the_ground_lies_at_height_0_and_roofs_above_the_walls(flight, frame):
    points, materials = unproject(flight, frame), frame.truth.materials
    level = np.isin(materials, (Material.GROUND, Material.ROAD, Material.PAVED))
    # A pixel takes the depth of the sample next to its centre, up to half a sample off: 0.1 m here.
    assert np.abs(points[level][:, 2]).max() < 0.1
    assert np.median(np.abs(points[level][:, 2])) < 0.02
    for number in np.unique(frame.building_ids[frame.building_ids > 0]):
        plan = flight.buildings[number - 1]
        heights = points[..., 2][frame.building_mask(number - 1) & (materials == Material.ROOF)]
        if plan.level < 2 and len(heights):
            lowest = min(b.height for b in plan.blocks) - 0.6  # eaves hang below the walls' top
            assert lowest < heights.min()
            # The ridge is 0.12 m above that of the block.
            assert heights.max() < plan.height + 0.2


def test_a_car_has_its_own_shape_in_the_depth():
    # Straight down from 50 m over a box of 4 x 2 m that is 1 m high: its top is 49 m away, though
    # the buffer that decides what is seen has it flat at the middle of its corners.
    camera = Intrinsics(100, 100, 100.0)
    pose = Pose(0.0, (0.0, 0.0, 50.0), 0.0, -90.0, 0.0)
    raster = Raster(camera, pose, 1.0, with_ids=True, with_surfaces=True)
    raster.color[...] = 0
    quads = box(-2, -1, 0, 2, 1, 1)
    raster.draw_mesh(Mesh(quads, np.full((5, 3), 90.0), material=Material.VEHICLE))
    truth = raster.surfaces.reduced((100, 100))
    assert truth.depth[50, 50] == pytest.approx(49, abs=1e-3)
    assert truth.depth[5, 5] == pytest.approx(50, abs=1e-3)
    assert truth.materials[50, 50] == Material.VEHICLE
    # 4 x 2 m at 49 m are 8.2 x 4.1 pixels.
    assert 30 < (truth.materials == Material.VEHICLE).sum() <= 60  # borders are drawn inclusively


def test_a_frame_without_trees_differs_where_trees_are(wooded):
    frame = wooded.frame(4, with_truth=True, with_clean=True)
    changed = np.abs(frame.image.astype(int) - frame.clean).max(2) > 0
    # The sensor blurs by up to 15 pixels and sharpens by 5.
    near_trees = cv2.dilate(frame.truth.tree_cover, np.ones((21, 21), np.uint8)) > 0
    assert changed[near_trees].mean() > 0.3
    assert not changed[~near_trees].any()
    np.testing.assert_array_equal(frame.image, wooded.frame(4).image)
    assert wooded.frame(4).clean is None


def test_a_frame_without_trees_is_that_of_a_world_without_trees(flight):
    bare = Flight.__new__(Flight)
    bare.__dict__.update(flight.__dict__)
    nowhere = np.zeros((0, 3)), np.zeros(0)
    bare._balls = {**flight._balls, "trees": nowhere}
    np.testing.assert_array_equal(bare.frame(4).image, flight.frame(4, with_clean=True).clean)


def test_more_trees_move_nothing_else(flight, wooded):
    assert _plans(wooded) == _plans(flight)
    assert [wooded.pose(i) for i in (0, 9)] == [flight.pose(i) for i in (0, 9)]
    own = flight.world.trees
    assert wooded.world.trees[: len(own)] == own
    single = [t for t in own if t.kind != "bush"]
    more = len(wooded.world.trees) - len(own)
    # Five times the single trees: the groves are not repeated, and chance is.
    assert 2 * len(single) < more < 6 * len(single)
    np.testing.assert_array_equal(wooded.frame(4).building_ids, flight.frame(4).building_ids)


def test_the_flood_has_the_share_of_the_ground_that_was_asked_for(flooded):
    from synthetic_flights.camera import ground_footprint

    rng = np.random.default_rng(0)
    under = []
    for index in range(10):
        corners = ground_footprint(flooded.pose(index), flooded.intrinsics)
        mix = rng.dirichlet(np.ones(4), 2000)
        under.append((flooded.flood.depth(mix @ corners) > 0).mean())
    # Frames overlap, and the mix favors their middle.
    assert np.mean(under) == pytest.approx(0.4, abs=0.08)


def test_water_covers_what_lies_lower_and_reaches_up_the_walls(flight, frame, flooded):
    wet = flooded.frame(4, with_truth=True)
    points = unproject(flooded, wet)
    water = wet.truth.materials == Material.WATER
    assert water.mean() > 0.05
    # The surface is as high above the ironed-out ground as the water is deep there.
    depths = flooded.flood.depth(points[water][:, :2])
    error = np.abs(points[water][:, 2] - depths)
    assert np.median(error) < 0.02
    assert error.max() < 0.15
    # Nothing that is seen lies more than a hand below the surface: water is brown.
    dry = ~water & (wet.truth.tree_ids == 0)
    below = flooded.flood.depth(points[dry][:, :2]) - points[dry][:, 2]
    assert np.quantile(below, 0.999) < 0.1
    # Streets go under before lots do.
    road = frame.truth.materials == Material.ROAD
    lawn = frame.truth.materials == Material.GROUND
    assert water[road].mean() > water[lawn].mean() + 0.1
    walls = frame.truth.materials == Material.WALL
    assert 0 < (water & walls).sum() < walls.sum()
    assert not wet.building_ids[water].any()
    assert not wet.part_ids[water].any()


def test_water_shows_what_it_mirrors(flooded):
    # A point above the water and its image below it look alike to the two cameras, upside down.
    pose = Pose(0.0, (5.0, -3.0, 60.0), 33.0, -44.0, 2.5)
    camera = Intrinsics(320, 180, 400.0)
    points = np.array([[25.0, 30.0, 4.0], [40.0, 35.0, 0.7], [20.0, 20.0, 9.0]])
    level = 0.6
    images = points * [1, 1, -1] + [0, 0, 2 * level]
    seen, depth = project(images, pose, camera)
    below, same_depth = project(points, mirrored(pose, level), camera)
    np.testing.assert_allclose(below[:, 0], seen[:, 0], atol=1e-9)
    np.testing.assert_allclose(below[:, 1], 180 - seen[:, 1], atol=1e-9)
    np.testing.assert_allclose(same_depth, depth, atol=1e-9)


def test_a_flood_changes_houses_and_camera_in_nothing(flight, flooded):
    assert _plans(flooded) == _plans(flight)
    assert flooded.pose(7) == flight.pose(7)
    assert flooded.world.trees == flight.world.trees


def test_every_material_has_a_class_or_is_ignored_in_every_label_table():
    damage = np.array(LABEL_TABLES["damage"]["lut"])
    names = LABEL_TABLES["damage"]["classes"]
    assert names == ["ground", "road", "vegetation", "water", "building"]
    assert [names[damage[m]] for m in BUILDING] == ["building"] * 4
    assert names[damage[Material.HEAP]] == "ground"
    ignored = (Material.UNKNOWN, Material.VEHICLE, Material.CONTAINER, Material.FENCE)
    assert (damage[[*ignored, Material.POLE, 16, 254, 255]] == 255).all()
    flood = np.array(LABEL_TABLES["flood"]["lut"])
    assert flood[Material.WATER] == 1
    assert flood[Material.UNKNOWN] == 255
    assert (np.delete(flood[:16], (Material.UNKNOWN, Material.WATER)) == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trees": 0.5}, "0.5 times the trees: expected a factor from 1 to 20"),
        ({"trees": float("nan")}, "nan times the trees"),
        ({"flood": 1.0}, "a flood over 1.0 of the ground: expected a share in 0..0.9"),
        ({"flood": -0.1}, "a flood over -0.1"),
    ],
)
def test_config_refuses_impossible_worlds(change, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)
