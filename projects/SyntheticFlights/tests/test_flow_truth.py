"""Optical flow between rendered frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic_flights.camera import project
from synthetic_flights.config import SceneConfig
from synthetic_flights.flow import flow_between, frame_flow
from synthetic_flights.materials import Material
from synthetic_flights.scene import Flight

CONFIG = SceneConfig(width=512, height=288, fps=25.0, seconds=1.0, seed=1)


@pytest.fixture(scope="module")
def flight() -> Flight:
    return Flight(CONFIG)


@pytest.fixture(scope="module")
def frames(flight):
    return {i: flight.frame(i, with_truth=True) for i in (2, 3, 7)}


def _at(field: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values of a field at continuous image coordinates (N, 2), between its pixels' centres."""
    places = (pixels - 0.5).astype(np.float32)[None]
    return cv2.remap(field, places[..., 0], places[..., 1], cv2.INTER_LINEAR)[0]


def _roof_points(flight: Flight, rng) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) on roofs, and the numbers of their buildings."""
    points, numbers = [], []
    for number, plan in enumerate(flight.buildings):
        if plan.level == 0:
            for face in flight.build(number)[0]:
                if face.kind == "roof":
                    weights = rng.dirichlet(np.ones(len(face.corners)), 30)
                    points.append(weights @ face.corners)
                    numbers += [number] * 30
    return np.concatenate(points), np.array(numbers)


@pytest.mark.parametrize("target", [3, 7])
def test_flow_is_what_projected_points_do(flight, frames, target):
    rng = np.random.default_rng(0)
    flow, valid = frame_flow(flight.intrinsics, frames[2], frames[target])
    roofs, numbers = _roof_points(flight, rng)
    ground = np.column_stack([rng.uniform(-60, 60, (20_000, 2)), np.zeros(20_000)])
    for points, kinds, owners in (
        (roofs, (Material.ROOF,), numbers + 1),
        (ground, (Material.GROUND, Material.ROAD, Material.PAVED), np.zeros(len(ground))),
    ):
        here, depth = project(points, frames[2].pose, flight.intrinsics)
        there, _ = project(points, frames[target].pose, flight.intrinsics)
        inside = (depth > 1) & (here > 1).all(1) & (here < (511, 287)).all(1)
        column, row = np.floor(here[inside]).astype(int).T
        materials = frames[2].truth.materials[row, column]
        seen = np.isin(materials, kinds) & valid[row, column]
        seen &= frames[2].building_ids[row, column] == owners[inside]
        assert seen.sum() > 80
        error = np.linalg.norm(_at(flow, here[inside]) - (there - here)[inside], axis=1)[seen]
        assert np.median(error) <= 0.05
        # Near an edge the depth may be of half a sample beside the point.
        assert np.quantile(error, 0.9) <= 0.25


def test_from_a_frame_to_itself_nothing_moves(flight, frames):
    flow, valid = frame_flow(flight.intrinsics, frames[2], frames[2])
    assert np.abs(flow).max() < 2e-3
    np.testing.assert_array_equal(valid, ~frames[2].truth.wires)


def test_every_second_pixel_is_every_second_pixel(flight, frames):
    whole, valid = frame_flow(flight.intrinsics, frames[2], frames[3])
    half, valid_half = frame_flow(flight.intrinsics, frames[2], frames[3], step=2)
    np.testing.assert_allclose(half, whole[::2, ::2], atol=1e-3)
    assert (valid_half == valid[::2, ::2]).mean() > 0.9999


def test_numbers_of_frames_will_do(flight, frames):
    flow, valid = flow_between(flight, 2, 3)
    expected, valid_expected = frame_flow(flight.intrinsics, frames[2], frames[3])
    np.testing.assert_array_equal(flow, expected)
    np.testing.assert_array_equal(valid, valid_expected)


def _psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return 10 * np.log10(255**2 / ((a.astype(float) - b)[where] ** 2).mean())


def _warped(picture: np.ndarray, flow: np.ndarray, how=cv2.INTER_LINEAR) -> np.ndarray:
    x, y = np.meshgrid(*map(np.arange, flow.shape[1::-1]))
    places = np.stack([x, y], -1).astype(np.float32) + flow
    return cv2.remap(picture, places[..., 0], places[..., 1], how)


def test_the_next_frame_warped_is_this_one(flight, frames):
    this, following = frames[2], frames[3]
    flow, valid = frame_flow(flight.intrinsics, this, following)
    assert 0.9 < valid.mean() < 1
    warped = _psnr(_warped(following.image, flow), this.image, valid)
    copied = _psnr(following.image, this.image, valid)
    # Measured over 4 flights at 25 fps: 34.2 dB against 20.9 dB.
    assert warped > 31
    assert warped > copied + 9
    moved = _warped(following.building_ids.astype(np.float32), flow, cv2.INTER_NEAREST)
    assert (moved == this.building_ids)[valid].mean() > 0.99


def test_an_estimator_that_sees_the_pictures_alone_agrees(flight, frames):
    flow, valid = frame_flow(flight.intrinsics, frames[2], frames[3])
    gray = [cv2.cvtColor(frames[i].image, cv2.COLOR_BGR2GRAY) for i in (2, 3)]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    error = np.linalg.norm(dis.calc(*gray, None) - flow, axis=-1)[valid]
    assert np.median(error) < 0.2


def test_texels_of_a_tree_stay_on_the_tree():
    flight = Flight(replace(CONFIG, width=320, height=180, trees=6.0))
    a, b = (flight.frame(i, with_truth=True, with_image=False) for i in (2, 4))
    flow, valid = frame_flow(flight.intrinsics, a, b)
    on_tree = (a.truth.tree_ids > 0) & valid
    assert on_tree.mean() > 0.05
    moved = _warped(b.truth.tree_ids.astype(np.float32), flow, cv2.INTER_NEAREST)
    # Validity is asked of the pixel that holds the landing place; remap rounds like it but at ties.
    assert (moved == a.truth.tree_ids)[on_tree].mean() > 0.97
    # What a tree hides in the other frame is not valid.
    covered = (a.truth.tree_ids == 0) & (moved > 0)
    assert valid[covered].mean() < 0.1
