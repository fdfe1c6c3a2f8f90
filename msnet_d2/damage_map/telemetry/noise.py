"""How far each dialect's values may be off, before anything is measured on the footage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TelemetryNoise:
    """Standard deviations of a log's values.

    The defaults are those of a consumer drone without RTK: a satellite fix of a few metres in the
    open, a barometer that drifts over a flight, a stabilised gimbal whose pitch is good and whose
    yaw hangs on the compass, and a field of view known by its nominal focal length. They are
    meant to be on the large side; control points replace them by what was measured.

    Attributes:
        horizontal_m: east and north, each.
        altitude_m: height above take-off.
        yaw_deg: yaw of the camera.
        pitch_deg: pitch of the camera.
        roll_deg: roll of the camera.
        focal_share: focal length, as a share of itself.
        ground_m: height of the ground against what is assumed.
        time_s: delay between log and picture; weighs with the drone's speed.
    """

    horizontal_m: float = 1.5
    altitude_m: float = 1.5
    yaw_deg: float = 2.0
    pitch_deg: float = 0.7
    roll_deg: float = 0.5
    focal_share: float = 0.02
    ground_m: float = 1.0
    time_s: float = 0.1


# Angles that a person gave by `pitch` and `yaw` hold for the flight on average at best.
ASSUMED_PITCH_DEG = 3.0
ASSUMED_YAW_DEG = 5.0
ASSUMED_ROLL_DEG = 1.0
# The nose of the drone is near where the gimbal points, which follows it with a lag.
FLIGHT_YAW_DEG = 5.0

# A height that is a difference of two heights above sea level.
SEA_LEVEL_M = 3.0

DIALECT_NOISE = {
    # One record a frame, gimbal angles to 0.1 degree.
    "dji-srt": TelemetryNoise(),
    # RTK( instead of GPS(: position and height to centimetres. One record a second.
    "dji-srt-rtk": TelemetryNoise(horizontal_m=0.1, altitude_m=0.3, time_s=0.2),
    # One record a second, and the position often with four decimals (that is added separately).
    "dji-srt-gps": TelemetryNoise(horizontal_m=2.0, altitude_m=2.0, time_s=0.3),
    # Ten records a second, matched by clocks that need not agree.
    "csv": TelemetryNoise(time_s=0.3),
    # Any receiver at all, altitude above sea level by satellite.
    "gpx": TelemetryNoise(horizontal_m=3.0, altitude_m=5.0, time_s=0.5),
}
