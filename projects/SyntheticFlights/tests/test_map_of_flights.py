"""Rendered flights, whose world is known: from their subtitles and true pixels to the ground."""

import numpy as np
import pytest
from synthetic_flights.camera import Pose, project, rotation_matrix
from synthetic_flights.config import SceneConfig
from synthetic_flights.scene import Flight
from synthetic_flights.telemetry import srt_text
from synthetic_flights.truth import flight_truth

from msnet_d2.damage_map import Camera, GroundProjector, Telemetry
from msnet_d2.damage_map.geometry.camera import camera_to_world
from msnet_d2.utils import geodesy


def test_both_mean_the_same_by_the_angles():
    rng = np.random.default_rng(0)
    for yaw, pitch, roll in rng.uniform((-180, -90, -30), (180, 30, 30), (20, 3)):
        theirs = rotation_matrix(Pose(0.0, (0, 0, 0), yaw, pitch, roll))
        assert camera_to_world(yaw, pitch, roll) == pytest.approx(theirs.T, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 3])
def test_building_centers_are_found_within_two_meters(seed):
    flight = Flight(SceneConfig(width=480, height=270, fps=8, seconds=2, seed=seed))
    truth = flight_truth(flight)
    poses = [flight.pose(i) for i in range(truth["num_frames"])]
    # A record of every second frame: between them the flight is interpolated.
    text = srt_text(poses[::2], truth["fps"] / 2, flight.appearance, flight.intrinsics)
    telemetry = Telemetry.from_text(text, "1.srt").for_video(truth["num_frames"] / truth["fps"])
    assert telemetry.notes == ()
    assert telemetry.dialect == "dji-srt"
    errors, radii, heights = [], [], []
    for pose, sample in zip(poses, telemetry.at([p.time for p in poses])):
        camera = Camera.for_sample(sample, truth["width"], truth["height"])
        assert camera.fx == pytest.approx(truth["intrinsics"]["fx"], rel=1e-3)
        projector = GroundProjector(camera, sample)
        for building in truth["buildings"]:
            center = np.mean(building["outline_local"], axis=0)
            pixel, depth = project(np.append(center, 0.0), pose, flight.intrinsics)
            inside = (pixel >= 0).all() and (pixel <= (truth["width"], truth["height"])).all()
            if depth <= 0 or not inside:
                continue
            found = projector.to_ground([pixel])
            assert found.failure[0] == 0
            place = np.mean(building["outline_latlon"], axis=0)
            errors.append(float(geodesy.azimuth_and_distance(*found.lat_lon[0], *place)[1]))
            radii.append(found.ce90_m[0])
            heights.append(sample.alt)
    errors, radii = np.array(errors), np.array(radii)
    assert len(errors) > 20
    # Two metres at 60 m, and in proportion from higher up.
    allowed = 2.0 * np.maximum(np.array(heights) / 60, 1.0)
    assert (errors <= allowed).mean() >= 0.95
    assert (errors <= radii).mean() >= 0.9
