"""The motion of the picture that a log, a camera and flat ground predict, and fits of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from msnet_d2.damage_map.alignment.picture_motion import PairMotion
from msnet_d2.damage_map.geometry.camera import Camera, camera_to_world
from msnet_d2.damage_map.geometry.local_frame import EnuFrame

# What a point followed over a pair may be off, in shares of its way: buildings stand out of the
# ground by a tenth of a drone's height, and are the lesser part of the picture.
_WAY_SHARE = 0.05
# Pixels, of a picture 640 wide.
_PIXEL = 0.75
# A gimbal swings by about this much between two frames without the log showing it, degrees.
_SWING_DEG = 0.1
# Points beyond this many standard deviations tell no more than that they are off.
_CAP = 12.0
# The points of a pair share their error: together they count as so many independent ones.
_INDEPENDENT = 3.0


@dataclass(frozen=True)
class Corrections:
    """Constant corrections of a log.

    Attributes:
        shift_s: seconds of the log to add to the video's time.
        rate: seconds of the log for one of the video.
        yaw: degrees.
        pitch: degrees.
        height: factor of the height above the ground, as a natural logarithm.
        zoom: factor of the focal length, as a natural logarithm.
    """

    shift_s: float = 0.0
    rate: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0
    height: float = 0.0
    zoom: float = 0.0


# Positions whose last digit is coarser than this (0.03 m for six decimals of a degree) are averaged
# over seconds: their steps would be taken for motion.
COARSE_M = 0.02
COARSE_S_PER_M = 4.0
# Natural logarithms of factors beyond which no lens and no height is.
MAX_ZOOM, MAX_HEIGHT = 1.8, 2.6
# Steps of a fit.
_STEPS = {"shift_s": 0.2, "rate": 0.05, "yaw": 2.0, "pitch": 1.0, "height": 0.05, "zoom": 0.05}


class LogTrack:
    """A log as arrays over time: positions in metres, angles in degrees, focal length in pixels."""

    def __init__(
        self,
        time_s: np.ndarray,
        position: np.ndarray,
        angles: np.ndarray,
        focal_px: np.ndarray,
        ground_m: np.ndarray,
        step_m: float,
        window_s: float = 0.2,
    ) -> None:
        """Take knots.

        Args:
            time_s: (N,) ascending, on the video's time.
            position: (N, 3) east, north and up from take-off in metres.
            angles: (N, 3) yaw, pitch and roll of the camera, degrees.
            focal_px: (N,) focal length.
            ground_m: (N,) height of the ground in view above take-off.
            step_m: how far a logged position may be from the true one, apart from what is constant.
            window_s: over which positions were averaged.
        """
        self.time_s, self.position, self.focal_px = time_s, position, focal_px
        self.angles = np.degrees(np.unwrap(np.radians(angles), axis=0))
        self.ground_m, self.step_m, self.window_s = ground_m, step_m, window_s

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Position (K, 3), angles (K, 3), focal length (K,) and ground (K,) at ``times`` (K,)."""

        def read(values: np.ndarray) -> np.ndarray:
            return np.interp(times, self.time_s, values)

        position = np.stack([read(v) for v in self.position.T], axis=1)
        angles = np.stack([read(v) for v in self.angles.T], axis=1)
        return position, angles, read(self.focal_px), read(self.ground_m)

    @property
    def span(self) -> tuple[float, float]:
        """Times of the first and the last knot."""
        return float(self.time_s[0]), float(self.time_s[-1])


def track_of(telemetry, camera_of, terrain=None, step_m: float = 0.05) -> LogTrack | None:
    """The track of a log; None where it has no position, height or angles.

    Args:
        telemetry: on the video's time.
        camera_of: sample to :class:`.Camera`, or None.
        terrain: the ground; flat at take-off if None.
        step_m: see :class:`LogTrack`.
    """
    begin, end = telemetry.span
    count = int(np.clip((end - begin) * 10, 2, 20_000)) + 1
    samples = [
        s
        for s in telemetry.at(np.linspace(begin, end, count))
        if s.has_position and s.has_angles and np.isfinite(s.alt)
    ]
    cameras = [camera_of(s) for s in samples]
    if len(samples) < 3 or any(c is None for c in cameras):
        return None
    enu = EnuFrame(samples[0].lat, samples[0].lon)
    places = np.array([[s.lat, s.lon] for s in samples])
    ground = np.zeros(len(samples)) if terrain is None else terrain.height(*places.T)
    keep = np.isfinite(ground)
    if keep.sum() < 3:
        return None
    alt = np.array([s.alt for s in samples])
    window_s = 0.2
    if step_m > COARSE_M:
        window_s = float(np.clip(step_m * COARSE_S_PER_M, 1.0, min(6.0, (end - begin) / 3)))
    window = 2 * round(window_s * 5) + 1
    position = np.column_stack([enu.to_xy(places), alt])
    return LogTrack(
        np.array([s.time_s for s in samples])[keep],
        np.column_stack([smooth(v, window) for v in position.T])[keep],
        np.array([[s.yaw, s.pitch, s.roll] for s in samples])[keep],
        np.array([c.fx for c in cameras])[keep],
        ground[keep],
        step_m,
        window_s,
    )


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of ``window`` neighbours (an odd number); straight lines stay as they are."""
    half = min(window // 2, len(values) - 1)
    if half < 1:
        return values
    before = 2 * values[0] - values[half:0:-1]
    after = 2 * values[-1] - values[-2 : -half - 2 : -1]
    wide = np.concatenate([before, values, after])
    return np.convolve(wide, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")


class MotionModel:
    """Predicts where the points of measured pairs go."""

    def __init__(self, pairs: Sequence[PairMotion], track: LogTrack, camera: Camera) -> None:
        """Take measured pairs, the log, and a camera (for its lens; its focal length is the log's).

        Pairs at which the log has no records are left out by :meth:`use`.
        """
        self.pairs, self.track = list(pairs), track
        self.t0 = np.array([p.t0 for p in pairs])
        self.t1 = np.array([p.t1 for p in pairs])
        counts = [len(p.start) for p in pairs]
        self.pair = np.repeat(np.arange(len(pairs)), counts)
        self.counts = np.array(counts)
        rays = [
            camera.rays(np.concatenate([getattr(p, n) for p in pairs])) for n in ("start", "end")
        ]
        self.start, self.end = (r[:, :2] / r[:, 2:] * camera.fx for r in rays)
        self.way = np.array([np.median(np.linalg.norm(p.end - p.start, axis=1)) for p in pairs])
        self.pixel = _PIXEL * max(1.0, max(camera.width, camera.height) / 640)

    def residuals(self, c: Corrections) -> np.ndarray:
        """Distance (N, 2) in pixels of the points from where they should be; NaN where they
        should be out of sight."""
        position, angles, focal, ground = self.track.at(self.t0 * c.rate + c.shift_s)
        later, angles1, focal1, _ = self.track.at(self.t1 * c.rate + c.shift_s)
        turn = np.array([c.yaw, c.pitch, 0.0])
        there = camera_to_world(*(angles + turn).T)
        back = camera_to_world(*(angles1 + turn).T)
        height = (position[:, 2] - ground) * np.exp(c.height)
        climb = (later[:, 2] - position[:, 2])[:, None] * [[0, 0, 1]]
        move = np.column_stack([later[:, :2] - position[:, :2], np.zeros(len(later))]) + climb
        i = self.pair
        rays = np.column_stack(
            [self.start / (focal * np.exp(c.zoom))[i, None], np.ones(len(self.start))]
        )
        world = np.einsum("nij,nj->ni", there[i], rays)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(world[:, 2] < -0.02, height[i] / -world[:, 2], np.nan)
            ground_point = world * reach[:, None] - move[i]
            seen = np.einsum("nji,nj->ni", back[i], ground_point)
            seen[~(seen[:, 2] > 0)] = np.nan
            pixels = seen[:, :2] / seen[:, 2:] * (focal1 * np.exp(c.zoom))[i, None]
        return pixels - self.end

    def sigma(self, c: Corrections) -> np.ndarray:
        """Standard deviation (K,) of each pair's residuals, in pixels."""
        position, angles, focal, ground = self.track.at(self.t0 * c.rate + c.shift_s)
        height = np.maximum((position[:, 2] - ground) * np.exp(c.height), 1.0)
        slope = np.maximum(np.sin(np.radians(np.abs(angles[:, 1] + c.pitch))), 0.1)
        focal = focal * np.exp(c.zoom)
        moved = np.minimum(1.0, (self.t1 - self.t0) / self.track.window_s)
        step = focal * np.sqrt(2) * self.track.step_m * moved / (height / slope)
        swing = focal * np.radians(_SWING_DEG)
        return np.sqrt(self.pixel**2 + (_WAY_SHARE * self.way) ** 2 + step**2 + swing**2)

    def within(self, c: Corrections) -> np.ndarray:
        """Whether the log covers each pair (K,)."""
        begin, end = self.track.span
        t0, t1 = (t * c.rate + c.shift_s for t in (self.t0, self.t1))
        return (np.minimum(t0, t1) >= begin - 0.5) & (np.maximum(t0, t1) <= end + 0.5)

    def misfit(self, c: Corrections) -> np.ndarray:
        """Mean square residual (K,) of each pair in its standard deviations, robust to points
        that stand out of the ground; about 1 or less where log and picture agree."""
        off = np.linalg.norm(self.residuals(c), axis=1) / self.sigma(c)[self.pair]
        off = np.where(np.isfinite(off), np.minimum(off, _CAP), _CAP)
        edges = np.r_[0, np.cumsum(self.counts)]
        # The median of a squared two-dimensional normal error is 1.39 of its variance.
        return np.array([np.median(off[a:b] ** 2) / 1.39 for a, b in pairwise(edges)])

    def score(self, c: Corrections) -> float:
        """Mean misfit of the pairs that the log covers; pairs beyond it count as a bad one."""
        covered = self.within(c)
        if abs(c.zoom) > MAX_ZOOM or abs(c.height) > MAX_HEIGHT:
            return _CAP**2
        if covered.sum() < max(3, len(covered) / 4):
            return _CAP**2
        return float(np.mean(self.misfit(c)[covered]))

    def vector(self, c: Corrections) -> np.ndarray:
        """Residuals in standard deviations as one vector for least squares."""
        sigma = self.sigma(c)[self.pair]
        weight = np.sqrt(_INDEPENDENT / self.counts)[self.pair] * self.within(c)[self.pair]
        off = np.nan_to_num(self.residuals(c) / sigma[:, None], nan=_CAP)
        return (np.clip(off, -_CAP, _CAP) * weight[:, None]).ravel()


def fit(
    model: MotionModel,
    start: Corrections,
    free: Sequence[str],
    priors: dict[str, float],
    anchor: Corrections | None = None,
) -> tuple[Corrections, dict[str, float]]:
    """Fit the parameters ``free`` by least squares from ``start``.

    Args:
        model: the measured motion.
        start: where to begin; parameters that are not free stay there.
        free: names of parameters.
        priors: standard deviation of each about its value in ``anchor``; those without are free.
        anchor: default: no correction.

    Returns:
        The corrections, and the standard deviation of each free parameter.
    """
    from scipy.optimize import least_squares

    anchor = anchor or Corrections()
    names = list(free)
    held = [n for n in names if n in priors]

    def build(values: np.ndarray) -> Corrections:
        return replace(start, **dict(zip(names, map(float, values))))

    def residuals(values: np.ndarray) -> np.ndarray:
        c = build(values)
        prior = [(getattr(c, n) - getattr(anchor, n)) / priors[n] for n in held]
        return np.concatenate([model.vector(c), prior])

    first = np.array([getattr(start, n) for n in names])
    scale = np.array(
        [{"shift_s": 0.2, "rate": 0.05, "yaw": 2, "pitch": 1}.get(n, 0.05) for n in names]
    )
    found = least_squares(
        residuals, first, x_scale=scale, loss="soft_l1", diff_step=1e-3, max_nfev=30
    )
    normal = found.jac.T @ found.jac + 1e-12 * np.eye(len(names))
    spread = np.sqrt(np.diag(np.linalg.inv(normal)))
    return build(found.x), dict(zip(names, map(float, spread)))
