"""Telemetry between its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from msnet_d2.damage_map.telemetry import noise
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag, find_spans, position_knots
from msnet_d2.damage_map.telemetry.noise import TelemetryNoise
from msnet_d2.damage_map.telemetry.pose import TelemetrySample
from msnet_d2.utils import geodesy

# In a longer gap between records a straight line says nothing.
MAX_GAP_S = 10.0
# Within a gap the position is off by about this much a second from the nearest record.
GAP_DRIFT_MPS = 1.0

_ANGLE_NOISE = {
    "pitch": noise.ASSUMED_PITCH_DEG,
    "yaw": noise.ASSUMED_YAW_DEG,
    "roll": noise.ASSUMED_ROLL_DEG,
}


def interpolate_linear(knots: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values (N,) at ``times``, straight between the finite ``values`` at ``knots``.

    The first and the last value hold beyond the ends; all NaN where there is no finite value.
    """
    ok = np.isfinite(values)
    if not ok.any():
        return np.full(times.shape, np.nan)
    return np.interp(times, knots[ok], values[ok])


def interpolate_angle(knots: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The same for degrees, the short way round; the result is in [-180, 180)."""
    ok = np.isfinite(values)
    unwrapped = values.copy()
    unwrapped[ok] = np.degrees(np.unwrap(np.radians(values[ok])))
    return geodesy.wrap_degrees(interpolate_linear(knots, unwrapped, times))


def interpolate_step(knots: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The last finite value at or before ``times``; the first one earlier than that."""
    ok = np.flatnonzero(np.isfinite(values))
    if not ok.size:
        return np.full(times.shape, np.nan)
    index = np.searchsorted(knots[ok], times, side="right") - 1
    return values[ok[np.clip(index, 0, None)]]


class Interpolator:
    """The knots of a telemetry table, found once."""

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        base_noise: TelemetryNoise,
        home: tuple[float, float],
        assumed: Mapping[str, float],
    ) -> None:
        self.columns, self.noise, self.home, self.assumed = columns, base_noise, home, assumed
        self.time = columns["time_s"]
        index = position_knots(columns)
        self.knots = self.time[index]
        self.places = geodesy.unit_vectors(columns["lat"][index], columns["lon"][index])
        _, steps = geodesy.azimuth_and_distance(
            columns["lat"][index[:-1]],
            columns["lon"][index[:-1]],
            columns["lat"][index[1:]],
            columns["lon"][index[1:]],
        )
        self.speeds = steps / np.maximum(np.diff(self.knots), 1e-6)
        self.seen = self.time[np.isfinite(columns["lat"]) & np.isfinite(columns["lon"])]
        period = float(np.median(np.diff(self.seen))) if self.seen.size > 1 else 0.5
        # A record holds until the next one is due, and subtitles begin with their frame or after.
        self.edge = float(np.clip(1.5 * period, 0.2, 2.0))
        self.spans = find_spans(columns)

    def _position(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latitude, longitude and speed (N,) each, unknown nowhere."""
        if self.knots.size == 1:
            lat, lon = geodesy.from_unit_vectors(np.repeat(self.places, times.size, axis=0))
            return lat, lon, np.zeros(times.size)
        left = np.clip(np.searchsorted(self.knots, times, "right") - 1, 0, self.knots.size - 2)
        span = np.maximum(self.knots[left + 1] - self.knots[left], 1e-6)
        # Beyond an end the line is followed for a moment: a held position would lag by metres.
        share = np.clip((times - self.knots[left]) / span, -self.edge / span, 1 + self.edge / span)[
            :, None
        ]
        vectors = self.places[left] * (1 - share) + self.places[left + 1] * share
        lat, lon = geodesy.from_unit_vectors(vectors)
        return lat, lon, self.speeds[left]

    def _in_spans(self, flag: TelemetryFlag, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether ``times`` lie in a span of the kind, and how long that is."""
        spans = self.spans[flag]
        if not len(spans):
            return np.zeros(times.shape, bool), np.zeros(times.shape)
        index = np.clip(np.searchsorted(spans[:, 0], times, "right") - 1, 0, None)
        inside = (times > spans[index, 0]) & (times < spans[index, 1])
        return inside, np.where(inside, spans[index, 1] - spans[index, 0], 0.0)

    def samples(self, times: np.ndarray) -> list[TelemetrySample]:
        """One sample a time."""
        columns = self.columns
        lat, lon, speed = self._position(times)
        before = times < self.seen[0] - self.edge
        after = times > self.seen[-1] + self.edge
        gap, gap_length = self._in_spans(TelemetryFlag.GAP, times)
        jump, _ = self._in_spans(TelemetryFlag.JUMP, times)
        still, _ = self._in_spans(TelemetryFlag.STILL, times)
        lost = before | after | (gap_length > MAX_GAP_S) | ~np.isfinite(times)
        lat, lon = np.where(lost, np.nan, lat), np.where(lost, np.nan, lon)
        near = np.abs(
            self.seen[np.clip(np.searchsorted(self.seen, times), 0, self.seen.size - 1)] - times
        )
        earlier = np.clip(np.searchsorted(self.seen, times) - 1, 0, None)
        drift = np.where(gap, np.minimum(near, np.abs(times - self.seen[earlier])), 0.0)

        values = {
            name: interpolate_linear(self.time, columns[name], times)
            for name in ("alt", "abs_alt", "pitch")
        }
        values |= {
            name: interpolate_angle(self.time, columns[name], times)
            for name in ("yaw", "roll", "flight_yaw")
        }
        values |= {
            name: interpolate_step(self.time, columns[name], times)
            for name in ("focal_mm", "hfov_deg", "zoom")
        }

        result = []
        for i, time in enumerate(times):
            flags = TelemetryFlag.GOOD
            for flag, mask in (
                (TelemetryFlag.BEFORE_START, before),
                (TelemetryFlag.AFTER_END, after),
                (TelemetryFlag.GAP, gap),
                (TelemetryFlag.JUMP, jump),
                (TelemetryFlag.STILL, still),
            ):
                if mask[i]:
                    flags |= flag
            row = {name: float(column[i]) for name, column in values.items()}
            angles, angle_noise, angle_flags = self._angles(row)
            flags |= angle_flags
            if lost[i]:
                flags |= TelemetryFlag.NO_POSITION
            if not np.isfinite(row["alt"]):
                flags |= TelemetryFlag.NO_ALTITUDE
            base = self.noise
            result.append(
                TelemetrySample(
                    time_s=float(time),
                    lat=float(lat[i]),
                    lon=float(lon[i]),
                    alt=row["alt"],
                    abs_alt=row["abs_alt"],
                    focal_mm=row["focal_mm"],
                    hfov_deg=row["hfov_deg"],
                    zoom=row["zoom"],
                    speed_mps=float(speed[i]),
                    home=self.home,
                    noise=replace(
                        base,
                        horizontal_m=float(
                            np.hypot(
                                np.hypot(base.horizontal_m, base.time_s * speed[i]),
                                GAP_DRIFT_MPS * drift[i],
                            )
                        ),
                        **angle_noise,
                    ),
                    flags=flags,
                    **angles,
                )
            )
        return result

    def _angles(
        self, row: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float], TelemetryFlag]:
        """Yaw, pitch and roll of the camera: as logged, else by hand, else by the nose."""
        angles, angle_noise, flags = {}, {}, TelemetryFlag.GOOD
        for name in ("yaw", "pitch", "roll"):
            value = row[name]
            if not np.isfinite(value) and name in self.assumed:
                value = self.assumed[name]
                angle_noise[f"{name}_deg"] = _ANGLE_NOISE[name]
                flags |= TelemetryFlag.ASSUMED_ANGLES
            elif not np.isfinite(value) and name == "yaw" and np.isfinite(row["flight_yaw"]):
                value = row["flight_yaw"]
                angle_noise["yaw_deg"] = noise.FLIGHT_YAW_DEG
                flags |= TelemetryFlag.FLIGHT_YAW
            angles[name] = value
        if not np.isfinite(angles["roll"]):
            angles["roll"] = 0.0  # a gimbal keeps the horizon level
        if not (np.isfinite(angles["yaw"]) and np.isfinite(angles["pitch"])):
            flags |= TelemetryFlag.NO_ANGLES
        return angles, angle_noise, flags
