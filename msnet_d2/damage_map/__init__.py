"""From pixels of a drone video to places on the ground: telemetry, camera, projection.

Conventions of the whole package:

- Angles are degrees. **Yaw** is where the camera looks, clockwise from true north (90 is east).
  **Pitch** is 0 at the horizon and -90 straight down. **Roll** is positive when the camera's right
  side dips. They are DJI's own gimbal angles: rotations about down, right and forward (z, y', x'')
  of a north-east-down frame, so a camera that looks straight down with yaw 0 has north at the top.
- **alt** is metres above the take-off point, **abs_alt** metres above sea level as the drone says.
- Pixels are continuous, as boxes and polygons are: (0, 0) is the outer corner of the top left pixel
  and (width, height) that of the bottom right one.
- Positions are (latitude, longitude) in WGS 84, in this order wherever they stand in one array.
- Times are seconds of the video (its presentation time stamps).

Nothing here imports torch or a model. pyproj comes with the extra ``map`` and is imported on use.
"""

from __future__ import annotations

from msnet_d2.damage_map.geometry.camera import Camera
from msnet_d2.damage_map.geometry.gcp import (
    GroundControlPoint,
    PoseCalibration,
    PoseOffsets,
    calibrate_pose,
    read_gcps,
)
from msnet_d2.damage_map.geometry.projector import GroundPoints, GroundProjector, ProjectionFailure
from msnet_d2.damage_map.geometry.terrain import ElevationGrid, Terrain
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag
from msnet_d2.damage_map.telemetry.flight_csv import parse_columns
from msnet_d2.damage_map.telemetry.noise import TelemetryNoise
from msnet_d2.damage_map.telemetry.telemetry import Telemetry, TelemetrySample, find_telemetry

__all__ = [
    "Camera",
    "ElevationGrid",
    "GroundControlPoint",
    "GroundPoints",
    "GroundProjector",
    "PoseCalibration",
    "PoseOffsets",
    "ProjectionFailure",
    "Telemetry",
    "TelemetryFlag",
    "TelemetryNoise",
    "TelemetrySample",
    "Terrain",
    "calibrate_pose",
    "find_telemetry",
    "parse_columns",
    "read_gcps",
]
