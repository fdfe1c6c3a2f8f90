"""From pixels to the ground, with the radius in which the truth lies nine times of ten.

The ground is flat at take-off height unless a :class:`Terrain` is given; flat means that it bends
with the earth. The error radius comes from moving the camera by what its log may be off
(:class:`TelemetryNoise`) and looking how far the point on the ground moves.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from msnet_d2.damage_map.geometry.camera import Camera, camera_to_world
from msnet_d2.damage_map.geometry.terrain import Terrain
from msnet_d2.damage_map.telemetry.pose import TelemetrySample
from msnet_d2.utils import geodesy

CONFIDENCE = 0.9
# The radius of a one-dimensional error: 90% of a normal distribution lie within this many sigma.
_SIGMAS = 1.645
HORIZON_MARGIN_DEG = 1.0
# Without knowing where the camera looked, the point may be this many heights away from the drone…
UNKNOWN_REACH = 4.0
# … whose height, where unknown, is taken as the 120 m that most countries allow.
UNKNOWN_HEIGHT_M = 120.0


class ProjectionFailure(enum.IntEnum):
    """Why a pixel has no place on the ground."""

    NONE = 0
    NO_POSITION = 1
    NO_ALTITUDE = 2
    BELOW_GROUND = 3
    ABOVE_HORIZON = 4
    NEAR_HORIZON = 5
    OUTSIDE_LENS = 6
    OUTSIDE_TERRAIN = 7

    @property
    def text(self) -> str:
        """The reason in words."""
        return _FAILURE_TEXT[self]


_FAILURE_TEXT = {
    ProjectionFailure.NONE: "placed",
    ProjectionFailure.NO_POSITION: "the log has no position at this time",
    ProjectionFailure.NO_ALTITUDE: "the log has no height above take-off",
    ProjectionFailure.BELOW_GROUND: "the drone is not above the ground",
    ProjectionFailure.ABOVE_HORIZON: "above the horizon",
    ProjectionFailure.NEAR_HORIZON: "too near the horizon to say how far away",
    ProjectionFailure.OUTSIDE_LENS: "outside what the lens model describes",
    ProjectionFailure.OUTSIDE_TERRAIN: "outside the elevation raster",
}


class GroundPoints(NamedTuple):
    """Places of N pixels.

    Attributes:
        lat_lon: (N, 2) degrees; NaN where refused.
        ce90_m: (N,) radius that holds the truth with a probability of 90%; NaN where refused.
        failure: (N,) codes of :class:`ProjectionFailure`, 0 where placed.
    """

    lat_lon: np.ndarray
    ce90_m: np.ndarray
    failure: np.ndarray


@lru_cache(maxsize=1)
def _radius_table() -> tuple[np.ndarray, np.ndarray]:
    """Radius of the 90% circle in units of the larger sigma, by the ratio of the two sigmas."""
    ratios = np.linspace(0, 1, 65)
    angle = np.linspace(0, 2 * np.pi, 4001)[:-1]
    radii = np.full(ratios.shape, 1.6448536)
    for i, q in enumerate(ratios[1:], start=1):
        # P(R <= r) of a normal distribution with sigmas 1 and q, integrated over r in closed form.
        a = np.cos(angle) ** 2 + np.sin(angle) ** 2 / q**2
        low, high = 1.0, 3.0
        for _ in range(50):
            r = (low + high) / 2
            inside = np.mean((1 - np.exp(-(r**2) * a / 2)) / a) / q
            low, high = (r, high) if inside < CONFIDENCE else (low, r)
        radii[i] = r
    return ratios, radii


def circle_radius(covariance: np.ndarray) -> np.ndarray:
    """Radius (N,) of the circle that holds 90% of normal distributions with ``covariance``
    (N, 2, 2)."""
    half = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    spread = np.hypot((covariance[:, 0, 0] - covariance[:, 1, 1]) / 2, covariance[:, 0, 1])
    large, small = np.sqrt(half + spread), np.sqrt(np.maximum(half - spread, 0))
    ratios, radii = _radius_table()
    return large * np.interp(small / np.maximum(large, 1e-12), ratios, radii)


class GroundProjector:
    """One frame's way from pixels to the ground and back.

    Args:
        camera: None if nothing is known of it.
        sample: the drone at the time of the frame.
        terrain: the ground; flat at ``ground_m`` if None.
        ground_m: height of flat ground above the take-off point.
        pixel_noise: standard deviation of pixels, in pixels.

    Without a camera, pitch, or yaw a pixel is placed under the drone, with a large error.
    """

    def __init__(
        self,
        camera: Camera | None,
        sample: TelemetrySample,
        *,
        terrain: Terrain | None = None,
        ground_m: float = 0.0,
        pixel_noise: float = 1.0,
    ) -> None:
        self.camera = camera
        self.sample = sample
        self.terrain = terrain
        self.ground_m = float(ground_m)
        self.pixel_noise = float(pixel_noise)

    @property
    def is_point(self) -> bool:
        """Whether only the point under the drone is known."""
        return self.camera is None or not self.sample.has_angles

    def _frame_failure(self) -> ProjectionFailure:
        if not self.sample.has_position:
            return ProjectionFailure.NO_POSITION
        if self.is_point:
            return ProjectionFailure.NONE
        if not np.isfinite(self.sample.alt):
            return ProjectionFailure.NO_ALTITUDE
        ground = self._ground_at_nadir()
        if not np.isfinite(ground):
            return ProjectionFailure.OUTSIDE_TERRAIN
        return (
            ProjectionFailure.NONE if self.sample.alt > ground else ProjectionFailure.BELOW_GROUND
        )

    def _ground_at_nadir(self) -> float:
        """Height of the ground under the drone above take-off; NaN where unknown."""
        if self.terrain is None:
            return self.ground_m
        return float(self.terrain.height(self.sample.lat, self.sample.lon))

    def to_ground(self, pixels: np.ndarray, *, height_m: float | np.ndarray = 0.0) -> GroundPoints:
        """Places of ``pixels`` (N, 2) that lie ``height_m`` above the ground (a roof's corner).

        Pixels above the horizon or within a degree of it are refused, and so are pixels so near
        to it that the camera may as well have looked above it.

        Args:
            pixels: (N, 2).
            height_m: metres above the ground, of all pixels or of each (N,).
        """
        pixels = np.asarray(pixels, dtype=float).reshape(-1, 2)
        n = len(pixels)
        if np.ndim(height_m):
            points = GroundPoints(
                np.full((n, 2), np.nan), np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
            )
            for height in np.unique(height_m):
                here = np.asarray(height_m) == height
                found = self.to_ground(pixels[here], height_m=float(height))
                for target, values in zip(points, found):
                    target[here] = values
            return points
        lat_lon, error = np.full((n, 2), np.nan), np.full(n, np.nan)
        failure = np.full(n, int(self._frame_failure()), dtype=np.uint8)
        if n == 0 or failure[0]:
            return GroundPoints(lat_lon, error, failure)
        if self.is_point:
            lat_lon[:] = self.sample.lat, self.sample.lon
            error[:] = self._point_error(pixels)
            return GroundPoints(lat_lon, error, failure)
        sample = self.sample
        rays = self.camera.rays(pixels) @ self._rotation().T
        azimuth = np.degrees(np.arctan2(rays[:, 0], rays[:, 1]))
        sideways = np.hypot(rays[:, 0], rays[:, 1])
        down = np.degrees(np.arctan2(-rays[:, 2], sideways))
        failure[down < HORIZON_MARGIN_DEG] = ProjectionFailure.NEAR_HORIZON
        failure[down <= 0] = ProjectionFailure.ABOVE_HORIZON
        failure[~np.isfinite(down)] = ProjectionFailure.OUTSIDE_LENS

        ok = np.flatnonzero(failure == ProjectionFailure.NONE)
        cot = sideways[ok] / -rays[ok, 2]
        distance, slope = self._intersect(azimuth[ok], cot, sample.alt - height_m)
        miss = ~np.isfinite(distance)
        failure[ok[miss]] = (
            ProjectionFailure.NEAR_HORIZON
            if self.terrain is None
            else ProjectionFailure.OUTSIDE_TERRAIN
        )
        ok, cot, distance, slope = ok[~miss], cot[~miss], distance[~miss], slope[~miss]
        # Height of the camera over the ground there; straight down the distance does not tell.
        at_nadir = sample.alt - height_m - self._ground_at_nadir()
        height = np.where(cot > 1e-6, distance / np.maximum(cot, 1e-12), at_nadir)
        radius = circle_radius(self._covariance(pixels[ok], rays[ok], height, distance, slope))
        vague = ~np.isfinite(radius)
        failure[ok[vague]] = ProjectionFailure.NEAR_HORIZON
        ok, distance, radius = ok[~vague], distance[~vague], radius[~vague]
        lat, lon = geodesy.destination(sample.lat, sample.lon, azimuth[ok], distance)
        lat_lon[ok] = np.stack([lat, lon], axis=1)
        error[ok] = radius
        return GroundPoints(lat_lon, error, failure)

    def to_pixels(self, lat_lon: np.ndarray, *, height_m: float = 0.0) -> np.ndarray:
        """Pixels (N, 2) of places (N, 2) ``height_m`` above the ground.

        NaN behind the camera, where the ground's height is unknown, and where the camera's pose
        is; a pixel may lie outside the picture, and what stands in between is not regarded.
        """
        lat_lon = np.asarray(lat_lon, dtype=float).reshape(-1, 2)
        if self.is_point or not self.sample.has_position or not np.isfinite(self.sample.alt):
            return np.full(lat_lon.shape, np.nan)
        return self.camera.project(self.directions(lat_lon, height_m=height_m) @ self._rotation())

    def directions(self, lat_lon: np.ndarray, *, height_m: float = 0.0) -> np.ndarray:
        """East, north and up (N, 3) in metres from the camera to places ``height_m`` above the
        ground; ``height_m`` may be (N,)."""
        lat, lon = np.asarray(lat_lon, dtype=float).reshape(-1, 2).T
        azimuth, distance = geodesy.azimuth_and_distance(self.sample.lat, self.sample.lon, lat, lon)
        ground = self.ground_m if self.terrain is None else self.terrain.height(lat, lon)
        up = ground + height_m - self.sample.alt - distance**2 / (2 * geodesy.EFFECTIVE_RADIUS_M)
        angle = np.radians(azimuth)
        return np.stack([distance * np.sin(angle), distance * np.cos(angle), up], axis=1)

    def _rotation(self, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
        s = self.sample
        return camera_to_world(s.yaw + yaw, s.pitch + pitch, s.roll + roll)

    def _intersect(
        self, azimuth: np.ndarray, cot: np.ndarray, height: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance (N,) at which rays meet the ground, and its slope there (N, 2)."""
        if self.terrain is not None:
            s = self.sample
            return self.terrain.intersect(s.lat, s.lon, height, azimuth, cot)
        # h - d / cot = -d² / (2 R), in the form that stays exact for rays straight down.
        above = height - self.ground_m
        inner = 1 - 2 * above * cot**2 / geodesy.EFFECTIVE_RADIUS_M
        with np.errstate(invalid="ignore"):
            distance = 2 * above * cot / (1 + np.sqrt(inner))
        return np.where(above > 0, distance, np.nan), np.zeros((azimuth.size, 2))

    def _covariance(
        self,
        pixels: np.ndarray,
        rays: np.ndarray,
        height: np.ndarray,
        distance: np.ndarray,
        slope: np.ndarray,
    ) -> np.ndarray:
        """Covariance (N, 2, 2) of the places in square metres; NaN where it has no bound.

        Each cause moves the ray by 1.645 sigma both ways, on the plane that touches the ground
        where the ray meets it; the longer way counts. Towards the horizon the far side is much
        longer, which a derivative would miss.
        """
        noise, camera = self.sample.noise, self.camera
        # The camera's height over the tangent plane, measured at its nadir.
        bearing = np.arctan2(rays[:, 0], rays[:, 1])
        offset = np.stack([np.sin(bearing), np.cos(bearing)], axis=1) * distance[:, None]
        height = height + (slope * offset).sum(axis=1)

        def intersect(directions: np.ndarray, extra: float = 0.0) -> np.ndarray:
            # nadir + t * direction lies on the plane: height - t * (-up) = slope . t * sideways
            descent = -directions[:, 2] + (slope * directions[:, :2]).sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = np.where(descent > 1e-6, (height + extra) / descent, np.nan)
            return directions[:, :2] * reach[:, None]

        center = intersect(rays)
        turned = camera.rays(pixels)
        moves = []
        for name, sigma in (
            ("yaw", noise.yaw_deg),
            ("pitch", noise.pitch_deg),
            ("roll", noise.roll_deg),
        ):
            moves.append(
                [
                    intersect(turned @ self._rotation(**{name: s * _SIGMAS * sigma}).T)
                    for s in (1, -1)
                ]
            )
        rotation = self._rotation().T
        # Straight down, roll turns the picture about its centre and no angle tilts it sideways,
        # as a real gimbal does: by about its roll.
        tilt = np.radians(_SIGMAS * noise.roll_deg * np.sin(np.radians(self.sample.pitch)))
        sideways = [
            np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
            for a in (tilt, -tilt)
        ]
        moves.append([intersect(turned @ turn.T @ rotation) for turn in sideways])
        zoom = min(_SIGMAS * noise.focal_share, 0.5)
        moves.append(
            [intersect(camera.zoomed(1 + s * zoom).rays(pixels) @ rotation) for s in (1, -1)]
        )
        for axis in ((1.0, 0.0), (0.0, 1.0)):
            step = np.array(axis) * _SIGMAS * self.pixel_noise
            moves.append([intersect(camera.rays(pixels + s * step) @ rotation) for s in (1, -1)])
        vertical = float(np.hypot(noise.altitude_m, noise.ground_m)) * _SIGMAS
        moves.append([intersect(rays, s * vertical) for s in (1, -1)])

        covariance = np.zeros((len(pixels), 2, 2))
        covariance[:, [0, 1], [0, 1]] = noise.horizontal_m**2
        for pair in moves:
            there, back = ((p - center) / _SIGMAS for p in pair)
            longer = np.linalg.norm(there, axis=1) >= np.linalg.norm(back, axis=1)
            step = np.where(longer[:, None], there, back)
            step[~np.isfinite(there + back).all(axis=1)] = np.nan
            covariance += step[:, :, None] * step[:, None, :]
        return covariance

    def _point_error(self, pixels: np.ndarray) -> np.ndarray:
        """Radius (N,) about the drone's nadir in which the pixel's place lies."""
        sample = self.sample
        height = sample.alt if np.isfinite(sample.alt) else UNKNOWN_HEIGHT_M
        height -= np.nan_to_num(self._ground_at_nadir())
        base = np.hypot(UNKNOWN_REACH * max(height, 1.0), 2.15 * sample.noise.horizontal_m)
        return np.full(len(pixels), float(base))
