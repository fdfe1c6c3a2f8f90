"""Which moment of a log is the video's first frame, and what that rests on."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from msnet_d2.damage_map import Telemetry
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.errors import InputError

NOON = datetime(2024, 5, 2, 12, tzinfo=timezone.utc)


def log(seconds, *, video=False, recording=None, clock=None) -> Telemetry:
    """A flight northwards at 10 m/s with ten records a second."""
    rows = [
        {"time_s": t, "lat": 30 + 9e-5 * t, "lon": 8.0, "alt": 60.0,
         "recording": np.nan if recording is None else float(recording(t))}
        for t in np.arange(0, seconds, 0.1)
    ]  # fmt: skip
    made = FlightLog.from_rows(
        rows, dialect="csv", source="a.csv", time_is_video=video, clock_start=clock
    )
    return Telemetry.from_log(made)


def test_subtitles_as_long_as_the_video_leave_nothing_open():
    placed = log(60, video=True).for_video(60.0)
    assert placed.sync.basis == "subtitles"
    assert not placed.guesses


@pytest.mark.parametrize(
    ("seconds", "duration", "said"),
    [
        # A clip of 20 s that was cut from 60 s.
        (60, 20.0, "39.9 s longer than the video"),
        # Slowed to half speed.
        (60, 120.0, "covers 0.0 to 59.9 s of a video of 120.0 s"),
    ],
)
def test_subtitles_of_another_length_are_doubtful(seconds, duration, said):
    placed = log(seconds, video=True).for_video(duration)
    assert said in placed.guesses["time"]
    low, high = placed.sync.windows[0]
    assert high - low == pytest.approx(abs(seconds - duration), abs=0.2)


def test_a_whole_time_zone_between_the_clocks_is_recognized():
    start = NOON + timedelta(hours=5, seconds=20)
    placed = log(60, clock=NOON).for_video(12.0, start=start)
    assert placed.sync.shift_s == pytest.approx(20.0)
    assert any("5 h apart, taken as a time zone" in note for note in placed.notes)


def test_the_files_time_of_creation_alone_is_a_guess_with_its_end_as_another():
    placed = log(60, clock=NOON).for_video(12.0, start=NOON + timedelta(seconds=36))
    assert placed.sync.basis == "clock"
    assert "time of creation alone" in placed.guesses["time"]
    # If that was its end, the clip began 12 s earlier, at 24 s of the log.
    assert any(low <= 24.0 <= high for low, high in placed.sync.windows)


def test_a_mark_at_the_start_of_the_recording_alone_is_enough():
    placed = log(60, recording=lambda t: 24 <= t < 24.5, clock=NOON).for_video(12.0, start=NOON)
    assert placed.sync.basis == "recording"
    assert placed.sync.shift_s == pytest.approx(24.0)
    assert any("only the start" in note for note in placed.notes)


def test_marks_of_two_recordings_without_ends_tell_nothing():
    recording = log(60, recording=lambda t: t % 30 < 0.5)
    with pytest.raises(InputError, match="nothing says where the video"):
        recording.for_video(12.0)
