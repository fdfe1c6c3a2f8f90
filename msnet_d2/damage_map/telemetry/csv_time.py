"""The time of each row of a table: seconds, elapsed times, the clock, or both."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from msnet_d2.damage_map.telemetry.log_text import is_day_first, parse_clock
from msnet_d2.damage_map.telemetry.values import DURATIONS, parse_elapsed, parse_measure

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Seconds since 1970 of the years 2001 to 2065, in units of 1, 1e-3, 1e-6 and 1e-9 s.
_EPOCH_RANGE = (1e9, 3e9)


def epoch_scale(value: float) -> float | None:
    """Seconds per unit of a time since 1970, by its size; None if it is none."""
    for scale in (1.0, 1e-3, 1e-6, 1e-9):
        if _EPOCH_RANGE[0] <= abs(value) * scale < _EPOCH_RANGE[1]:
            return scale
    return None


def unit_by_step(values: np.ndarray) -> float:
    """Seconds per unit of counts without a unit, by how they step.

    Logs have from one to a hundred records a second, in whole seconds, milli- or microseconds;
    fractions are of seconds.
    """
    finite = values[np.isfinite(values)]
    steps = np.diff(finite)
    steps = steps[steps > 0]
    if not steps.size or (finite != np.round(finite)).any():
        return 1.0
    step = float(np.median(steps))
    return 1.0 if step < 5 else 1e-3 if step < 5000 else 1e-6 if step < 5e6 else 1e-9


class RowTimes:
    """Collects the times of rows.

    Attributes:
        notes: what was odd, a line each.
    """

    def __init__(self, cells: dict[str, list[str]], unit: str, is_utc: bool, thousands: bool):
        """Read columns of times.

        Args:
            cells: text of each row by field ("time", "datetime", "date"), those that there are.
            unit: of the field "time", "" if its header has none.
            is_utc: whether a header says that the clock is UTC.
            thousands: whether a comma in "time" stands between thousands.
        """
        self.notes: list[str] = []
        count = len(next(iter(cells.values())))
        self.seconds = np.full(count, np.nan)
        self.clocks: list[datetime | None] = [None] * count
        self.is_utc = is_utc
        self._read_clocks(cells)
        if "time" in cells:
            self._read_seconds(cells["time"], unit, thousands)

    def _read_clocks(self, cells: dict[str, list[str]]) -> None:
        dates = cells.get("date")
        for name in ("datetime", "time"):
            texts = cells.get(name, dates if name == "datetime" else None)
            if texts is None:
                continue
            alone = texts
            if dates is not None and texts is not dates:
                texts = [f"{d} {t}" for d, t in zip(dates, texts)]
            day_first = is_day_first(texts[:1000] + texts[-1000:])
            for text_list in (alone, texts):
                clocks = [parse_clock(t, day_first=bool(day_first)) for t in text_list]
                if any(clocks):
                    break
            if any(clocks):
                self.clocks = clocks
                if day_first is None:
                    self.notes.append("dates such as 1/2/2024 are taken as month/day/year")
                return

    def _read_seconds(self, texts: list[str], unit: str, thousands: bool) -> None:
        values = np.array([parse_measure(t, DURATIONS, thousands=thousands) for t in texts])
        if not np.isfinite(values).any():
            # A time of day beside a date is the clock, which has been read.
            if not any(self.clocks):
                self.seconds = np.array([parse_elapsed(t) for t in texts])
                self._count_days()
            return
        first = values[np.isfinite(values)][0]
        epoch = epoch_scale(first)
        if epoch is not None and unit in ("", *DURATIONS):
            # Subtract before scaling: microseconds since 1970 have 16 digits.
            self.seconds = (values - first) * epoch
            if not any(self.clocks):
                start = _EPOCH + timedelta(seconds=first * epoch)
                self.clocks[int(np.flatnonzero(np.isfinite(values))[0])] = start
        elif unit in DURATIONS or any(t.strip()[-1:].isalpha() for t in texts[:5]):
            self.seconds = values * DURATIONS.get(unit, 1.0)
        else:
            scale = unit_by_step(values)
            self.seconds = values * scale
            if scale != 1:
                name = {1e-3: "milliseconds", 1e-6: "microseconds", 1e-9: "nanoseconds"}[scale]
                self.notes.append(f"times without a unit are taken as {name}")

    def _count_days(self) -> None:
        """A time of day that falls back by nearly a day went past midnight."""
        steps = np.diff(self.seconds)
        days = np.concatenate([[0], np.cumsum(np.nan_to_num(steps) < -43_200)])
        self.seconds = self.seconds + days * 86_400

    def known(self) -> np.ndarray:
        """Whether each row (N,) has a time."""
        return np.isfinite(self.seconds) | np.array([c is not None for c in self.clocks])

    def finish(self, keep: np.ndarray) -> tuple[np.ndarray, datetime | None]:
        """Seconds since the log's start of the rows to keep, and date and time of that start."""
        seconds = self.seconds[keep]
        clocks = [c for c, k in zip(self.clocks, keep) if k]
        first = next((c for c in clocks if c), None)
        elapsed = np.full(len(clocks), np.nan)
        if first is not None:
            for i, clock in enumerate(clocks):
                if clock is not None and (clock.tzinfo is None) == (first.tzinfo is None):
                    elapsed[i] = (clock - first).total_seconds()
        if np.isnan(seconds).all():
            seconds, offset = elapsed, 0.0
        else:
            seconds = seconds - seconds[np.isfinite(seconds)][0]
            pairs = elapsed - seconds
            pairs = pairs[np.isfinite(pairs)]
            # Clocks in whole seconds are cut off, not rounded: none of them is ahead, so the
            # largest difference is nearest to the truth.
            offset = float(pairs.max()) if pairs.size else 0.0
            seconds = np.where(np.isfinite(seconds), seconds, elapsed - offset)
        if first is None:
            return seconds, None
        try:
            start = first + timedelta(seconds=offset)
        except OverflowError:
            return seconds, None
        if self.is_utc and start.tzinfo is None:
            start = start.replace(tzinfo=timezone.utc)
        return seconds, start
