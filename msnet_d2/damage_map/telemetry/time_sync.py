"""Which moment of a flight log is the first frame of a video, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from msnet_d2.errors import InputError

if TYPE_CHECKING:
    from msnet_d2.damage_map.telemetry.telemetry import Telemetry

# A log whose ends are this close to the video's needs no remark.
EDGE_S = 1.5
# No two clocks differ by more than this and tell the same moment in different zones.
MAX_ZONE_S = 14.5 * 3600
# Zones differ by quarters of an hour; two clocks that are set by satellite or phone by less than
# this, and a file's time of creation is cut to whole seconds.
QUARTER_S = 900.0
CLOCK_S = 3.0
CUT_S = 60.0


@dataclass(frozen=True)
class TimeSync:
    """Where a video begins in a log.

    Attributes:
        shift_s: time of the log at the video's first frame.
        basis: what it rests on: "subtitles", "given", "recording", "length" or "clock".
        windows: spans (from, to) of other shifts that are as likely by what log and file say.
        guess: a line if the shift may be wrong by more than the log's own noise, else "".
        notes: what had to be assumed, a line each.
    """

    shift_s: float
    basis: str
    windows: tuple[tuple[float, float], ...] = ()
    guess: str = ""
    notes: tuple[str, ...] = ()


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


def video_start_in_log(
    telemetry: Telemetry,
    duration_s: float,
    *,
    start: datetime | None,
    offset_s: float | None,
) -> TimeSync:
    """Find the time of the log at the video's first frame.

    Raises:
        InputError: if log and video do not overlap, or nothing says when the video began.
    """
    if not (np.isfinite(duration_s) and duration_s > 0):
        raise InputError(f"video length {duration_s} s: expected a positive number of seconds")
    begin, end = telemetry.span
    apart = None
    if start is not None and telemetry.clock_start is not None:
        apart = (_utc(start) - _utc(telemetry.clock_start)).total_seconds()
    if offset_s is not None:
        sync = _with_extra_length(TimeSync(float(offset_s), "given"), telemetry, duration_s)
    elif telemetry.time_is_video:
        notes = () if apart is None else tuple(_compare_clocks(telemetry, apart))
        sync = _with_extra_length(TimeSync(0.0, "subtitles", notes=notes), telemetry, duration_s)
    elif (run := _recording_run(telemetry, duration_s)) is not None:
        sync = run
    elif apart is not None:
        sync = _by_clock(apart, (begin, end), duration_s)
    elif abs(end - begin - duration_s) <= max(2.0, 0.05 * duration_s):
        note = "the log is as long as the video and is taken to begin with it"
        spare = abs(end - begin - duration_s)
        sync = TimeSync(begin, "length", ((begin - spare, begin + spare),), notes=(note,))
    else:
        raise InputError(
            f"{telemetry.source}: nothing says where the video ({duration_s:.0f} s) begins in this "
            f"log ({end - begin:.0f} s); give `telemetry_offset`, the log's time in seconds at the "
            "video's first frame"
        )
    if sync.shift_s > end or sync.shift_s + duration_s < begin:
        raise InputError(
            f"{telemetry.source}: the log of another flight? The video lies at {sync.shift_s:.0f} "
            f"to {sync.shift_s + duration_s:.0f} s of the log, which has positions from "
            f"{begin:.0f} to {end:.0f} s; if a clock was wrong, give `telemetry_offset`"
        )
    return sync


def _with_extra_length(sync: TimeSync, telemetry: Telemetry, duration_s: float) -> TimeSync:
    """Say it where a log that should be as long as the video is not."""
    begin, end = telemetry.span
    begin, end = begin - sync.shift_s, end - sync.shift_s
    spare = EDGE_S + _period(telemetry)
    late, missing = begin > spare, end < duration_s - spare
    extra = end - duration_s > spare
    if sync.basis == "given" and not telemetry.time_is_video:
        extra = False  # the log of a whole flight is longer than any video of it
    if not (late or missing or extra):
        return sync
    shift = sync.shift_s
    low, high = sorted((shift + begin, shift + end - duration_s))
    windows = ((min(low, shift), max(high, shift)),)
    if extra and not late and not missing:
        guess = (
            f"the log is {end - duration_s:.1f} s longer than the video: of a clip that was cut, "
            "nothing says which part it is; `telemetry_offset` names the log's time at the first "
            "frame"
        )
    else:
        guess = (
            f"the log covers {begin:.1f} to {end:.1f} s of a video of {duration_s:.1f} s: a clip "
            "that was slowed, or another offset? `telemetry_offset` names the log's time at the "
            "first frame"
        )
    return replace(sync, windows=windows, guess=guess)


def _period(telemetry: Telemetry) -> float:
    steps = np.diff(telemetry.columns["time_s"])
    return float(np.clip(np.median(steps), 0, 2)) if steps.size else 0.0


def _by_clock(apart: float, span: tuple[float, float], duration_s: float) -> TimeSync:
    """Begin by the file's time of creation, by a whole time zone aside where nothing else fits."""
    begin, end = span
    notes: list[str] = []
    zone = 0.0
    if not begin - CLOCK_S <= apart <= end:
        zones = np.arange(-58, 59) * QUARTER_S
        inside = [
            z for z in zones
            if begin - CLOCK_S <= apart - z and apart - z + duration_s <= end + CLOCK_S
        ]  # fmt: skip
        whole = [z for z in inside if z % 3600 == 0] or inside
        if whole:
            zone = float(min(whole, key=abs))
            hours = f"{abs(zone) / 3600:g} h"
            notes.append(f"the clocks of log and video are {hours} apart, taken as a time zone")
    shift = apart - zone
    other = shift - duration_s
    guess = (
        "when recording began rests on the file's time of creation alone, which some programs set "
        "at its end or when it is copied; `telemetry_offset` names the log's time at the first "
        "frame"
    )
    notes.append("the video was found in the log by the file's time of creation")
    # A clip that was cut keeps the time of the whole one, which began up to this much earlier.
    latest = max(min(end - duration_s, shift + CUT_S), shift + CLOCK_S)
    windows = ((other - CLOCK_S, latest),)
    return TimeSync(shift, "clock", windows, guess, tuple(notes))


def _compare_clocks(telemetry: Telemetry, apart: float) -> list[str]:
    """Whether subtitles that count from the video's start are of this very video."""
    if abs(apart) > MAX_ZONE_S:
        raise InputError(
            f"{telemetry.source}: the log of another flight? It was written "
            f"{abs(apart) / 3600:.0f} hours {'before' if apart > 0 else 'after'} the video; if a "
            "clock was wrong, give `telemetry_offset` 0"
        )
    # Subtitles are in local time, videos in UTC: they differ by quarters of an hour.
    rest = abs((apart + QUARTER_S / 2) % QUARTER_S - QUARTER_S / 2)
    if rest > 120:
        return [f"the clocks of log and video differ by {rest:.0f} s beyond their time zones"]
    return []


def _recording_run(telemetry: Telemetry, duration_s: float) -> TimeSync | None:
    """Begin of the only recording in the log that is as long as the video, or of the only one
    whose end is not marked; None if unclear."""
    recording = np.nan_to_num(telemetry.columns["recording"]) > 0
    time = telemetry.columns["time_s"]
    edges = np.flatnonzero(np.diff(np.r_[False, recording, False].astype(int))).reshape(-1, 2)
    period = _period(telemetry)
    runs = [(float(time[a]), float(time[b - 1])) for a, b in edges]
    fitting = [a for a, b in runs if abs(b - a - duration_s) <= max(2.0, 0.02 * duration_s)]
    if len(fitting) == 1:
        spare = max(period, 0.2)
        window = ((fitting[0] - spare, fitting[0] + spare),)
        return TimeSync(fitting[0], "recording", window)
    end = float(time[-1])
    pulses = [a for a, b in runs if b - a < min(2.0, duration_s / 4) and a + duration_s <= end + 1]
    if len(runs) == 1 and len(pulses) == 1 and pulses[0] > float(time[0]):
        note = "only the start of the recording is marked in the log"
        window = ((pulses[0] - CLOCK_S, pulses[0] + CLOCK_S),)
        return TimeSync(pulses[0], "recording", window, notes=(note,))
    return None


def coverage_notes(span: tuple[float, float], duration_s: float) -> list[str]:
    """Say it where the log begins after the video or ends before it."""
    notes = []
    if span[0] > EDGE_S:
        notes.append(f"the log begins {span[0]:.1f} s after the video")
    if span[1] < duration_s - EDGE_S:
        notes.append(
            f"the log ends {duration_s - span[1]:.1f} s before the video (at {span[1]:.1f} of "
            f"{duration_s:.1f} s)"
        )
    return notes
