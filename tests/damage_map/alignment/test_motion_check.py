"""A log against how the picture moves: flights whose points are projected, not rendered.

The camera flies a bend at 60 m, looks 50 degrees down, and swings. Points of flat ground are
projected by the rotation written out here, not by the package's own.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msnet_d2.damage_map import Camera, Telemetry
from msnet_d2.damage_map.alignment.check import judge
from msnet_d2.damage_map.alignment.motion_model import smooth
from msnet_d2.damage_map.alignment.picture_motion import PairMotion
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.time_sync import TimeSync

SIZE, FOCAL_PX = (640, 360), 600.0
DURATION_S = 20.0
METERS = 111_320.0  # of a degree at the equator, to three digits


def pose(t):
    """East, north, up, yaw and pitch (degrees) at ``t`` seconds."""
    yaw = 40 + 4 * t + 6 * np.sin(0.9 * t)
    course = np.radians(40 + 2.5 * t)
    east = -9 / np.radians(2.5) * (np.cos(course) - np.cos(np.radians(40)))
    north = 9 / np.radians(2.5) * (np.sin(course) - np.sin(np.radians(40)))
    return east, north, 60 + 0.3 * t, yaw, -50 + 3 * np.sin(0.5 * t)


def axes(yaw, pitch):
    """Right, down and forward of the camera in east, north, up."""
    y, p = np.radians(yaw), np.radians(pitch)
    forward = np.array([np.sin(y) * np.cos(p), np.cos(y) * np.cos(p), np.sin(p)])
    right = np.array([np.cos(y), -np.sin(y), 0.0])
    return right, np.cross(forward, right), forward


def measured(rng, *, rate=1.0, shift=0.0, ground=0.0, zoom=1.0, noise_px=0.4, pairs=16):
    """What is seen at ``rate`` times the speed from second ``shift`` of the flight on."""
    found = []
    for t0 in np.linspace(0.3, DURATION_S / rate - 1.0 / rate, pairs):
        t1 = t0 + 0.5
        pixels = rng.uniform([20, 20], [620, 340], (24, 2))
        *place, yaw, pitch = pose(t0 * rate + shift)
        right, down, forward = axes(yaw, pitch)
        rays = (
            (pixels[:, :1] - 320) / (FOCAL_PX * zoom) * right
            + (pixels[:, 1:] - 180) / (FOCAL_PX * zoom) * down
            + forward
        )
        points = np.array(place) + rays * ((place[2] - ground) / -rays[:, 2])[:, None]
        *place, yaw, pitch = pose(t1 * rate + shift)
        right, down, forward = axes(yaw, pitch)
        ray = points - np.array(place)
        depth = ray @ forward
        end = np.stack([ray @ right / depth, ray @ down / depth], axis=1) * FOCAL_PX * zoom
        end += [320, 180]
        found.append(PairMotion(t0, t1, pixels, end + rng.normal(0, noise_px, end.shape)))
    return found


def log(**changes) -> Telemetry:
    """The right log, with columns changed by functions; None takes a column away."""
    rows = []
    for t in np.arange(0, DURATION_S + 0.01, 0.1):
        east, north, up, yaw, pitch = pose(t)
        rows.append(
            {"time_s": t, "lat": north / 110_574, "lon": 20 + east / METERS, "alt": up,
             "yaw": yaw, "pitch": pitch, "roll": 0.0, "focal_mm": 36 * FOCAL_PX / 640}
        )  # fmt: skip
    made = FlightLog.from_rows(rows, dialect="dji-srt", source="a.srt", time_is_video=True)
    for name, change in changes.items():
        column = made.columns[name]
        made.columns[name] = np.full_like(column, np.nan) if change is None else change(column)
    return Telemetry.from_log(made).for_video(DURATION_S)


def lens(sample, hfov):
    camera = Camera.for_sample(sample, *SIZE)
    return Camera.from_hfov(hfov, *SIZE) if camera is None and hfov is not None else camera


def verdict(telemetry, pairs, **options):
    return judge(telemetry, pairs, size=SIZE, camera_of=lens, **options)


@pytest.fixture(scope="module")
def pairs():
    return measured(np.random.default_rng(0))


def test_a_right_log_agrees(pairs):
    found = verdict(log(), pairs)
    assert found.verified
    assert not found.doubts
    assert found.corrections.yaw == found.corrections.pitch == found.corrections.height == 0


def test_usual_noise_of_a_log_is_no_fault(pairs):
    # Once the usual error each: yaw 2 degrees, pitch 0.7, height 1.5 m, focal length 2%.
    found = verdict(
        log(
            yaw=lambda v: v + 2,
            pitch=lambda v: v - 0.7,
            alt=lambda v: v + 1.5,
            focal_mm=lambda v: v * 1.02,
        ),
        pairs,
    )
    assert found.verified
    assert not found.doubts


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"yaw": lambda v: v + 20}, "yaw", -20),
        ({"yaw": lambda v: v - 90}, "yaw", 90),
        ({"pitch": lambda v: v - 10}, "pitch", 10),
        # Feet for metres: ln 0.3048 = -1.19. The ground 25 m higher at 63 m: ln (38 / 63) = -0.5.
        ({"alt": lambda v: v / 0.3048}, "height", -1.19),
        ({"focal_mm": lambda v: v / 2}, "zoom", np.log(2)),
    ],
)
def test_a_constant_fault_is_found_and_mended(pairs, changes, name, value):
    found = verdict(log(**changes), pairs)
    assert found.verified
    assert not found.doubts
    assert getattr(found.corrections, name) == pytest.approx(value, abs=0.06 * abs(value) + 0.02)
    assert any("mended by the picture's motion" in note for note in found.notes)
    said = verdict(log(**changes), pairs, mend=False)
    assert not said.verified
    assert said.doubts
    assert getattr(said.corrections, name) == 0


def test_ground_above_take_off_is_found_and_the_remedy_named():
    found = verdict(log(), measured(np.random.default_rng(1), ground=25.0))
    assert found.corrections.height == pytest.approx(np.log(38 / 63), abs=0.05)
    assert any("`elevation`" in note for note in found.notes)


@pytest.mark.parametrize("shift", [-3.0, 2.0])
def test_a_wrong_offset_is_found(shift):
    seen = [p for p in measured(np.random.default_rng(2)) if 4 < p.t0 < 16]
    telemetry = log().moved(shift)
    found = verdict(telemetry, seen)
    assert found.verified
    # The log was moved by so much, and has to be moved back.
    assert found.telemetry.at(5.0).lat == pytest.approx(log().at(5.0).lat, abs=2e-6)


def test_a_slowed_clip_is_found():
    found = verdict(log(), measured(np.random.default_rng(3), rate=0.5))
    assert any("slowed down to 2 times its length" in text for text in found.notes + found.doubts)
    if found.verified:
        # Second 10 of the clip is second 5 of the flight.
        assert found.telemetry.at(10.0).lat == pytest.approx(log().at(5.0).lat, abs=5e-6)


def test_the_part_of_a_cut_clip_is_found_by_its_motion():
    seen = [p for p in measured(np.random.default_rng(4), shift=8.0) if p.t1 < 11]
    sync = TimeSync(0.0, "subtitles", ((0.0, 9.0),), guess="a clip that was cut")
    telemetry = replace(log(), sync=sync, guesses={"time": sync.guess})
    found = verdict(telemetry, seen)
    assert not found.doubts
    assert found.telemetry.at(0.0).lat == pytest.approx(log().at(8.0).lat, abs=3e-6)
    assert any("begins at 8.0 s of the log" in note for note in found.notes)


def test_where_many_moments_fit_alike_the_time_is_doubtful():
    """Straight on at one speed, every second looks like the next."""
    rows = [
        {"time_s": t, "lat": 9 * t / 110_574, "lon": 20.0, "alt": 60.0, "yaw": 0.0, "pitch": -50.0,
         "roll": 0.0, "focal_mm": 36 * FOCAL_PX / 640}
        for t in np.arange(0, 40, 0.1)
    ]  # fmt: skip
    made = FlightLog.from_rows(rows, dialect="dji-srt", source="a.srt", time_is_video=True)
    telemetry = Telemetry.from_log(made).for_video(DURATION_S)
    assert "time" in telemetry.guesses
    rng = np.random.default_rng(5)
    seen = []
    for t0 in np.linspace(0.5, 19, 20):
        pixels = rng.uniform([20, 20], [620, 340], (40, 2))
        right, down, forward = axes(0, -50)
        rays = (pixels[:, :1] - 320) / FOCAL_PX * right
        rays = rays + (pixels[:, 1:] - 180) / FOCAL_PX * down + forward
        ray = rays * (60 / -rays[:, 2])[:, None] - np.array([0, 4.5, 0])
        depth = ray @ forward
        end = np.stack([ray @ right / depth, ray @ down / depth], axis=1) * FOCAL_PX + [320, 180]
        seen.append(PairMotion(t0, t0 + 0.5, pixels, end))
    found = verdict(telemetry, seen)
    assert len(found.doubts) == 1
    assert "`telemetry_offset`" in found.doubts[0]
    # 20 s of the log fit: at 9 m/s the place is off by tens of metres, and the error says so.
    assert found.time_s > 5


def test_a_log_of_another_flight_is_doubtful(pairs):
    found = verdict(log(yaw=lambda v: 3 * v - 80, pitch=lambda v: v[::-1] * 0.7), pairs)
    assert not found.verified
    assert "does not move as the log says" in found.doubts[0]


def test_what_the_log_lacks_is_told_by_the_motion(pairs):
    found = verdict(log(focal_mm=None), pairs)
    assert not found.doubts
    # 600 px of 640 are 56.1 degrees.
    assert any("field of view is 56 degrees wide" in note for note in found.notes)
    found = verdict(log(alt=None), pairs)
    assert any("m above the ground in view" in note for note in found.notes)
    assert found.telemetry.columns["alt"][0] * np.exp(found.corrections.height) == pytest.approx(
        60, rel=0.08
    )


@pytest.mark.parametrize("turn", [lambda p: -p, lambda p: p + 90])
def test_a_pitch_upwards_is_read_as_it_fits(pairs, turn):
    telemetry = log(pitch=turn)
    guess = replace(telemetry, guesses={"pitch": "the gimbal's pitch is upwards"})
    found = verdict(guess, pairs)
    assert not found.doubts
    assert found.telemetry.columns["pitch"] == pytest.approx(log().columns["pitch"])


def test_too_few_pairs_confirm_nothing():
    telemetry = replace(log(), guesses={"altitude": "a guess"})
    found = verdict(telemetry, measured(np.random.default_rng(6), pairs=3))
    assert not found.verified
    assert found.doubts == ["a guess"]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["yaw", "pitch", "alt", "focal_mm"]),
    st.floats(-1, 1).filter(lambda v: abs(v) > 0.3),
)
def test_any_large_fault_is_mended_or_said(name, size):
    """Of 60 degrees of yaw, 20 of pitch, a factor e of height or 2 of zoom, a third or more."""
    change = {
        "yaw": lambda v: v + 60 * size,
        "pitch": lambda v: v + 20 * size,
        "alt": lambda v: v * np.exp(size),
        "focal_mm": lambda v: v * 2**size,
    }[name]
    found = verdict(log(**{name: change}), measured(np.random.default_rng(7)))
    if not found.doubts:
        kept = found.corrections
        undone = {
            "yaw": kept.yaw / 60,
            "pitch": kept.pitch / 20,
            "alt": kept.height,
            "focal_mm": kept.zoom / np.log(2),
        }[name]
        assert undone == pytest.approx(-size, abs=0.12)


def test_smoothing_leaves_straight_lines():
    line = np.arange(30) * 2.5
    assert smooth(line, 11) == pytest.approx(line)
