"""Telemetry between its records, its flaws, and its place on a video's time."""

import sys
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.damage_map import Telemetry, TelemetryFlag, find_telemetry
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.interpolation import interpolate_angle, interpolate_step
from msnet_d2.errors import DependencyError, InputError
from msnet_d2.utils import geodesy

NORTH_10_M = 10 / 111_195  # degrees of latitude, nearly


def make(rows, *, video=True, clock=None, home=None) -> Telemetry:
    """Telemetry of ``rows`` of (time, lat, lon) or dicts."""
    rows = [r if isinstance(r, dict) else dict(zip(("time_s", "lat", "lon"), r)) for r in rows]
    log = FlightLog.from_rows(
        rows, dialect="dji-srt", source="a.srt", time_is_video=video, clock_start=clock, home=home
    )
    return Telemetry.from_log(log)


def flight(seconds, *, rate=10, speed=10.0, **kwargs) -> Telemetry:
    """A straight flight northwards."""
    times = np.arange(int(seconds * rate) + 1) / rate
    return make([(t, 30 + NORTH_10_M * speed / 10 * t, -90.0) for t in times], **kwargs)


def test_position_and_altitude_are_linear_between_records():
    telemetry = make(
        [
            {"time_s": 0.0, "lat": 10.0, "lon": 20.0, "alt": 50.0},
            {"time_s": 1.0, "lat": 10.0002, "lon": 20.0004, "alt": 60.0},
        ]
    )
    sample = telemetry.at(0.25)
    assert (sample.lat, sample.lon) == pytest.approx((10.00005, 20.0001), abs=1e-9)
    assert sample.alt == pytest.approx(52.5)
    # Half a record beyond the end the line goes on.
    assert telemetry.at(1.5).lat == pytest.approx(10.0003, abs=1e-9)
    # 0.0002° of latitude are 22.12 m and 0.0004° of longitude at 10° are 43.85 m: 49.1 m in 1 s.
    assert sample.speed_mps == pytest.approx(49.1, abs=0.1)
    assert [s.time_s for s in telemetry.at([0.0, 0.5])] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [
        (10, 20, 15),
        (350, 10, 0),  # across north
        (179, -179, -180),  # across south, in the other notation
        (-170, 160, 175),  # 30 degrees the short way
    ],
)
def test_angles_turn_the_short_way(a, b, middle):
    found = interpolate_angle(np.array([0.0, 1.0]), np.array([a, b], float), np.array([0.5]))
    assert geodesy.wrap_degrees(found - middle) == pytest.approx(0, abs=1e-9)


def test_focal_length_steps():
    values = interpolate_step(
        np.array([0.0, 1.0, 2.0]), np.array([24.0, np.nan, 48.0]), np.array([-1.0, 1.9, 2.0])
    )
    assert values.tolist() == [24.0, 24.0, 48.0]


@pytest.mark.parametrize(
    ("a", "b", "lat", "lon"),
    [
        # From 0.0001° west to 0.0001° east of the antimeridian; the middle lies on it.
        ((-17.0, 179.9999), (-17.0, -179.9999), -17.0, 180.0),
        # Straight over the pole: its middle is the pole, where longitude means nothing.
        ((89.9999, 10.0), (89.9999, -170.0), 90.0, None),
    ],
)
def test_positions_across_the_antimeridian_and_the_pole(a, b, lat, lon):
    sample = make([(0.0, *a), (1.0, *b)]).at(0.5)
    assert sample.lat == pytest.approx(lat, abs=1e-6)
    assert lon is None or abs(sample.lon) == pytest.approx(lon, abs=1e-6)


def test_gimbal_yaw_goes_before_flight_yaw_and_hand_given_angles_fill_gaps():
    rows = [{"time_s": t, "lat": 1 + t * 1e-5, "lon": 2, "flight_yaw": 90.0} for t in range(3)]
    telemetry = make(rows)
    sample = telemetry.at(1.0)
    assert (sample.yaw, TelemetryFlag.FLIGHT_YAW in sample.flags) == (90.0, True)
    assert TelemetryFlag.NO_ANGLES in sample.flags  # no pitch
    assert any("no gimbal pitch" in note for note in telemetry.notes)

    sample = telemetry.with_angles(pitch=-45, yaw=10).at(1.0)
    assert (sample.yaw, sample.pitch, sample.roll) == (10.0, -45.0, 0.0)
    assert TelemetryFlag.ASSUMED_ANGLES in sample.flags
    assert sample.noise.pitch_deg > telemetry.noise.pitch_deg

    logged = make([{**row, "yaw": 80.0, "pitch": -30.0} for row in rows])
    sample = logged.with_angles(pitch=-45).at(1.0)
    assert (sample.yaw, sample.pitch) == (80.0, -30.0)
    assert not sample.flags & (TelemetryFlag.ASSUMED_ANGLES | TelemetryFlag.FLIGHT_YAW)
    with pytest.raises(InputError, match="`pitch` -95: expected degrees from -90 to 90"):
        telemetry.with_angles(pitch=-95)


def test_heights_above_sea_level_need_the_take_off_s():
    rows = [{"time_s": t, "lat": 1 + t * 1e-5, "lon": 2, "abs_alt": 500.0 + t} for t in range(3)]
    telemetry = make(rows)
    assert np.isnan(telemetry.at(1.0).alt)
    assert TelemetryFlag.NO_ALTITUDE in telemetry.at(1.0).flags
    assert any("only above sea level" in note for note in telemetry.notes)
    mended = telemetry.with_takeoff_altitude(440.0)
    assert mended.at(1.0).alt == 61.0
    assert mended.noise.altitude_m > telemetry.noise.altitude_m
    assert not any("only above sea level" in note for note in mended.notes)
    with pytest.raises(InputError, match="`takeoff_altitude` nan"):
        telemetry.with_takeoff_altitude(float("nan"))


def test_without_pyproj_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(DependencyError, match="pyproj.*msnet_d2.map"):
        geodesy.import_pyproj()


def test_repeated_fixes_do_not_make_the_drone_move_in_steps():
    # 10 m/s at 30 frames a second, but a fix only every 0.2 s (6 frames).
    rows = [(i / 30, 30 + NORTH_10_M * (i // 6) * 0.2, -90.0) for i in range(61)]
    telemetry = make(rows)
    # Frame 9 is at 0.3 s: 3 m from the start, though the record there says 2 m.
    _, distance = geodesy.azimuth_and_distance(30.0, -90.0, telemetry.at(0.3).lat, -90.0)
    assert distance == pytest.approx(3.0, abs=0.02)
    assert telemetry.at(0.3).speed_mps == pytest.approx(10, abs=0.1)
    assert telemetry.notes == (
        "no altitude was recognised in the log",
        "no gimbal pitch and yaw was recognised in the log; give `pitch` and `yaw`",
    )


def test_a_hover_of_seconds_is_kept():
    rows = [(t / 10, 30.0, -90.0) for t in range(31)]
    rows += [(3 + t / 10, 30 + NORTH_10_M * t / 10, -90.0) for t in range(1, 11)]
    # Standing until 3.0 s; a line from 0 s to 3.1 s would be 0.5 m off at 1.5 s.
    assert make(rows).at(1.5).lat == pytest.approx(30.0, abs=1e-9)
    assert make(rows).at(3.05).lat == pytest.approx(30 + NORTH_10_M * 0.05, abs=1e-9)


def test_gaps_are_said_and_long_ones_are_not_bridged():
    def without(a, b):
        full = flight(60)
        keep = (full.columns["time_s"] <= a) | (full.columns["time_s"] >= b)
        log = FlightLog(
            {k: v[keep] for k, v in full.columns.items()}, "dji-srt", "a.srt", time_is_video=True
        )
        return Telemetry.from_log(log)

    short = without(20, 24)
    sample = short.at(22.0)
    assert "no record from 20.0 to 24.0 s" in " ".join(short.notes)
    assert TelemetryFlag.GAP in sample.flags
    assert sample.has_position
    # 2 s from the nearest record, at 1 m/s more.
    steady = short.at(10.0).noise.horizontal_m
    assert sample.noise.horizontal_m == pytest.approx(np.hypot(steady, 2.0), rel=1e-6)
    long = without(20, 35)
    assert TelemetryFlag.NO_POSITION in long.at(22.0).flags
    assert not long.at(22.0).has_position
    assert long.at(20.0).has_position


def test_ends_of_the_log():
    telemetry = flight(10).for_video(60.0)
    assert "the log ends 50.0 s before the video (at 10.0 of 60.0 s)" in telemetry.notes
    # One record lasts 0.1 s; a little beyond the end is as good.
    assert telemetry.at(10.1).has_position
    assert telemetry.at(11.0).flags & TelemetryFlag.AFTER_END
    assert not telemetry.at(11.0).has_position
    late = flight(30).for_video(20.0, offset_s=-5.0)
    assert "the log begins 5.0 s after the video" in late.notes
    assert late.at(2.0).flags & TelemetryFlag.BEFORE_START
    assert not late.at(2.0).has_position
    assert flight(10).for_video(10.0).notes == flight(10).notes


def test_a_lone_outlier_is_dropped_and_a_lasting_jump_is_flagged():
    rows = [(t / 10, 30 + NORTH_10_M * t / 10, -90.0) for t in range(101)]
    rows[50] = (5.0, 31.0, -90.0)
    telemetry = make(rows)
    assert "outlying positions dropped at 5.0 s" in telemetry.notes
    assert telemetry.at(5.0).lat == pytest.approx(30 + NORTH_10_M * 5, abs=1e-9)

    rows = [(t, lat + (0.01 if t >= 5 else 0), lon) for t, lat, lon in rows if t != 5.0]
    telemetry = make(rows)
    assert any("the position jumps at 4.9 s" in note for note in telemetry.notes)
    assert TelemetryFlag.JUMP in telemetry.at(5.0).flags
    assert TelemetryFlag.JUMP not in telemetry.at(6.0).flags


def test_standing_still_is_said():
    rows = [(t / 10, 30.0, -90.0) for t in range(80)]
    telemetry = make(rows)
    assert any("nothing changes from 0.0 to 7.9 s" in note for note in telemetry.notes)
    assert telemetry.at(4.0).flags & TelemetryFlag.STILL
    assert "still" in telemetry.at(4.0).flags.text


def test_disorder_and_values_out_of_range():
    rows = [(2.0, 30.2, 8.0), (0.0, 30.0, 8.0), (1.0, 95.0, 8.0), (1.5, 30.15, 8.0)]
    rows = [(t, 30 + (lat - 30) * 1e-3 if lat < 90 else lat, lon) for t, lat, lon in rows]
    telemetry = make(rows)
    assert telemetry.track[:, 0].tolist() == [0.0, 1.5, 2.0]
    assert "records are not in order of time; they were sorted" in telemetry.notes
    assert "1 position out of range dropped" in telemetry.notes


UTC = timezone.utc
NOON = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)


def test_log_by_the_clock_is_placed_on_the_video():
    log = flight(600, video=False, clock=NOON)
    placed = log.for_video(60.0, start=datetime(2024, 5, 2, 12, 2, 0, tzinfo=UTC))
    # 0 s of the video is 120 s of the log, where the drone is 1200 m north.
    assert placed.at(0.0).lat == pytest.approx(30 + NORTH_10_M * 120, abs=1e-9)
    assert placed.span == pytest.approx((-120, 480))
    assert log.for_video(60.0, offset_s=30.0).at(0.0).lat == pytest.approx(log.at(30.0).lat)


@pytest.mark.parametrize(
    ("kwargs", "video", "match"),
    [
        # Neither by the clock nor any time zone aside: 7920 s are 120 s more than 7800, the last
        # second of ten minutes that begin 2 h after noon, and 180 s less than 2 h 15 min.
        (
            {"start": NOON.replace(hour=14, minute=12)},
            False,
            "log of another flight.*7920 to 7980 s",
        ),
        ({"offset_s": -100.0}, False, "log of another flight"),
        # Subtitles written a day before the video.
        ({"start": NOON.replace(day=4)}, True, "log of another flight.*48 hours before"),
        ({}, False, "nothing says where the video .60 s. begins.*`telemetry_offset`"),
    ],
)
def test_log_of_another_flight_is_an_error(kwargs, video, match):
    with pytest.raises(InputError, match=match):
        flight(600, video=video, clock=NOON).for_video(60.0, **kwargs)


def test_subtitles_in_local_time_are_of_this_video():
    # Seven hours of time zone and two seconds are nothing to mention…
    local = datetime(2024, 5, 2, 5, 0, 2)
    log = flight(60, clock=local)
    assert log.for_video(60.0, start=NOON).notes == log.notes
    # … but five minutes besides are.
    log = flight(60, clock=local.replace(minute=5))
    assert any(
        "clocks of log and video differ by 302 s" in n for n in log.for_video(60, start=NOON).notes
    )


def test_the_recording_in_a_flight_log_tells_where_the_video_begins():
    rows = [
        {"time_s": t / 2, "lat": 30 + t * 1e-5, "lon": 8.0, "recording": float(40 <= t <= 160)}
        for t in range(400)
    ]
    placed = make(rows, video=False).for_video(60.0)  # recorded from 20 s to 80 s
    assert placed.at(0.0).lat == pytest.approx(30 + 40e-5, abs=1e-9)


def test_a_log_as_long_as_the_video_begins_with_it():
    placed = flight(61, video=False).for_video(60.0)
    assert any("is taken to begin with it" in note for note in placed.notes)


def test_the_log_beside_a_video_is_found(tmp_path):
    for name in ("DJI_0001.SRT", "DJI_0001.csv", "dji_0002.Gpx", "DJI_0001.mp4"):
        (tmp_path / name).touch()
    assert find_telemetry(tmp_path / "DJI_0001.MP4") == tmp_path / "DJI_0001.SRT"
    assert find_telemetry(tmp_path / "DJI_0002.MP4") == tmp_path / "dji_0002.Gpx"
    assert find_telemetry(tmp_path / "DJI_0003.MP4") is None
    assert find_telemetry(tmp_path / "none" / "a.mp4") is None


FLOATS = st.one_of(
    st.floats(-200, 200), st.sampled_from([0.0, np.nan, 90.0, -180.0, 180.0, 1e12, -1e-12])
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS), max_size=12),
    st.lists(st.floats(-300, 300), min_size=1, max_size=4),
)
def test_any_records_give_samples_or_an_input_error(records, times):
    names = ("time_s", "lat", "lon", "alt", "yaw")
    try:
        telemetry = make([dict(zip(names, record)) for record in records])
    except InputError:
        return
    for sample in telemetry.at(times):
        assert sample.has_position != bool(sample.flags & TelemetryFlag.NO_POSITION)
        if sample.has_position:
            assert abs(sample.lat) <= 90
            assert abs(sample.lon) <= 180
        assert not sample.yaw > 180
        assert sample.noise.horizontal_m >= 1.5
