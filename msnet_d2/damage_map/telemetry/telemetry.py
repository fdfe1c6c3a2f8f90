"""Where the camera was and where it looked, at any time of a video.

:meth:`Telemetry.read` takes a flight log, :meth:`Telemetry.for_video` places it on the video's
time, :meth:`Telemetry.at` interpolates. ``Telemetry.notes`` says in plain lines what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from msnet_d2.damage_map.telemetry import noise
from msnet_d2.damage_map.telemetry.cleaning import (
    clean_rows,
    describe_spans,
    find_spans,
    position_knots,
)
from msnet_d2.damage_map.telemetry.dji_srt import parse_dji_srt
from msnet_d2.damage_map.telemetry.flight_csv import parse_flight_csv
from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.interpolation import Interpolator
from msnet_d2.damage_map.telemetry.log_text import read_text
from msnet_d2.damage_map.telemetry.noise import TelemetryNoise
from msnet_d2.damage_map.telemetry.plausibility import check_log
from msnet_d2.damage_map.telemetry.pose import TelemetrySample
from msnet_d2.damage_map.telemetry.time_sync import (
    TimeSync,
    coverage_notes,
    video_start_in_log,
)
from msnet_d2.damage_map.telemetry.tracks import parse_geojson, parse_gpx, parse_kml
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import leads_out

NO_HEIGHT = (
    "no height above take-off in the log, only above sea level; `takeoff_altitude` says what the "
    "log would show on the ground"
)
# Some drones write their height above take-off under a name that stands for one above sea level.
LOW_ALTITUDE = (
    "the log's only altitude, {:.0f} m, may be above take-off: if it is, give `takeoff_altitude` "
    "0; else what the log would show on the ground"
)
SUFFIXES = (".srt", ".gpx", ".csv", ".tsv", ".txt", ".kml", ".geojson")


@dataclass(frozen=True)
class Telemetry:
    """A cleaned flight log.

    Attributes:
        columns: name (of :data:`.flight_log.COLUMNS`) to values (N,), in order
            of time; NaN where a record does not have the value.
        dialect: kind of the log.
        source: name of the file.
        noise: how far its values may be off.
        time_is_video: whether the times count from the first frame of the video.
        clock_start: date and time at time 0; aware of its zone only where the log is.
        home: (lat, lon) of the take-off point: as logged, else the first fix.
        assumed: angles given by hand ("yaw", "pitch", "roll") where the log has none.
        notes: what is wrong with the log, a line each.
        guesses: see :class:`.FlightLog`.
        sync: where the video begins in the log, once that is known.
        step_m: how far a logged position may be off by its last digit.
    """

    columns: dict[str, np.ndarray]
    dialect: str
    source: str
    noise: TelemetryNoise
    time_is_video: bool
    clock_start: datetime | None
    home: tuple[float, float]
    assumed: Mapping[str, float]
    notes: tuple[str, ...]
    guesses: Mapping[str, str] = field(default_factory=dict)
    sync: TimeSync | None = None
    step_m: float = 0.0

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        columns: Mapping[str, str] | None = None,
        gps_order: str | None = None,
    ) -> Telemetry:
        """Read a flight log: DJI's or Autel's subtitles, GPX, KML, GeoJSON or CSV, by content.

        Args:
            path: the file.
            columns: for CSV, field to header (see :func:`parse_columns`).
            gps_order: for DJI's ``GPS(a, b)``, "lat,lon" or "lon,lat" if it cannot be found out.

        Raises:
            InputError: if the file cannot be read, is of no known kind, or has no position.
            DependencyError: without pyproj.
        """
        text = read_text(path)
        return cls.from_text(text, Path(path).name, columns=columns, gps_order=gps_order)

    @classmethod
    def from_text(
        cls,
        text: str,
        source: str = "telemetry",
        *,
        columns: Mapping[str, str] | None = None,
        gps_order: str | None = None,
    ) -> Telemetry:
        """The same from the text of a log."""
        suffix, start = Path(source).suffix.lower(), text[:5000].lower()
        if "<gpx" in start or suffix == ".gpx":
            log = parse_gpx(text, source)
        elif "<kml" in start or suffix == ".kml":
            log = parse_kml(text, source)
        elif suffix == ".geojson" or start.lstrip().startswith("{"):
            log = parse_geojson(text, source)
        elif suffix in (".csv", ".tsv") or columns:
            log = parse_flight_csv(text, source, columns)
        elif "-->" in text:
            log = parse_dji_srt(text, source, gps_order)
        elif suffix != ".srt" and any(sign in text.partition("\n")[0] for sign in ",;\t"):
            log = parse_flight_csv(text, source, columns)
        else:
            line = next((line.strip() for line in text.splitlines() if line.strip()), "")
            begins = f"it begins with {line[:60]!a}" if line else "it is empty"
            raise InputError(
                f"{source}: not a flight log that is known ({begins}); DJI's and Autel's subtitles "
                "(.srt), GPX, KML with gx:Track, GeoJSON and CSV are"
            )
        return cls.from_log(check_log(log))

    @classmethod
    def from_log(cls, log: FlightLog) -> Telemetry:
        """Clean the rows of a reader.

        Raises:
            InputError: if no row has a position.
        """
        columns, notes = clean_rows(log)
        fixes = np.flatnonzero(np.isfinite(columns["lat"]) & np.isfinite(columns["lon"]))
        if not fixes.size:
            raise InputError(
                f"{log.source}: none of its {len(columns['lat'])} records has a satellite fix "
                "(all positions are 0, or out of range)"
            )
        home = log.home
        if home is None or abs(home[0]) > 90 or abs(home[1]) > 180:
            home = (float(columns["lat"][fixes[0]]), float(columns["lon"][fixes[0]]))
        notes += describe_spans(find_spans(columns))
        if not np.isfinite(columns["alt"]).any():
            notes.append(_no_height(columns["abs_alt"]))
        elif np.nanmax(columns["alt"]) < 2:
            notes.append("the drone never rises above 2 m over take-off")
        missing = [a for a in ("pitch", "yaw") if not np.isfinite(columns[a]).any()]
        if missing == ["yaw"] and np.isfinite(columns["flight_yaw"]).any():
            missing = []
        if missing:
            what, options = " and ".join(missing), " and ".join(f"`{m}`" for m in missing)
            notes.append(f"no gimbal {what} was recognised in the log; give {options}")
        base = noise.DIALECT_NOISE[log.dialect]
        digits = _decimals_in_use(columns["lat"], columns["lon"], log.position_decimals)
        step_m = 111_000 * 10.0**-digits
        return cls(
            columns=columns,
            dialect=log.dialect,
            source=log.source,
            noise=replace(base, horizontal_m=float(np.hypot(base.horizontal_m, step_m / 12**0.5))),
            time_is_video=log.time_is_video,
            clock_start=log.clock_start,
            home=home,
            assumed={},
            notes=tuple(notes),
            guesses=dict(log.guesses),
            step_m=float(step_m / 12**0.5),
        )

    def __len__(self) -> int:
        return len(self.columns["time_s"])

    @property
    def span(self) -> tuple[float, float]:
        """Times of the first and the last record that has a position."""
        time = self.columns["time_s"][np.isfinite(self.columns["lat"])]
        return float(time[0]), float(time[-1])

    @property
    def track(self) -> np.ndarray:
        """Time, latitude, longitude and height above take-off (N, 4) where there is a position."""
        index = position_knots(self.columns)
        return np.stack([self.columns[c][index] for c in ("time_s", "lat", "lon", "alt")], axis=1)

    def for_video(
        self,
        duration_s: float,
        *,
        start: datetime | None = None,
        offset_s: float | None = None,
    ) -> Telemetry:
        """Place the log on the time of a video.

        Args:
            duration_s: length of the video.
            start: date and time of its first frame (UTC if it has no zone).
            offset_s: time of the log at the video's first frame, if known; it goes before all
                else.

        Raises:
            InputError: if the log does not overlap with the video, hence belongs to another
                flight, or if nothing says when the video began.
        """
        sync = video_start_in_log(self, float(duration_s), start=start, offset_s=offset_s)
        moved = self.moved(sync.shift_s)
        notes = (*sync.notes, *coverage_notes(moved.span, float(duration_s)))
        guesses = {**self.guesses, **({"time": sync.guess} if sync.guess else {})}
        return replace(moved, notes=(*self.notes, *notes), guesses=guesses, sync=sync)

    def moved(self, shift_s: float, rate: float = 1.0) -> Telemetry:
        """The log on a time that is 0 at its second ``shift_s`` and runs ``rate`` times as fast.

        A video that was slowed to half speed shows half a second of flight in each second of its
        own: its rate is 0.5.
        """
        columns = {**self.columns, "time_s": (self.columns["time_s"] - shift_s) / rate}
        clock = self.clock_start
        if clock is not None:
            clock += timedelta(seconds=shift_s)
        return replace(self, columns=columns, time_is_video=True, clock_start=clock)

    def with_angles(
        self,
        *,
        pitch: float | None = None,
        yaw: float | None = None,
        roll: float | None = None,
    ) -> Telemetry:
        """Fill in angles of the camera (degrees) where the log has none; logged ones stay.

        Raises:
            InputError: if pitch is not within -90 and 90, or another is not a number.
        """
        given = {"pitch": pitch, "yaw": yaw, "roll": roll}
        assumed, notes = dict(self.assumed), list(self.notes)
        for name, value in given.items():
            if value is None:
                continue
            if not np.isfinite(value) or abs(value) > (90 if name == "pitch" else 360):
                limit = 90 if name == "pitch" else 360
                raise InputError(f"`{name}` {value}: expected degrees from -{limit} to {limit}")
            assumed[name] = float(value)
            have = np.isfinite(self.columns[name]).mean()
            if have:
                notes.append(f"`{name}` is used only where the log has none ({1 - have:.0%})")
        return replace(self, assumed=assumed, notes=tuple(notes))

    def with_takeoff_altitude(self, abs_alt_m: float) -> Telemetry:
        """Take heights above take-off from those above sea level, where the log has only these.

        Args:
            abs_alt_m: what the log shows on the ground at take-off. Drones are wrong about the sea
                level by tens of metres, so a map's elevation will not do.

        Raises:
            InputError: if it is not a number.
        """
        if not (np.isfinite(abs_alt_m) and abs(abs_alt_m) < 10_000):
            raise InputError(f"`takeoff_altitude` {abs_alt_m}: expected metres above sea level")
        alt, abs_alt = self.columns["alt"], self.columns["abs_alt"]
        if "altitude" in self.guesses:
            # What was guessed to be above take-off is above sea level after all.
            alt, abs_alt = np.full_like(alt, np.nan), alt
        columns = {**self.columns, "alt": np.where(np.isfinite(alt), alt, abs_alt - abs_alt_m)}
        vague = float(np.hypot(self.noise.altitude_m, noise.SEA_LEVEL_M))
        return replace(
            self,
            columns=columns,
            noise=replace(
                self.noise, altitude_m=vague if np.isnan(alt).any() else self.noise.altitude_m
            ),
            notes=tuple(n for n in self.notes if n not in (NO_HEIGHT, _no_height(abs_alt))),
            guesses={name: text for name, text in self.guesses.items() if name != "altitude"},
        )

    @overload
    def at(self, times: float) -> TelemetrySample: ...
    @overload
    def at(self, times: Sequence[float] | np.ndarray) -> list[TelemetrySample]: ...

    def at(self, times):
        """Interpolate at ``times`` (seconds): one sample for a number, a list for several.

        Positions and altitudes are interpolated linearly, angles the short way round, the focal
        length is the last one set. Beyond the ends of the log, but for half a record or so, and
        in gaps over ten seconds the position is unknown.
        """
        times_array = np.atleast_1d(np.asarray(times, dtype=float))
        samples = self._interpolator.samples(times_array)
        return samples[0] if np.ndim(times) == 0 else samples

    @cached_property
    def _interpolator(self) -> Interpolator:
        return Interpolator(self.columns, self.noise, self.home, self.assumed)


def _decimals_in_use(lat: np.ndarray, lon: np.ndarray, written: int) -> int:
    """Digits behind the decimal point that positions use; logs pad coarse ones with zeros."""
    values = np.concatenate([lat, lon])
    values = np.unique(values[np.isfinite(values)])
    if values.size < 8:
        return written
    for digits in range(2, written):
        scaled = values * 10.0**digits
        if np.abs(scaled - np.round(scaled)).max() < 1e-4:
            return digits
    return written


def _no_height(abs_alt: np.ndarray) -> str:
    """What to say of a log without heights above take-off."""
    known = abs_alt[np.isfinite(abs_alt)]
    if not known.size:
        return "no altitude was recognised in the log"
    height = float(np.median(known))
    return LOW_ALTITUDE.format(height) if 2 < height < 500 else NO_HEIGHT


def find_telemetry(video: Path | str) -> Path | None:
    """The flight log beside a video: the same name with a suffix of a log, in any case.

    A link that leads out of the folder is not followed, nor is anything but a file.
    """
    video = Path(video)
    try:
        beside = sorted(video.parent.iterdir())
    except OSError:
        return None
    for suffix in SUFFIXES:
        for path in beside:
            if (
                path.stem.lower() == video.stem.lower()
                and path.suffix.lower() == suffix
                and path.is_file()
                and not leads_out(path, video.parent)
            ):
                return path
    return None
