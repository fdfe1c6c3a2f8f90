"""Where the scene lies on the globe, and the subtitle files in which DJI's drones write their
telemetry.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np

from synthetic_flights.camera import Intrinsics, Pose
from synthetic_flights.config import Appearance

__all__ = ["START", "srt_text", "to_latlon", "to_local"]

START = datetime(
    2024, 5, 14, 10, 12, 33
)  # when every flight begins; a clock would make the files differ
_SEMI_MAJOR, _FLATTENING = 6378137.0, 1 / 298.257223563


def _meters_per_degree(latitude: float) -> tuple[float, float]:
    """Return metres per degree of latitude and longitude on the WGS 84 ellipsoid."""
    e2 = _FLATTENING * (2 - _FLATTENING)
    phi = np.radians(latitude)
    w = np.sqrt(1 - e2 * np.sin(phi) ** 2)
    meridian, normal = _SEMI_MAJOR * (1 - e2) / w**3, _SEMI_MAJOR / w
    return float(np.radians(meridian)), float(np.radians(normal * np.cos(phi)))


def to_latlon(points: np.ndarray, origin: tuple[float, float]) -> np.ndarray:
    """Turn local metres (..., 2), east and north of ``origin`` (latitude, longitude), into
    latitudes and longitudes.

    The tangent plane: over the kilometre of a flight it is off by well under a centimetre per
    metre of height.
    """
    north, east = _meters_per_degree(origin[0])
    points = np.asarray(points, np.float64)
    return np.stack([origin[0] + points[..., 1] / north, origin[1] + points[..., 0] / east], -1)


def to_local(latlon: np.ndarray, origin: tuple[float, float]) -> np.ndarray:
    """Inverse of :func:`to_latlon`."""
    north, east = _meters_per_degree(origin[0])
    latlon = np.asarray(latlon, np.float64)
    return np.stack([(latlon[..., 1] - origin[1]) * east, (latlon[..., 0] - origin[0]) * north], -1)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def srt_text(
    poses: Iterable[Pose], fps: float, appearance: Appearance, intrinsics: Intrinsics
) -> str:
    """Return the subtitle file of a flight, one block a frame."""
    focal = (
        36.0 / 2 / np.tan(np.arctan(intrinsics.width / 2 / intrinsics.focal))
    )  # 35 mm equivalent
    blocks = []
    for index, pose in enumerate(poses):
        latitude, longitude = to_latlon(
            np.array(pose.position[:2]), (appearance.latitude, appearance.longitude)
        )
        moment = START + timedelta(seconds=index / fps)
        z = pose.position[2]
        blocks.append(
            f"{index + 1}\n"
            f"{_clock(index / fps)} --> {_clock((index + 1) / fps)}\n"
            f'<font size="28">FrameCnt: {index + 1}, DiffTime: {round(1000 / fps)}ms\n'
            f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}\n"
            f"[iso: 100] [shutter: 1/{1 / appearance.shutter:.1f}] [fnum: 2.8] [ev: 0] "
            f"[color_md: default] "
            f"[focal_len: {focal:.2f}] [latitude: {latitude:.7f}] [longitude: {longitude:.7f}] "
            f"[rel_alt: {z:.3f} abs_alt: {z + appearance.ground_altitude:.3f}] [ct: 5500] "
            f"[gb_yaw: {pose.yaw:.2f} gb_pitch: {pose.pitch:.2f} gb_roll: {pose.roll:.2f}] "
            "</font>\n"
        )
    return "\n".join(blocks)
