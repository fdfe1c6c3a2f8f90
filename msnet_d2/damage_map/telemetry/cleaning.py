"""What is wrong with a flight log, said in lines that a person can act upon."""

from __future__ import annotations

import enum

import numpy as np

from msnet_d2.damage_map.telemetry.flight_log import COLUMNS, FlightLog
from msnet_d2.utils import geodesy

# Faster than any drone that films buildings (a DJI FPV reaches 39 m/s).
MAX_SPEED_MPS = 60.0
# A jump is more than this beyond what that speed allows; coarse positions step by up to 11 m.
MIN_JUMP_M = 30.0
# Positions are repeated until the next satellite fix, up to this long.
STAIRCASE_S = 1.0
STILL_S = 5.0
MIN_GAP_S = 1.0


class TelemetryFlag(enum.Flag):
    """What a sample of telemetry was made of; several may hold at once."""

    GOOD = 0
    BEFORE_START = enum.auto()  # the log begins later
    AFTER_END = enum.auto()  # the log ended earlier
    GAP = enum.auto()  # records are missing around it, the values are interpolated
    JUMP = enum.auto()  # the position jumps here
    STILL = enum.auto()  # nothing changes for seconds: hovering, or a frozen log
    NO_POSITION = enum.auto()
    NO_ALTITUDE = enum.auto()
    FLIGHT_YAW = enum.auto()  # the drone's heading in place of the gimbal's yaw
    ASSUMED_ANGLES = enum.auto()  # an angle was given by hand
    NO_ANGLES = enum.auto()  # pitch or yaw is unknown

    @property
    def text(self) -> str:
        """The flags in words, comma-separated; "good" if none is set."""
        names = [flag.name for flag in TelemetryFlag if flag.value and flag in self]
        return ", ".join(name.lower().replace("_", " ") for name in names) or "good"


def count(number: int, noun: str) -> str:
    """``number`` with its noun, in the plural unless it is one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clean_rows(log: FlightLog) -> tuple[dict[str, np.ndarray], list[str]]:
    """Sort a log by time and drop what cannot be: returns columns (N,) and notes.

    Positions out of range, at latitude and longitude 0 (no fix yet) and lone outliers become NaN;
    equal times are spread evenly up to the next.
    """
    columns = {name: values.copy() for name, values in log.columns.items()}
    notes = list(log.notes)
    time = columns["time_s"]
    keep = np.isfinite(time)
    if (np.diff(time[keep]) < 0).any():
        notes.append("records are not in order of time; they were sorted")
    order = np.flatnonzero(keep)[np.argsort(time[keep], kind="stable")]
    columns = {name: values[order] for name, values in columns.items()}
    columns["time_s"] = _spread_ties(columns["time_s"])

    lat, lon = columns["lat"], columns["lon"]
    no_fix = (lat == 0) & (lon == 0)
    wrong = ~no_fix & ((np.abs(lat) > 90) | (np.abs(lon) > 180))
    lat[no_fix | wrong] = lon[no_fix | wrong] = np.nan
    if no_fix.any():
        notes.append(f"{count(int(no_fix.sum()), 'record')} without a satellite fix")
    if wrong.any():
        notes.append(f"{count(int(wrong.sum()), 'position')} out of range dropped")
    for name, limit in (("pitch", 180), ("roll", 180), ("yaw", 720), ("flight_yaw", 720)):
        columns[name][np.abs(columns[name]) > limit] = np.nan
    for name in ("alt", "abs_alt"):
        columns[name][np.abs(columns[name]) > 20_000] = np.nan
    columns["focal_mm"][~((columns["focal_mm"] > 1) & (columns["focal_mm"] < 5000))] = np.nan
    columns["zoom"][~((columns["zoom"] > 0) & (columns["zoom"] <= 100))] = np.nan
    columns["hfov_deg"][~((columns["hfov_deg"] > 0.1) & (columns["hfov_deg"] < 179))] = np.nan

    spikes = _spikes(columns)
    if spikes.size:
        times = ", ".join(f"{t:.1f}" for t in columns["time_s"][spikes][:5])
        more = f" and {spikes.size - 5} more" if spikes.size > 5 else ""
        notes.append(f"outlying positions dropped at {times}{more} s")
        lat[spikes] = lon[spikes] = np.nan
    return columns, notes


def _spread_ties(time: np.ndarray) -> np.ndarray:
    """Rows that share a time (a clock in whole seconds) share the span up to the next time."""
    if time.size < 2 or (np.diff(time) > 0).all():
        return time
    distinct, first, counts = np.unique(time, return_index=True, return_counts=True)
    spans = np.append(np.diff(distinct), np.median(np.diff(distinct)) if distinct.size > 1 else 1.0)
    rank = np.arange(time.size) - np.repeat(first, counts)
    return time + rank * np.repeat(spans / counts, counts)


def position_knots(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Indices of the records at which the position is fresh.

    A log of every frame repeats each satellite fix until the next one; to interpolate between
    repeats would make the drone move in steps. Where the position stays for longer than
    ``STAIRCASE_S`` the drone stands, and the last repeat counts too.
    """
    lat, lon, time = columns["lat"], columns["lon"], columns["time_s"]
    index = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
    if index.size < 2:
        return index
    fresh = np.r_[True, (np.diff(lat[index]) != 0) | (np.diff(lon[index]) != 0)]
    starts = np.flatnonzero(fresh)
    ends = np.r_[starts[1:] - 1, index.size - 1]
    stands = time[index[ends]] - time[index[starts]] > STAIRCASE_S
    stands[-1] = True
    return index[np.union1d(starts, ends[stands])]


def _speeding(columns: dict[str, np.ndarray], index: np.ndarray, reach: int) -> np.ndarray:
    """Whether from each of ``index`` to the one ``reach`` further is farther than can be flown."""
    lat, lon, time = (columns[name][index] for name in ("lat", "lon", "time_s"))
    _, distance = geodesy.azimuth_and_distance(lat[:-reach], lon[:-reach], lat[reach:], lon[reach:])
    return distance > MAX_SPEED_MPS * (time[reach:] - time[:-reach]) + MIN_JUMP_M


def _spikes(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Records whose position is out of reach from both neighbours, which agree."""
    index = position_knots(columns)
    if index.size < 3:
        return index[:0]
    step, across = _speeding(columns, index, 1), _speeding(columns, index, 2)
    lone = index[1:-1][step[:-1] & step[1:] & ~across]
    places = columns["lat"] + 1j * columns["lon"]
    # The record's repeats are as wrong as itself.
    return np.flatnonzero(np.isin(places, places[lone]))


def find_spans(columns: dict[str, np.ndarray]) -> dict[TelemetryFlag, np.ndarray]:
    """Spans of time (K, 2) with gaps, jumps, and standstill."""
    time = columns["time_s"]
    seen = time[np.isfinite(columns["lat"]) & np.isfinite(columns["lon"])]
    steps = np.diff(seen)
    limit = max(3 * float(np.median(steps)), MIN_GAP_S) if steps.size else MIN_GAP_S
    gaps = np.flatnonzero(steps > limit)

    knots = position_knots(columns)
    jumps = np.flatnonzero(_speeding(columns, knots, 1)) if knots.size > 1 else knots[:0]

    names = [name for name in COLUMNS if name not in ("time_s", "recording")]
    table = np.stack([columns[name] for name in names])
    same = ((table[:, 1:] == table[:, :-1]) | np.isnan(table[:, 1:])).all(axis=0)
    edges = np.flatnonzero(np.diff(np.r_[False, same, False].astype(int)))
    still = time[edges.reshape(-1, 2)] if edges.size else np.zeros((0, 2))
    return {
        TelemetryFlag.GAP: np.stack([seen[gaps], seen[gaps + 1]], axis=1),
        TelemetryFlag.JUMP: np.stack([time[knots[jumps]], time[knots[jumps + 1]]], axis=1)
        if jumps.size
        else np.zeros((0, 2)),
        TelemetryFlag.STILL: still[still[:, 1] - still[:, 0] >= STILL_S],
    }


_SPAN_TEXT = {
    TelemetryFlag.GAP: "no record from {}; positions there are interpolated or missing",
    TelemetryFlag.JUMP: "the position jumps at {}; it is doubtful around there",
    TelemetryFlag.STILL: "nothing changes from {}: the drone stands still, or the log was frozen",
}


def describe_spans(spans: dict[TelemetryFlag, np.ndarray]) -> list[str]:
    """One line for each kind of span that occurs."""
    notes = []
    for flag, found in spans.items():
        if len(found):
            pieces = [f"{a:.1f} to {b:.1f} s" for a, b in found[:4]]
            if flag is TelemetryFlag.JUMP:
                pieces = [f"{a:.1f} s" for a, _ in found[:4]]
            more = f" and {len(found) - 4} more times" if len(found) > 4 else ""
            notes.append(_SPAN_TEXT[flag].format(", ".join(pieces) + more))
    return notes
