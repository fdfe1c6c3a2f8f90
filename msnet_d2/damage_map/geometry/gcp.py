"""Calibrating a flight's camera pose by ground control points (GCPs)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.geometry.camera import Camera, camera_to_world
from msnet_d2.damage_map.geometry.projector import GroundProjector
from msnet_d2.damage_map.geometry.terrain import Terrain
from msnet_d2.damage_map.telemetry.log_text import parse_number, read_text
from msnet_d2.damage_map.telemetry.pose import TelemetrySample
from msnet_d2.errors import InputError
from msnet_d2.utils import geodesy
from msnet_d2.utils.text import listing

# What is fitted, in this order as far as the points support it, with its usual error (degrees,
# metres, fraction of the focal length).
PARAMETERS = {"yaw": 2.0, "pitch": 1.0, "altitude": 3.0, "roll": 1.0, "focal": 0.03}
# Least number of points for each parameter. A point gives two equations: one fits yaw and pitch
# exactly, the others are fitted with equations to spare.
POINTS_NEEDED = {"yaw": 1, "pitch": 1, "altitude": 2, "roll": 3, "focal": 4}
# Each is looked at in every step of the fit.
MAX_POINTS = 1000
MAX_BYTES = 4 << 20
# No pixel shows ground further off than this to within a metre.
MAX_AWAY_M = 20_000.0
_MAX_PX = 1e6
_MAX_HEIGHT_M = 1000.0
_MAX_FRAME = 1e9
# Number of points from which the loss is robust against slips.
ROBUST_POINTS = 5
# Least ratio of the smallest to the largest singular value of the residuals' derivatives (in usual
# errors). Below it the points do not tell the parameters apart.
_MIN_CONDITION = 0.02
# Standard deviation of a log's values once their constant error is known, as a fraction of the one
# before.
_RESIDUAL_NOISE = 0.3
# Root mean square of the residuals in degrees above which the points are of another place.
_SUSPICIOUS_DEG = 2.0
_HEADERS = {
    "x": ("x", "pixelx", "px", "col", "u"),
    "y": ("y", "pixely", "py", "row", "v"),
    "frame": ("frame", "frameindex"),
    "time": ("time", "times", "t", "seconds"),
    "lat": ("lat", "latitude"),
    "lon": ("lon", "lng", "longitude"),
    "height": ("height", "heightm"),
}


@dataclass(frozen=True)
class GroundControlPoint:
    """A pixel of a frame and its place.

    Attributes:
        x: pixel.
        y: pixel.
        lat: degrees.
        lon: degrees.
        frame: index of the frame, from 0; -1 if ``time_s`` counts.
        time_s: seconds of the video; NaN if ``frame`` counts.
        height_m: of the point above the ground.
    """

    x: float
    y: float
    lat: float
    lon: float
    frame: int = -1
    time_s: float = math.nan
    height_m: float = 0.0


@dataclass(frozen=True)
class PoseOffsets:
    """Constant offsets of a whole flight, to be added to its telemetry.

    ``sigma`` has the standard deviation of each fitted offset, by its name in
    :data:`PARAMETERS`.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    altitude: float = 0.0
    roll: float = 0.0
    focal: float = 0.0
    sigma: tuple[tuple[str, float], ...] = ()

    def apply(self, sample: TelemetrySample) -> TelemetrySample:
        """The sample with the offsets added, and with less noise where they are fitted."""
        noise = sample.noise
        for name, sigma in self.sigma:
            field = {"altitude": "altitude_m", "focal": "focal_share"}.get(name, f"{name}_deg")
            known = getattr(noise, field)
            noise = replace(
                noise, **{field: min(known, math.hypot(sigma, _RESIDUAL_NOISE * known))}
            )
        return replace(
            sample,
            yaw=sample.yaw + self.yaw,
            pitch=sample.pitch + self.pitch,
            roll=sample.roll + self.roll,
            alt=sample.alt + self.altitude,
            noise=noise,
        )

    def apply_camera(self, camera: Camera) -> Camera:
        """The camera with its calibrated focal length."""
        return camera.zoomed(1 + self.focal)


@dataclass(frozen=True)
class PoseCalibration:
    """What control points say of a flight's pose.

    Attributes:
        offsets: to be added to the telemetry.
        fitted: their names.
        residual_px: distance in pixels that remains at each point (N,).
        residual_m: the same on the ground, in metres (N,); NaN where a point's pixel is refused.
        before_px: the distance before the fit (N,).
        notes: what to know about it, a line each.
    """

    offsets: PoseOffsets
    fitted: tuple[str, ...]
    residual_px: np.ndarray
    residual_m: np.ndarray
    before_px: np.ndarray
    notes: tuple[str, ...]

    @property
    def rms_px(self) -> float:
        """Root mean square of ``residual_px``."""
        return float(np.sqrt(np.mean(self.residual_px**2)))


def read_gcps(path: Path | str) -> list[GroundControlPoint]:
    """Read control points from CSV with columns x, y, frame (or time), lat, lon[, height].

    Raises:
        InputError: if a column is missing or a value is no number or out of range, with its line.
    """
    text = read_text(path, "file of control points", MAX_BYTES)
    name = Path(path).name
    first = text.partition("\n")[0]
    try:
        table = list(
            csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=max(",;\t", key=first.count))
        )
    except csv.Error as error:
        raise InputError(f"{name}: not a table of comma-separated values ({error})") from error
    header = (
        ["".join(title.split()).lower().replace("_", "") for title in table[0]] if table else []
    )
    found = {
        key: header.index(title)
        for key, titles in _HEADERS.items()
        for title in titles[::-1]
        if title in header
    }
    missing = [key for key in ("x", "y", "lat", "lon") if key not in found]
    if not {"frame", "time"} & found.keys():
        missing.append("frame")
    if missing:
        raise InputError(
            f"{name}: no column {', '.join(missing)}; expected x, y, frame (or time), lat, lon and "
            f"optionally height, got {listing(header, 12) or 'an empty file'}"
        )
    points = []
    for line, row in enumerate(table[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        v = {key: parse_number(row[i]) if i < len(row) else math.nan for key, i in found.items()}
        required = [v["x"], v["y"], v["lat"], v["lon"]]
        frame, time = v.get("frame", math.nan), v.get("time", math.nan)
        height = v.get("height", 0.0)
        ok = all(map(math.isfinite, required)) and abs(v["lat"]) <= 90 and abs(v["lon"]) <= 180
        ok = ok and max(abs(v["x"]), abs(v["y"])) < _MAX_PX and not abs(height) > _MAX_HEIGHT_M
        ok = ok and not (frame < 0 or time < 0 or frame > _MAX_FRAME or time > _MAX_FRAME)
        if not ok or (math.isnan(frame) and math.isnan(time)):
            raise InputError(
                f"{name}, line {line}: {listing(row, 12).replace(', ', ',')}: expected numbers, a "
                "latitude within 90 and a longitude within 180 degrees, a pixel, a height of a "
                "few hundred metres at most, and a frame or time not below 0"
            )
        points.append(
            GroundControlPoint(
                x=v["x"],
                y=v["y"],
                lat=v["lat"],
                lon=v["lon"],
                frame=-1 if math.isnan(frame) else int(frame),
                time_s=time,
                height_m=0.0 if math.isnan(height) else height,
            )
        )
    if len(points) > MAX_POINTS:
        raise InputError(f"{name}: {len(points)} control points; {MAX_POINTS} are the most")
    if not points:
        raise InputError(f"{name}: no control point below the header")
    return points


def calibrate_pose(
    points: Sequence[GroundControlPoint],
    samples: Sequence[TelemetrySample],
    camera: Camera | Sequence[Camera],
    *,
    terrain: Terrain | None = None,
    ground_m: float = 0.0,
) -> PoseCalibration:
    """Fit constant offsets of yaw, pitch, altitude, roll and focal length by least squares.

    As many are fitted, in this order, as there are points for, and as the points can tell apart:
    straight down, for one, height and focal length do the same.

    Args:
        points: the control points (N).
        samples: telemetry at the frame of each (N).
        camera: of the flight, or of each point (N).
        terrain: the ground; flat at ``ground_m`` above take-off if None.
        ground_m: see ``terrain``.

    Raises:
        InputError: if there is no point, or telemetry or ground is unknown at one of them.
    """
    from scipy.optimize import least_squares

    cameras = [camera] * len(points) if isinstance(camera, Camera) else list(camera)
    if not points or not len(points) == len(samples) == len(cameras):
        raise InputError(
            f"{len(points)} control points with {len(samples)} samples of telemetry: expected as "
            "many, and at least one"
        )
    for i, (point, sample) in enumerate(zip(points, samples), start=1):
        known = sample.has_position and sample.has_angles and np.isfinite(sample.alt)
        if known and terrain is not None:
            known = bool(np.isfinite(terrain.height(point.lat, point.lon)))
        if not known:
            raise InputError(
                f"control point {i} (pixel {point.x:g}, {point.y:g}): the camera's pose or the "
                "ground's height is not known there; choose a point at another time"
            )
        away = float(geodesy.azimuth_and_distance(sample.lat, sample.lon, point.lat, point.lon)[1])
        if away > MAX_AWAY_M:
            raise InputError(
                f"control point {i} at {point.lat:.5f}, {point.lon:.5f} lies {away / 1000:,.0f} km "
                "from the camera: latitude for longitude, or a slip?"
            )

    fitting = _Fitting(points, samples, cameras, terrain, ground_m)
    residuals = fitting.residuals
    # Within three pixels the squares count, beyond that the distance, so that a slip among many
    # points does not pull the rest along; among few nobody can say which is the slip.
    pixel = 1.0 / float(np.mean([c.fx for c in cameras]))
    loss = {"loss": "soft_l1", "f_scale": 3 * pixel} if len(points) >= ROBUST_POINTS else {}

    def solve(start: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        return least_squares(residuals, start, args=(names,), xtol=1e-10, **loss).x

    names, values, dropped = _choose(residuals, len(points), solve)
    final = residuals(values, names)
    jacobian = _jacobian(residuals, values, names)
    spare = len(final) - len(names)
    # With no equation to spare the fit is exact and says nothing of itself: a pixel or so.
    scatter = max(float(np.sqrt((final**2).sum() / spare)) if spare else pixel, pixel)
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    sigma = tuple(
        (n, float(scatter * np.sqrt(inverse[i, i]) * PARAMETERS[n])) for i, n in enumerate(names)
    )
    offsets = {n: float(v * PARAMETERS[n]) for n, v in zip(names, values)}
    pose_offsets = PoseOffsets(**offsets, sigma=sigma)
    angles = np.linalg.norm(final.reshape(-1, 2), axis=1)
    pixels, meters = fitting.misses(pose_offsets)
    before, _ = fitting.misses(PoseOffsets())
    return PoseCalibration(
        offsets=pose_offsets,
        fitted=names,
        residual_px=pixels,
        residual_m=meters,
        before_px=before,
        notes=tuple(_notes(points, names, dropped, offsets, pixels, meters, angles)),
    )


class _Fitting:
    """The equations of control points, with what no offset changes computed once."""

    def __init__(self, points, samples, cameras, terrain, ground_m) -> None:
        self.points, self.samples, self.cameras = points, samples, cameras
        self.ground = {"terrain": terrain, "ground_m": ground_m}
        self.pixels = np.array([[p.x, p.y] for p in points])
        self.angles = np.array([[s.yaw, s.pitch, s.roll] for s in samples])
        self.there = np.concatenate(
            [
                GroundProjector(c, s, **self.ground).directions(
                    np.array([[p.lat, p.lon]]), height_m=p.height_m
                )
                for p, s, c in zip(points, samples, cameras)
            ]
        )
        # One call for all points where they share their camera, as they mostly do.
        self.groups = [
            (camera, np.array([other is camera for other in cameras]))
            for camera in {id(c): c for c in cameras}.values()
        ]

    def residuals(self, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Angles (2N) in radians between each pixel's ray and its point, ``values`` being offsets
        in usual errors.

        Not in pixels, which have no meaning behind the camera, where a first guess may look.
        """
        offset = PoseOffsets(**{n: float(v * PARAMETERS[n]) for n, v in zip(names, values)})
        rays = np.empty((len(self.points), 3))
        for camera, members in self.groups:
            rays[members] = offset.apply_camera(camera).rays(self.pixels[members])
        there = self.there - (0.0, 0.0, offset.altitude)
        there = there / np.linalg.norm(there, axis=1, keepdims=True)
        change = np.array([offset.yaw, offset.pitch, offset.roll])
        turns = camera_to_world(*(self.angles + change).T)
        seen = np.einsum("ni,nij->nj", there, turns)
        # Two axes square to the ray, the first along the picture's rows.
        side = np.stack([rays[:, 2], np.zeros(len(rays)), -rays[:, 0]], axis=1)
        side = side / np.linalg.norm(side, axis=1, keepdims=True)
        other = np.cross(rays, side)
        apart = np.stack([(seen * side).sum(axis=1), (seen * other).sum(axis=1)], axis=1)
        length = np.linalg.norm(apart, axis=1)
        angle = np.arctan2(length, (seen * rays).sum(axis=1))
        factor = np.where(length > 1e-12, angle / np.maximum(length, 1e-12), 1.0)
        return np.nan_to_num(apart * factor[:, None], nan=1.0).ravel()

    def misses(self, offset: PoseOffsets) -> tuple[np.ndarray, np.ndarray]:
        """How far each point is off (N,), in pixels and in metres on the ground."""
        pixels, meters = [], []
        for point, sample, camera in zip(self.points, self.samples, self.cameras):
            projector = GroundProjector(
                offset.apply_camera(camera), offset.apply(sample), **self.ground
            )
            place = np.array([[point.lat, point.lon]])
            pixel = np.array([[point.x, point.y]])
            off = projector.to_pixels(place, height_m=point.height_m) - pixel
            # Behind the camera there is no pixel: further off than the picture is wide.
            pixels.append(float(np.nan_to_num(np.hypot(*off[0]), nan=10.0 * camera.width)))
            lat, lon = projector.to_ground(pixel, height_m=point.height_m).lat_lon[0]
            meters.append(float(geodesy.azimuth_and_distance(lat, lon, point.lat, point.lon)[1]))
        return np.array(pixels), np.array(meters)


def _jacobian(residuals: Callable, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Derivative (2N, K) of the residuals by the parameters, in usual errors."""
    step = 1e-4
    columns = [
        (residuals(values + step * e, names) - residuals(values - step * e, names)) / (2 * step)
        for e in np.eye(len(names))
    ]
    return np.stack(columns, axis=1)


def _choose(
    residuals: Callable, count: int, solve: Callable
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Add parameters one by one while the points support them; fit those."""
    names: tuple[str, ...] = ()
    values, dropped = np.zeros(0), []
    for name in PARAMETERS:
        if count < POINTS_NEEDED[name]:
            dropped.append(name)
            continue
        trial = (*names, name)
        start = np.append(values, 0.0)
        strengths = np.linalg.svd(_jacobian(residuals, start, trial), compute_uv=False)
        if strengths[-1] < _MIN_CONDITION * strengths[0]:
            dropped.append(name)
            continue
        names, values = trial, solve(start, trial)
    return names, values, dropped


def _notes(points, names, dropped, offsets, pixels, meters, angles) -> list[str]:
    unit = {"altitude": " m", "focal": " %"}
    told = ", ".join(
        f"{n} {offsets[n] * (100 if n == 'focal' else 1):+.2f}{unit.get(n, '°')}" for n in names
    )
    notes = [
        f"{len(points)} control points give {told or 'nothing'}; they remain off by "
        f"{np.sqrt(np.mean(pixels**2)):.1f} pixels, {np.sqrt(np.nanmean(meters**2)):.2f} m on the "
        "ground (root mean square)"
        if np.isfinite(meters).any()
        else f"{len(points)} control points give {told or 'nothing'}"
    ]
    if dropped:
        notes.append(f"the points do not support {', '.join(dropped)}, which stay as logged")
    if len(points) > 2 and pixels.max() > 3 * np.median(pixels) + 3:
        worst = int(np.argmax(pixels))
        notes.append(
            f"point {worst + 1} is {pixels[worst]:.0f} pixels off, far more than the rest: a slip?"
        )
    if np.degrees(np.sqrt(np.mean(angles**2))) > _SUSPICIOUS_DEG:
        notes.append("the points do not fit the flight: wrong frames, or latitude for longitude?")
    return notes
