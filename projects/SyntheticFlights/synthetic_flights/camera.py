"""The camera: intrinsics, poses, projection, and the flight path.

World: metres, x east, y north, z up, the ground is z = 0. Camera axes: x right, y down, z forward.
Image coordinates are continuous, (0, 0) is the upper left corner of the frame, so that the centre
of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic_flights.config import Appearance, SceneConfig

__all__ = ["FlightPath", "Intrinsics", "Pose", "project", "rotation_matrix"]

SPEED = 22.35  # metres per second, 50 mph: what ISBDA's drones fly


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; lengths in pixels."""

    width: int
    height: int
    focal: float

    @property
    def matrix(self) -> np.ndarray:
        """The (3, 3) camera matrix."""
        return np.array(
            [[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1]],
            np.float64,
        )

    @classmethod
    def of(cls, config: SceneConfig, appearance: Appearance) -> Intrinsics:
        """Return the intrinsics of a flight: ``appearance.hfov`` across the frame's width."""
        focal = config.width / 2 / np.tan(np.radians(appearance.hfov) / 2)
        return cls(config.width, config.height, float(focal))


@dataclass(frozen=True)
class Pose:
    """Where the camera is (x, y, z in metres) and looks, angles in degrees as DJI's gimbals give
    them.

    ``yaw`` is clockwise from north, ``pitch`` is 0 at the horizon and -90 straight down, ``roll``
    is positive when the camera's right side dips.
    """

    time: float
    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float


def rotation_matrix(pose: Pose) -> np.ndarray:
    """Return R (3, 3), world to camera: ``camera = R @ (world - position)``."""
    yaw, pitch, roll = np.radians((pose.yaw, pose.pitch, pose.roll))
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    down = np.cross(forward, right)
    return np.stack(
        [
            np.cos(roll) * right + np.sin(roll) * down,
            np.cos(roll) * down - np.sin(roll) * right,
            forward,
        ]
    )


def project(
    points: np.ndarray, pose: Pose, intrinsics: Intrinsics
) -> tuple[np.ndarray, np.ndarray]:
    """Project world ``points`` (..., 3) into the frame.

    Returns:
        Image coordinates (..., 2) and depths (...) along the optical axis; coordinates mean
        nothing where the depth is not positive.
    """
    camera = (np.asarray(points, np.float64) - pose.position) @ rotation_matrix(pose).T
    depth = camera[..., 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    center = (intrinsics.width / 2, intrinsics.height / 2)
    return intrinsics.focal * camera[..., :2] / safe[..., None] + center, depth


class FlightPath:
    """A flight at constant speed with gentle turns, climbs and the small unrest of a gimbal.

    Smooth functions of time, drawn once; any time can be asked for.
    """

    def __init__(self, appearance: Appearance, seconds: float, rng: np.random.Generator):
        self.appearance = appearance
        self._waves = {
            # amplitude (degrees, metres or degrees), period in seconds
            name: (rng.uniform(*amplitude), rng.uniform(*period), rng.uniform(0, 2 * np.pi))
            for name, amplitude, period in (
                ("turn", (4, 22), (14, 40)),
                ("climb", (2, 8), (12, 40)),
                ("look", (1, 5), (9, 25)),
                ("pitch", (0.4, 2.0), (8, 20)),
                ("yaw_unrest", (0.1, 0.5), (1.2, 3.0)),
                ("pitch_unrest", (0.05, 0.3), (0.9, 2.5)),
                ("roll", (0.1, 1.0), (2.0, 9.0)),
            )
        }
        step = 0.02
        self._times = np.arange(0, seconds + 2 * step, step)
        heading = np.radians(appearance.heading + self._wave("turn", self._times))
        velocity = SPEED * np.stack([np.sin(heading), np.cos(heading)], 1)
        self._track = np.concatenate([np.zeros((1, 2)), np.cumsum(velocity[:-1] * step, 0)])

    def _wave(self, name: str, time):
        amplitude, period, phase = self._waves[name]
        return amplitude * np.sin(2 * np.pi * np.asarray(time) / period + phase)

    def pose(self, time: float) -> Pose:
        """Return the pose ``time`` seconds after the start."""
        x, y = (float(np.interp(time, self._times, self._track[:, i])) for i in (0, 1))
        z = float(np.clip(self.appearance.altitude + self._wave("climb", time), 40, 90))
        yaw = self.appearance.heading + self._wave("turn", time) + self.appearance.gaze
        yaw += self._wave("look", time) + self._wave("yaw_unrest", time)
        pitch = self.appearance.pitch + self._wave("pitch", time) + self._wave("pitch_unrest", time)
        return Pose(
            float(time),
            (x, y, z),
            float((yaw + 180) % 360 - 180),
            float(pitch),
            float(self._wave("roll", time)),
        )


def ground_footprint(pose: Pose, intrinsics: Intrinsics, margin: float = 0.0) -> np.ndarray:
    """Return where the frame's corners meet the ground: (4, 2), clockwise from the upper left;
    ``margin`` in pixels.

    Rays that rise are cut off at ten times the height.
    """
    w, h, f = intrinsics.width, intrinsics.height, intrinsics.focal
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    corners += margin * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    rays = np.concatenate([(corners - (w / 2, h / 2)) / f, np.ones((4, 1))], 1) @ rotation_matrix(
        pose
    )
    height = pose.position[2]
    sink = np.maximum(-rays[:, 2], 0.1)
    return np.asarray(pose.position[:2]) + rays[:, :2] * (height / sink)[:, None]
