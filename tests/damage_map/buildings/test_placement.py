"""Placing observations: on the ground, under the drone, or not at all with the reason."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.flights import HOME, SIZE, log_text

from msnet_d2.damage_map.buildings.observations import (
    MapVideo,
    NadirObservation,
    Observation,
    PartObservation,
    PlacedObservation,
    UnplacedObservation,
)
from msnet_d2.damage_map.buildings.placement import place
from msnet_d2.damage_map.geometry.flight import Flight, FlightOptions
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.telemetry.telemetry import Telemetry
from msnet_d2.errors import InputError

ENU = EnuFrame(*HOME)


def flight(text=None, **options):
    """Straight north at 60 m, 60 degrees down, for 2 s."""
    telemetry = Telemetry.from_text(text or log_text(8, 0.0, (0, 0), 8.0), "log.srt").for_video(2.0)
    return Flight(telemetry, duration_s=2.0, size=SIZE, fps=4, options=FlightOptions(**options))


def seen(flown, box=(150, 80, 170, 100), *, time_s=0.0, size=SIZE, level=2, inner=None):
    box = np.array(box, float)
    return Observation(
        video=MapVideo(Path("v.mp4"), 0, None, flown),
        frame=round(time_s * 4),
        time_s=time_s,
        box=box,
        size=size,
        parts=(PartObservation(level, 0.9, box if inner is None else np.array(inner, float)),),
    )


def test_a_building_lies_where_its_wall_meets_the_ground():
    (placed,) = place([seen(flight(), (150, 80, 170, 100))], ENU)
    assert isinstance(placed, PlacedObservation)
    # 60 m up, looking 60 degrees down: the picture's middle, (160, 90), is 60 / tan(60°) = 34.6 m
    # ahead. The box is about it, its lower edge nearer and its upper edge further away.
    near, far = placed.outline[:2, 1], placed.outline[2:, 1]
    assert near.max() < 34.6 < far.min()
    assert placed.view == pytest.approx([0, 1], abs=0.05)
    # The box's middle is about as many metres ahead, for each of the 60 m of height.
    assert placed.relief_displacement == pytest.approx(
        placed.outline.mean(axis=0)[1] / 60, rel=0.01
    )
    assert len(placed.part_outlines) == 1


def test_what_is_above_the_horizon_is_unplaced_with_the_reason():
    text = log_text(8, 0.0, (0, 0), 8.0).replace("gb_pitch: -60.0", "gb_pitch: 5.0")
    ahead = seen(flight(text), (150, 10, 170, 30))
    (unplaced,) = place([ahead], ENU)
    assert isinstance(unplaced, UnplacedObservation)
    assert unplaced.reason == "above the horizon"
    assert unplaced.box is ahead.box


def test_without_angles_only_the_drone_is_known():
    text = log_text(8, 0.0, (10, 20), 8.0)
    text = text.replace("[gb_yaw: 0.0 gb_pitch: -60.0 gb_roll: 0.0]", "")
    (found,) = place([seen(flight(text))], ENU)
    assert isinstance(found, NadirObservation)
    assert found.point == pytest.approx([10, 20], abs=0.1)
    # Anything within four heights of the drone may be meant.
    assert found.ce90_m > 4 * 60 - 1


def test_without_a_flight_nothing_has_a_place():
    (unplaced,) = place([seen(None)], ENU)
    assert unplaced.reason == "no flight log"


def test_a_frame_of_another_shape_than_the_camera_file_is_unplaced_and_ends_nothing(tmp_path):
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 300, "fy": 300, "cx": 160, "cy": 90, "width": 320,
                                  "height": 180}))  # fmt: skip
    flown = flight(camera=camera)
    whole = seen(flown)
    other = seen(flown, time_s=0.25, size=(180.0, 320.0))
    placed, unplaced, again = place([whole, other, seen(flown, time_s=0.5)], ENU)
    assert isinstance(placed, PlacedObservation)
    assert isinstance(again, PlacedObservation)
    assert "made for pictures of 320 x 180" in unplaced.reason


def test_a_camera_file_for_another_video_is_said_when_the_flight_is_read(tmp_path):
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps({"fx": 300, "fy": 300, "cx": 90, "cy": 160, "width": 180,
                                  "height": 320}))  # fmt: skip
    with pytest.raises(InputError, match="made for pictures of 180 x 320"):
        flight(camera=camera)


def test_a_collapsed_building_is_taken_to_be_a_third_as_high():
    flown = flight(building_height=9.0)
    (standing,) = place([seen(flown, level=2)], ENU)
    (collapsed,) = place([seen(flown, level=3)], ENU)
    # The near wall's foot is on the ground either way, the far edge at 9 m or 3 m: what is lower is
    # further away.
    assert collapsed.outline[:2] == pytest.approx(standing.outline[:2])
    assert (collapsed.outline[2:, 1] > standing.outline[2:, 1] + 2).all()


def test_a_part_outside_the_lens_has_no_place_and_its_building_has():
    text = log_text(8, 0.0, (0, 0), 8.0).replace("gb_pitch: -60.0", "gb_pitch: -15.0")
    # Pitch -15: row 90 looks 15 degrees down, row 0 above the horizon.
    (placed,) = place([seen(flight(text), (150, 120, 170, 170), inner=(150, 0, 170, 10))], ENU)
    assert isinstance(placed, PlacedObservation)
    assert placed.part_outlines == (None,)


def test_places_are_not_to_be_changed():
    (placed,) = place([seen(flight())], ENU)
    with pytest.raises(FrozenInstanceError):
        placed.ce90_m = 0.0
    assert replace(placed, ce90_m=1.0).ce90_m == 1.0
