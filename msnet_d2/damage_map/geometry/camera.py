"""The camera: from pixels to directions and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msnet_d2.damage_map.telemetry.pose import TelemetrySample
from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import read_json_file
from msnet_d2.utils.text import brief

FILM_WIDTH_MM = 36.0
_UNDISTORT_STEPS = 100
# A direction that comes back this far off (in units of the focal length) is not in the lens model.
_UNDISTORT_TOLERANCE = 1e-6


_MAX_BYTES = 1 << 20
# How many of OpenCV's coefficients there may be.
_COEFFICIENTS = (0, 4, 5, 8, 12, 14)


def _number(value: object, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e6:  # also NaN
        raise ValueError(f"{name} is {brief(value)}, not a number below a million")
    return float(value)


@dataclass(frozen=True)
class Camera:
    """A pinhole with OpenCV's lens distortion.

    Camera axes: x right, y down, z forward. Pixels are continuous with (0, 0) at the outer corner
    of the top left pixel, so the centre of the picture is (width / 2, height / 2).

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        fx: focal length in pixels, horizontally.
        fy: focal length in pixels, vertically.
        cx: principal point.
        cy: principal point.
        distortion: OpenCV's coefficients (k1, k2, p1, p2[, k3[, k4, k5, k6[, …]]]), or empty.
    """

    width: float
    height: float
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()

    def __post_init__(self):
        values = (self.width, self.height, self.fx, self.fy)
        if not (all(np.isfinite(v) and v > 0 for v in values)):
            raise InputError(
                f"camera of {self.width} x {self.height} pixels with focal lengths {self.fx}, "
                f"{self.fy}: expected positive numbers"
            )
        others = (self.cx, self.cy, *self.distortion)
        if not all(np.isfinite(v) for v in others):
            raise InputError(f"camera: principal point and distortion {others} are not all numbers")
        if len(self.distortion) not in (0, 4, 5, 8, 12, 14):
            raise InputError(
                f"camera: {len(self.distortion)} distortion coefficients; OpenCV has 4, 5, 8, 12 "
                "or 14"
            )

    @classmethod
    def from_hfov(cls, hfov_deg: float, width: float, height: float) -> Camera:
        """A camera without distortion, by its horizontal field of view."""
        if not 0.1 <= hfov_deg <= 179:
            raise InputError(f"`hfov` {hfov_deg}: expected degrees from 0.1 to 179")
        focal = width / 2 / np.tan(np.radians(hfov_deg) / 2)
        return cls(width, height, focal, focal, width / 2, height / 2)

    @classmethod
    def from_focal_mm(cls, focal_mm: float, width: float, height: float) -> Camera:
        """A camera by its focal length equivalent on film, whose frame is 36 mm wide.

        The wide side of the film is the long side of the picture, also of one on its end.
        """
        if not (np.isfinite(focal_mm) and focal_mm > 0):
            raise InputError(f"focal length {focal_mm} mm: expected a positive number")
        focal = max(width, height) * focal_mm / FILM_WIDTH_MM
        return cls(width, height, focal, focal, width / 2, height / 2)

    @classmethod
    def from_file(cls, path: Path | str, width: float, height: float) -> Camera:
        """Read a calibration as JSON and scale it to a picture of ``width`` x ``height``.

        The file holds ``fx, fy, cx, cy``, optionally ``distortion`` (OpenCV's coefficients) and
        ``width, height`` of the pictures it was made with. As in OpenCV, its principal point
        counts from the centre of the top left pixel.

        Raises:
            InputError: if the file is not of this form, or for pictures of another shape.
        """
        try:
            data = read_json_file(path, _MAX_BYTES)
            values = {name: _number(data[name], name) for name in ("fx", "fy", "cx", "cy")}
            given = data.get("distortion", [])
            if isinstance(given, list) and len(given) == 1:
                (given,) = given  # OpenCV's matrix of one row
            if not isinstance(given, list) or len(given) not in _COEFFICIENTS:
                raise ValueError(f"distortion is {brief(given)}")
            distortion = tuple(_number(v, "a coefficient of distortion") for v in given)
            made = (
                _number(data.get("width", width), "width"),
                _number(data.get("height", height), "height"),
            )
            if min(values["fx"], values["fy"]) < 1:
                raise ValueError(f"a focal length of {values['fx']:g} x {values['fy']:g} pixels")
        except OSError as error:
            raise InputError(
                f"{path}: the camera file cannot be read ({error.strerror})"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path}: not a camera file ({type(error).__name__}: {error}); expected JSON with "
                'numbers fx, fy, cx, cy and optionally "distortion": [k1, k2, p1, p2, k3], width, '
                "height"
            ) from error
        if not (made[0] > 0 and made[1] > 0):
            raise InputError(f"{path}: pictures of {made[0]} x {made[1]} pixels")
        sx, sy = width / made[0], height / made[1]
        if abs(sx / sy - 1) > 0.01:
            raise InputError(
                f"{path}: made for pictures of {made[0]:.0f} x {made[1]:.0f}, which do not have "
                f"the shape of the video's {width:.0f} x {height:.0f}"
            )
        return cls(
            width=width,
            height=height,
            fx=values["fx"] * sx,
            fy=values["fy"] * sy,
            cx=(values["cx"] + 0.5) * sx,
            cy=(values["cy"] + 0.5) * sy,
            distortion=distortion,
        )

    @classmethod
    def for_sample(
        cls,
        sample: TelemetrySample,
        width: float,
        height: float,
        *,
        hfov_deg: float | None = None,
        file: Path | str | None = None,
    ) -> Camera | None:
        """The camera of a frame, by what is known best: file, given field of view, logged field
        of view, logged focal length; None if nothing is known.

        A field of view that was given is that of the lens: digital zoom narrows it.
        """
        if file is not None:
            return cls.from_file(file, width, height)
        if hfov_deg is not None:
            camera = cls.from_hfov(hfov_deg, width, height)
            return camera.zoomed(sample.zoom) if sample.zoom > 0 else camera
        if np.isfinite(sample.hfov_deg):
            return cls.from_hfov(sample.hfov_deg, width, height)
        if np.isfinite(sample.focal_mm):
            return cls.from_focal_mm(sample.focal_mm, width, height)
        return None

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view, without distortion."""
        left, right = self.cx / self.fx, (self.width - self.cx) / self.fx
        return float(np.degrees(np.arctan(left) + np.arctan(right)))

    def zoomed(self, factor: float) -> Camera:
        """The camera with its focal length times ``factor``."""
        return replace(self, fx=self.fx * factor, fy=self.fy * factor)

    def _distort(self, points: np.ndarray) -> np.ndarray:
        """Apply the lens to points (N, 2) on the plane z = 1."""
        if not self.distortion or not len(points):
            return points
        import cv2

        rays = np.column_stack([points, np.ones(len(points))])
        none = np.zeros(3)
        # The calls of projectPoints are exact for any intrinsics; the identity leaves the lens.
        bent, _ = cv2.projectPoints(rays, none, none, np.eye(3), np.array(self.distortion))
        return bent.reshape(-1, 2)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Unit vectors (N, 3) in camera axes through pixels (N, 2); NaN outside the lens model."""
        pixels = np.asarray(pixels, dtype=float).reshape(-1, 2)
        bent = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        straight = bent.copy()
        if self.distortion:
            with np.errstate(all="ignore"):
                for _ in range(_UNDISTORT_STEPS):
                    off = bent - self._distort(straight)
                    straight = straight + off
                    if np.nanmax(np.abs(off), initial=0.0) < _UNDISTORT_TOLERANCE / 10:
                        break
                off = np.abs(bent - self._distort(straight)).max(axis=1)
                straight[~(off < _UNDISTORT_TOLERANCE)] = np.nan
        rays = np.column_stack([straight, np.ones(len(straight))])
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of directions (N, 3) in camera axes.

        NaN behind the camera and where the lens model does not reach; a pixel may well lie outside
        the picture.
        """
        rays = np.asarray(rays, dtype=float).reshape(-1, 3)
        ahead = rays[:, 2] > 1e-9 * np.linalg.norm(rays, axis=1)
        depth = np.where(ahead, rays[:, 2], 1.0)[:, None]
        points = np.where(ahead[:, None], rays[:, :2] / depth, np.nan)
        pixels = np.full(points.shape, np.nan)
        ok = np.isfinite(points).all(axis=1)
        pixels[ok] = self._distort(points[ok]) * (self.fx, self.fy) + (self.cx, self.cy)
        if self.distortion:
            # Far outside the picture the polynomial folds back into it.
            back = self.rays(pixels)
            off = np.abs(back[:, :2] / back[:, 2:] - points).max(axis=1)
            pixels[~(off < 1e-4)] = np.nan
        return pixels


def camera_to_world(yaw_deg, pitch_deg, roll_deg) -> np.ndarray:
    """Matrix (3, 3) from camera axes to east, north, up; (N, 3, 3) for angles of shape (N,).

    Angles as in :mod:`msnet_d2.damage_map`. Its columns are where the picture's right, its lower
    edge and the line of sight point.
    """
    yaw, pitch, roll = np.radians(np.broadcast_arrays(yaw_deg, pitch_deg, roll_deg))
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    # Right, down and forward in north, east, down: Rz(yaw) Ry(pitch) Rx(roll), multiplied out;
    # then rows to east, north, up.
    north = [sr * sp * cy - cr * sy, cr * sp * cy + sr * sy, cp * cy]
    east = [sr * sp * sy + cr * cy, cr * sp * sy - sr * cy, cp * sy]
    down = [sr * cp, cr * cp, -sp]
    rows = [np.stack(row, axis=-1) for row in (east, north, down)]
    return np.stack([rows[0], rows[1], -rows[2]], axis=-2)
