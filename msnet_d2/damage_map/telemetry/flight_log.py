"""What every reader of flight logs returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

# One column each; NaN where a row does not have it.
#   time_s          seconds, of the video where the log belongs to one, else since the log's start
#   lat, lon        degrees, WGS 84
#   alt             metres above take-off
#   abs_alt         metres above sea level
#   yaw, pitch, roll    of the camera (gimbal), degrees
#   flight_yaw      heading of the drone's nose, degrees
#   focal_mm        focal length in millimetres, as of a 36 mm wide picture
#   hfov_deg        horizontal field of view
#   zoom            digital zoom where it is not in the focal length already; 1 is none
#   recording       1 while the camera records a video, 0 while it does not
COLUMNS = (
    "time_s",
    "lat",
    "lon",
    "alt",
    "abs_alt",
    "yaw",
    "pitch",
    "roll",
    "flight_yaw",
    "focal_mm",
    "hfov_deg",
    "zoom",
    "recording",
)


@dataclass
class FlightLog:
    """Rows of a log as they stand in it, before anything is cleaned.

    Attributes:
        columns: name (of :data:`COLUMNS`) to values (N,).
        dialect: key of :data:`msnet_d2.damage_map.telemetry.noise.DIALECT_NOISE`.
        source: name of the file, for messages.
        time_is_video: whether ``time_s`` counts from the first frame of a video.
        clock_start: date and time at ``time_s`` 0, aware of its zone only where the log names one.
        home: (lat, lon) of the take-off point, where the log has it.
        position_decimals: digits behind the decimal point of positions.
        notes: what was odd, a line each.
        guesses: meanings that the log does not state ("altitude", "yaw", "pitch", "units") to a
            line about each. They count as doubts unless the picture's motion confirms them.
    """

    columns: dict[str, np.ndarray]
    dialect: str
    source: str
    time_is_video: bool
    clock_start: datetime | None = None
    home: tuple[float, float] | None = None
    position_decimals: int = 7
    notes: list[str] = field(default_factory=list)
    guesses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: list[dict[str, float]], **kwargs) -> FlightLog:
        """Build a log of ``rows``, each a dict of what it has."""
        columns = {
            name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in COLUMNS
        }
        return cls(columns=columns, **kwargs)
