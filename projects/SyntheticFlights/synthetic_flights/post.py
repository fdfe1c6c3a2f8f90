"""From a clean rendering to what a drone's camera records: haze, exposure, motion blur,
sharpening, noise.
"""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.camera import Intrinsics, Pose, project, rotation_matrix
from synthetic_flights.config import Appearance

__all__ = ["SensorModel"]

NOISE_MARGIN = 64


class SensorModel:
    """The look of one flight. :meth:`expose` is a function of the frame, its pose and its number
    alone.
    """

    def __init__(self, appearance: Appearance, intrinsics: Intrinsics, rng: np.random.Generator):
        self.appearance = appearance
        self.intrinsics = intrinsics
        h, w = intrinsics.height + NOISE_MARGIN, intrinsics.width + NOISE_MARGIN
        grain = rng.standard_normal((h, w), dtype=np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), 0.7)
        self._noise = np.round(np.clip(grain / grain.std() * appearance.noise, -20, 20))
        self._noise = cv2.merge([self._noise.astype(np.int16)] * 3)
        self._offsets = rng.integers(0, NOISE_MARGIN, (997, 2))
        self._drift = (rng.uniform(0.02, 0.09), rng.uniform(4, 14), rng.uniform(0, 2 * np.pi))
        self._flicker = (rng.uniform(0.0, 0.02), rng.uniform(0.7, 2.0), rng.uniform(0, 2 * np.pi))
        self._air = np.array([214.0, 208, 202]) * rng.uniform(0.85, 1.08)
        x = (np.arange(intrinsics.width) / intrinsics.width - 0.5)[None]
        y = (
            np.arange(intrinsics.height) / intrinsics.width
            - 0.5 * intrinsics.height / intrinsics.width
        )[:, None]
        self._vignette = (1 - rng.uniform(0.0, 0.35) * (x * x + y * y)).astype(np.float32)

    def exposure(self, time: float) -> float:
        """Return the exposure at a time, 1 being neutral."""
        value = self.appearance.exposure
        for amplitude, period, phase in (self._drift, self._flicker):
            value *= 1 + amplitude * np.sin(2 * np.pi * time / period + phase)
        return float(value)

    def expose(self, frame: np.ndarray, pose: Pose, velocity: np.ndarray, index: int) -> np.ndarray:
        """Return the recorded frame (H, W, 3) uint8 from the rendered one of the same size."""
        frame = self._blur(frame, pose, velocity)
        if self.appearance.sharpen > 0.05:
            soft = cv2.GaussianBlur(frame, (5, 5), 1.1)
            frame = cv2.addWeighted(
                frame, 1 + self.appearance.sharpen, soft, -self.appearance.sharpen, 0
            )
        return self._develop(frame, pose, index)

    def _blur(self, frame, pose, velocity) -> np.ndarray:
        """Blur along the motion of the ground at the frame's middle while the shutter is open."""
        forward = rotation_matrix(pose)[2]
        middle = np.asarray(pose.position) + forward * (pose.position[2] / max(-forward[2], 0.1))
        later = Pose(
            pose.time,
            tuple(np.asarray(pose.position) + velocity * self.appearance.shutter),
            pose.yaw,
            pose.pitch,
            pose.roll,
        )
        moved, _ = project(middle[None], later, self.intrinsics)
        dx, dy = moved[0] - (self.intrinsics.width / 2, self.intrinsics.height / 2)
        length = float(np.hypot(dx, dy))
        if length < 0.8:
            return frame
        size = int(np.ceil(length)) | 1
        size = min(max(size, 3), 15)
        kernel = np.zeros((size * 8, size * 8), np.float32)
        half = 8 * size / 2
        reach = np.array([dx, dy]) / length * min(length, 14.0) * 4
        cv2.line(
            kernel,
            tuple(np.round(half - reach).astype(int).tolist()),
            tuple(np.round(half + reach).astype(int).tolist()),
            1.0,
            8,
        )
        kernel = cv2.resize(kernel, (size, size), interpolation=cv2.INTER_AREA)
        return cv2.filter2D(frame, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)

    def _develop(self, frame, pose, index: int) -> np.ndarray:
        """Apply saturation, contrast, exposure, haze by distance, vignette and grain."""
        appearance, cam = self.appearance, self.intrinsics
        gain = self.exposure(pose.time) * appearance.contrast
        gray = np.array([[0.114, 0.587, 0.299]]).repeat(3, 0)
        color = gain * (appearance.saturation * np.eye(3) + (1 - appearance.saturation) * gray)
        matrix = np.concatenate([color, np.full((3, 1), 118 * (1 - appearance.contrast))], 1)
        frame = cv2.transform(frame, matrix.astype(np.float32))
        rows = np.arange(cam.height) + 0.5
        down = np.radians(-pose.pitch) + np.arctan((rows - cam.height / 2) / cam.focal)
        distance = pose.position[2] / np.maximum(np.sin(down), 0.1)
        clear = np.power(1 - appearance.haze, distance / 100.0).astype(np.float32)
        keep = clear[:, None] * self._vignette
        frame = cv2.multiply(frame, cv2.merge([keep] * 3), dtype=cv2.CV_8U)
        veil = ((1 - clear)[:, None] * (gain * self._air)).astype(np.int16)  # (H, 3)
        veil = cv2.resize(veil[:, None], (cam.width, cam.height), interpolation=cv2.INTER_NEAREST)
        oy, ox = self._offsets[index % len(self._offsets)]
        noise = self._noise[oy : oy + cam.height, ox : ox + cam.width]
        return cv2.add(frame, cv2.add(veil, noise), dtype=cv2.CV_8U)
