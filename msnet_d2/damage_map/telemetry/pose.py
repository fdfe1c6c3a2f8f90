"""The drone and its camera at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag
from msnet_d2.damage_map.telemetry.noise import TelemetryNoise


@dataclass(frozen=True)
class TelemetrySample:
    """The drone at one moment. Units as in :mod:`msnet_d2.damage_map`; NaN is unknown.

    ``focal_mm`` is equivalent to a picture 36 mm wide; ``zoom`` is digital zoom that is not in it;
    ``home`` is the take-off point (lat, lon).
    """

    time_s: float
    lat: float
    lon: float
    alt: float = np.nan
    abs_alt: float = np.nan
    yaw: float = np.nan
    pitch: float = np.nan
    roll: float = 0.0
    focal_mm: float = np.nan
    hfov_deg: float = np.nan
    zoom: float = np.nan
    speed_mps: float = 0.0
    home: tuple[float, float] | None = None
    noise: TelemetryNoise = field(default_factory=TelemetryNoise)
    flags: TelemetryFlag = TelemetryFlag.GOOD

    @property
    def has_position(self) -> bool:
        """Whether latitude and longitude are known."""
        return bool(np.isfinite(self.lat) and np.isfinite(self.lon))

    @property
    def has_angles(self) -> bool:
        """Whether it is known where the camera looked."""
        return bool(np.isfinite(self.yaw) and np.isfinite(self.pitch))
