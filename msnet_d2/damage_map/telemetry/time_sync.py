"""Which moment of a flight log is the first frame of a video."""

from __future__ import annotations

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


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


def video_start_in_log(
    telemetry: Telemetry,
    duration_s: float,
    *,
    start: datetime | None,
    offset_s: float | None,
) -> tuple[float, list[str]]:
    """Time of the log at the video's first frame, and what had to be assumed for it.

    Raises:
        InputError: if log and video do not overlap, or nothing says when the video began.
    """
    if not (np.isfinite(duration_s) and duration_s > 0):
        raise InputError(f"video length {duration_s} s: expected a positive number of seconds")
    notes: list[str] = []
    begin, end = telemetry.span
    apart = None
    if start is not None and telemetry.clock_start is not None:
        apart = (_utc(start) - _utc(telemetry.clock_start)).total_seconds()
    if offset_s is not None:
        shift = float(offset_s)
    elif telemetry.time_is_video:
        shift = 0.0
        if apart is not None:
            notes += _compare_clocks(telemetry, apart)
    elif (run := _recording_run(telemetry, duration_s)) is not None:
        shift = run
    elif apart is not None:
        shift = apart
    elif abs(end - begin - duration_s) <= max(2.0, 0.05 * duration_s):
        shift = begin
        notes.append("the log is as long as the video and is taken to begin with it")
    else:
        raise InputError(
            f"{telemetry.source}: nothing says where the video ({duration_s:.0f} s) begins in this "
            f"log ({end - begin:.0f} s); give --telemetry-offset, the log's time in seconds at the "
            "video's first frame"
        )
    if shift > end or shift + duration_s < begin:
        raise InputError(
            f"{telemetry.source}: the log of another flight? The video lies at {shift:.0f} to "
            f"{shift + duration_s:.0f} s of the log, which has positions from {begin:.0f} to "
            f"{end:.0f} s; if a clock was wrong, give --telemetry-offset"
        )
    return shift, notes


def _compare_clocks(telemetry: Telemetry, apart: float) -> list[str]:
    """Whether subtitles that count from the video's start are of this very video."""
    if abs(apart) > MAX_ZONE_S:
        raise InputError(
            f"{telemetry.source}: the log of another flight? It was written "
            f"{abs(apart) / 3600:.0f} hours {'before' if apart > 0 else 'after'} the video; if a "
            "clock was wrong, give --telemetry-offset 0"
        )
    # Subtitles are in local time, videos in UTC: they differ by quarters of an hour.
    rest = abs((apart + 450) % 900 - 450)
    if rest > 120:
        return [f"the clocks of log and video differ by {rest:.0f} s beyond their time zones"]
    return []


def _recording_run(telemetry: Telemetry, duration_s: float) -> float | None:
    """Begin of the only recording in the log that is as long as the video; None if unclear."""
    recording = np.nan_to_num(telemetry.columns["recording"]) > 0
    time = telemetry.columns["time_s"]
    edges = np.flatnonzero(np.diff(np.r_[False, recording, False].astype(int))).reshape(-1, 2)
    begins = [
        float(time[a])
        for a, b in edges
        if abs(time[b - 1] - time[a] - duration_s) <= max(2.0, 0.02 * duration_s)
    ]
    return begins[0] if len(begins) == 1 else None


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
