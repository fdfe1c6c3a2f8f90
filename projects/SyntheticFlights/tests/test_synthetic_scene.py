"""Rendered frames: reproducible, with labels that lie on what they name."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from synthetic_flights.config import SceneConfig
from synthetic_flights.labels import annotate
from synthetic_flights.scene import Flight, render_flight
from synthetic_flights.truth import flight_truth

CONFIG = SceneConfig(width=256, height=144, fps=2.0, seconds=2.0, seed=11, supersample=1.0)


@pytest.fixture(scope="module")
def flight() -> Flight:
    return Flight(CONFIG)


@pytest.fixture(scope="module")
def frame(flight):
    return flight.frame(2)


def test_frames_do_not_depend_on_the_order_they_are_asked_for(frame):
    again = {f.index: f for f in render_flight(CONFIG, every=2)}
    np.testing.assert_array_equal(again[2].image, frame.image)
    np.testing.assert_array_equal(again[2].part_ids, frame.part_ids)
    assert again[1].part_ids is None
    assert again[0].part_ids is not None


def test_other_seeds_and_videos_give_other_scenes(flight):
    other = Flight(
        SceneConfig(width=256, height=144, fps=2.0, seconds=2.0, seed=12, supersample=1.0)
    )
    sibling = Flight(
        SceneConfig(width=256, height=144, fps=2.0, seconds=2.0, seed=11, video=2, supersample=1.0)
    )
    lats = {f.appearance.latitude for f in (flight, other, sibling)}
    assert len(lats) == 3


def test_the_flight_is_50_mph_within_40_to_90_meters(flight):
    poses = [flight.path.pose(t) for t in np.linspace(0, 2, 9)]
    track = np.array([p.position for p in poses])
    speed = np.linalg.norm(np.diff(track[:, :2], axis=0), axis=1) / 0.25
    np.testing.assert_allclose(speed, 22.35, rtol=0.01)
    assert (track[:, 2] >= 40).all()
    assert (track[:, 2] <= 90).all()
    assert all(-56 < p.pitch < -34 for p in poses)


def test_picture_is_not_blank(frame):
    assert frame.image.shape == (144, 256, 3)
    assert frame.image.dtype == np.uint8
    assert frame.image.std() > 15


def _project(truth: dict, index: int, points: np.ndarray) -> np.ndarray:
    """Project by the conventions that ground_truth.json states, written anew."""
    pose, cam = truth["poses"][index], truth["intrinsics"]
    yaw, pitch, roll = np.radians([pose["yaw"], pose["pitch"], pose["roll"]])
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    level = np.array([np.cos(yaw), -np.sin(yaw), 0])
    sunk = np.cross(forward, level)
    right, down = (
        np.cos(roll) * level + np.sin(roll) * sunk,
        np.cos(roll) * sunk - np.sin(roll) * level,
    )
    offset = points - np.array(pose["position"])
    depth = offset @ forward
    return np.stack(
        [
            cam["fx"] * offset @ right / depth + cam["cx"],
            cam["fy"] * offset @ down / depth + cam["cy"],
        ],
        -1,
    )


@pytest.mark.parametrize("seed", [11, 4])
def test_ground_truth_outlines_land_on_the_id_buffer(seed):
    flight = Flight(
        SceneConfig(width=256, height=144, fps=1.0, seconds=2.0, seed=seed, supersample=1.0)
    )
    truth = flight_truth(flight)
    checked = 0
    for index in range(2):
        building_ids = flight.frame(index).building_ids
        for record in truth["buildings"]:
            if record["level"] == 3:
                continue
            number = 1 + next(
                i for i, b in enumerate(flight.buildings) if b.id == record["building_id"]
            )
            outline = np.array(record["outline_local"])
            # At the height of the eaves the outline lies below the roof, whatever the roof's shape.
            eave = min(b.height for b in flight.buildings[number - 1].blocks[:1])
            pixels = _project(
                truth, index, np.concatenate([outline, np.full((len(outline), 1), eave)], 1)
            )
            if (pixels < 0).any() or (pixels > (256, 144)).any():
                continue
            inside = np.zeros((144, 256), np.uint8)
            cv2.fillPoly(inside, [np.round(pixels * 16 - 8).astype(np.int32)], 1, cv2.LINE_8, 4)
            inside = cv2.erode(inside, np.ones((3, 3), np.uint8)) > 0
            if inside.sum() < 60:
                continue
            # Only a nearer building may hide it.
            there = building_ids[inside]
            assert (there == number).sum() + 0.9 * (
                (there > 0) & (there != number)
            ).sum() >= 0.97 * inside.sum()
            assert (there == number).mean() > 0.5
            checked += 1
    assert checked >= 2


def test_labels_lie_on_the_id_buffer():
    pycocotools = pytest.importorskip("pycocotools.mask")
    seen = []
    for video in (1, 2, 3):
        flight = Flight(
            SceneConfig(width=320, height=180, fps=1.0, seconds=2.0, seed=5, video=video)
        )
        for index in range(2):
            frame = flight.frame(index)
            for annotation in annotate(flight, frame):
                part_index = next(
                    c for c, (_, p) in flight.parts.items() if p.id == annotation["part_id"]
                )
                polygons = annotation["segmentation"]
                drawn = (
                    pycocotools.decode(
                        pycocotools.merge(pycocotools.frPyObjects(polygons, 180, 320))
                    )
                    > 0
                )
                mask = frame.part_ids == part_index
                if mask.sum() > 150:  # small ones are all border
                    iou = (drawn & mask).sum() / (drawn | mask).sum()
                    assert iou > 0.8, (annotation["kind"], iou)
                    seen.append(iou)
                x, y, w, h = annotation["damage_bbox"]
                hx, hy, hw, hh = annotation["house_bbox"]
                assert 0 <= hx <= x + 0.02
                assert 0 <= hy <= y + 0.02
                assert x + w <= hx + hw + 0.02 <= 320.04
                assert y + h <= hy + hh + 0.02 <= 180.04
                xs, ys = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons]).T
                np.testing.assert_allclose(
                    (x, y, w, h), (xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)), atol=0.02
                )
    assert len(seen) >= 4
    assert np.mean(seen) > 0.9


def test_frames_without_ids_cannot_be_annotated(flight):
    with pytest.raises(ValueError, match="frame 1 was rendered without id buffers"):
        annotate(flight, flight.frame(1, with_ids=False))
