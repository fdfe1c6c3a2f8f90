"""What a log says is compared with what drones do, before anything is placed by it."""

from __future__ import annotations

import numpy as np

from msnet_d2.damage_map.telemetry.flight_log import FlightLog
from msnet_d2.damage_map.telemetry.heights import MAX_HEIGHT_M
from msnet_d2.utils import geodesy

# Faster than any drone that films buildings (a DJI FPV reaches 39 m/s).
MAX_SPEED_MPS = 60.0
# A gimbal that follows the nose stays within this of it.
_FOLLOWS_DEG = 25.0
_TURNED_DEG = 45.0


def check_log(log: FlightLog) -> FlightLog:
    """Mend what can be nothing else, and add a guess or a note for what is doubtful.

    Positions in radians become degrees; angles that are all zero are none; a gimbal yaw that
    counts from the drone's nose is turned to north.
    """
    _check_position_unit(log)
    _check_gimbal(log)
    _check_heights(log)
    _check_speed(log)
    return log


def _speed(log: FlightLog, factor: float = 1.0) -> float:
    """Speed (m/s) that nine of ten moves keep below; 0 where nothing moves."""
    lat, lon, time = (log.columns[name] for name in ("lat", "lon", "time_s"))
    ok = np.isfinite(lat) & np.isfinite(lon) & np.isfinite(time) & ((lat != 0) | (lon != 0))
    lat, lon, time = lat[ok] * factor, lon[ok] * factor, time[ok]
    if lat.size < 3 or np.abs(lat).max() > 90:
        return 0.0
    # Positions repeat until the next fix: moves over a second or so say more than single steps.
    step = max(1, int(np.ceil(1.0 / max(float(np.median(np.diff(time))), 1e-3))))
    step = min(step, lat.size - 1)
    _, distance = geodesy.azimuth_and_distance(lat[:-step], lon[:-step], lat[step:], lon[step:])
    gap = time[step:] - time[:-step]
    good = gap > 0
    return float(np.percentile(distance[good] / gap[good], 90)) if good.any() else 0.0


def _check_position_unit(log: FlightLog) -> None:
    lat, lon = log.columns["lat"], log.columns["lon"]
    ok = np.isfinite(lat) & np.isfinite(lon) & ((lat != 0) | (lon != 0))
    if not ok.any() or np.abs(lat[ok]).max() > np.pi / 2 or np.abs(lon[ok]).max() > np.pi:
        return
    # As degrees these are places in the open sea off Ghana.
    as_radians = _speed(log, 180 / np.pi)
    if 0.05 < as_radians < MAX_SPEED_MPS:
        log.columns["lat"], log.columns["lon"] = np.degrees(lat), np.degrees(lon)
        log.position_decimals = max(log.position_decimals - 2, 0)
        log.notes.append("positions are in radians, and were read as such")
        return
    log.guesses["position"] = (
        f"positions near latitude {np.median(lat[ok]):.3f}, longitude {np.median(lon[ok]):.3f} lie "
        "in the open sea: a receiver without a fix, or another unit?"
    )


def _check_gimbal(log: FlightLog) -> None:
    columns = log.columns
    angles = np.stack([np.nan_to_num(columns[name]) for name in ("yaw", "pitch", "roll")])
    given = np.isfinite(columns["yaw"]) | np.isfinite(columns["pitch"])
    if given.sum() > 1 and np.isfinite(columns["pitch"]).any() and not angles.any():
        for name in ("yaw", "pitch", "roll"):
            columns[name] = np.full_like(columns[name], np.nan)
        log.notes.append(
            "the gimbal's angles are all zero, hence unknown; `pitch` and `yaw` name them"
        )
        return
    pitch = columns["pitch"][np.isfinite(columns["pitch"])]
    if pitch.size and np.median(pitch) > 5:
        log.guesses["pitch"] = (
            f"the gimbal's pitch is upwards ({np.median(pitch):.0f} degrees): counted from below, "
            "or with the other sign?"
        )
    both = np.isfinite(columns["yaw"]) & np.isfinite(columns["flight_yaw"])
    if both.sum() < 2:
        return
    gimbal = geodesy.wrap_degrees(columns["yaw"][both])
    nose = geodesy.wrap_degrees(columns["flight_yaw"][both])
    small = np.mean(np.abs(gimbal) < _FOLLOWS_DEG) > 0.9
    if small and np.mean(np.abs(nose) > _TURNED_DEG) > 0.5 and np.ptp(gimbal) < _TURNED_DEG:
        columns["yaw"] = columns["yaw"] + columns["flight_yaw"]
        log.guesses["yaw"] = (
            "the gimbal's yaw stays near 0 while the nose points elsewhere: it is taken as counted "
            "from the nose"
        )


def _check_heights(log: FlightLog) -> None:
    alt = log.columns["alt"]
    height = float(np.nanmedian(alt)) if np.isfinite(alt).any() else 0.0
    if height > MAX_HEIGHT_M:
        log.notes.append(f"{height:.0f} m are no height above take-off; taken as above sea level")
        if not np.isfinite(log.columns["abs_alt"]).any():
            log.columns["abs_alt"] = alt
        log.columns["alt"] = np.full_like(alt, np.nan)


def _check_speed(log: FlightLog) -> None:
    speed = _speed(log)
    if speed > MAX_SPEED_MPS:
        log.guesses["speed"] = (
            f"the drone moves at {speed:.0f} m/s, faster than any: are times or positions in "
            "another unit?"
        )
