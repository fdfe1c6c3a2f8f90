"""From a clean rendering to what a drone's camera records: haze, exposure, motion blur, sharpening, noise."""

from __future__ import annotations

import cv2
import numpy as np

from .camera import Intrinsics, Pose, project, rotation_matrix
from .config import Style

__all__ = ["Film"]

NOISE_MARGIN = 64


class Film:
    """The look of one flight. :meth:`expose` is a function of the frame, its pose and its number alone."""

    def __init__(self, style: Style, intrinsics: Intrinsics, rng: np.random.Generator):
        self.style = style
        self.intrinsics = intrinsics
        h, w = intrinsics.height + NOISE_MARGIN, intrinsics.width + NOISE_MARGIN
        grain = rng.standard_normal((h, w), dtype=np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), 0.7)
        self._noise = np.clip(grain / grain.std() * style.noise, -20, 20).astype(np.int8)
        self._offsets = rng.integers(0, NOISE_MARGIN, (997, 2))
        self._drift = (rng.uniform(0.02, 0.09), rng.uniform(4, 14), rng.uniform(0, 2 * np.pi))
        self._flicker = (rng.uniform(0.0, 0.02), rng.uniform(0.7, 2.0), rng.uniform(0, 2 * np.pi))
        self._air = np.array([214.0, 208, 202]) * rng.uniform(0.85, 1.08)
        x = (np.arange(intrinsics.width) / intrinsics.width - 0.5)[None]
        y = (
            np.arange(intrinsics.height) / intrinsics.width
            - 0.5 * intrinsics.height / intrinsics.width
        )[:, None]
        self._vignette = rng.uniform(0.0, 0.35) * (x * x + y * y)

    def exposure(self, time: float) -> float:
        """Return the exposure at a time, 1 being neutral."""
        value = self.style.exposure
        for amplitude, period, phase in (self._drift, self._flicker):
            value *= 1 + amplitude * np.sin(2 * np.pi * time / period + phase)
        return float(value)

    def expose(self, frame: np.ndarray, pose: Pose, velocity: np.ndarray, index: int) -> np.ndarray:
        """Return the recorded frame (H, W, 3) uint8 from the rendered one of the same size."""
        frame = self._blur(frame, pose, velocity)
        frame = self._develop(frame, pose)
        if self.style.sharpen > 0.05:
            soft = cv2.GaussianBlur(frame, (0, 0), 1.1)
            frame = cv2.addWeighted(frame, 1 + self.style.sharpen, soft, -self.style.sharpen, 0)
        oy, ox = self._offsets[index % len(self._offsets)]
        h, w = frame.shape[:2]
        noise = self._noise[oy : oy + h, ox : ox + w]
        plus, minus = np.maximum(noise, 0).astype(np.uint8), np.maximum(-noise, 0).astype(np.uint8)
        frame = cv2.add(frame, cv2.merge([plus] * 3))
        return cv2.subtract(frame, cv2.merge([minus] * 3))

    def _blur(self, frame, pose, velocity) -> np.ndarray:
        """Blur along the motion of the ground at the frame's middle while the shutter is open."""
        forward = rotation_matrix(pose)[2]
        middle = np.asarray(pose.position) + forward * (pose.position[2] / max(-forward[2], 0.1))
        later = Pose(
            pose.time,
            tuple(np.asarray(pose.position) + velocity * self.style.shutter),
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

    def _develop(self, frame, pose) -> np.ndarray:
        """Apply haze by distance, vignette, exposure, contrast and saturation."""
        style, cam = self.style, self.intrinsics
        rows = np.arange(cam.height) + 0.5
        down = np.radians(-pose.pitch) + np.arctan((rows - cam.height / 2) / cam.focal)
        distance = pose.position[2] / np.maximum(np.sin(down), 0.1)
        clear = np.power(1 - style.haze, distance / 100.0)
        gain = self.exposure(pose.time) * style.contrast
        lift = 118 * (1 - style.contrast)
        keep = (gain * clear)[:, None] * (1 - self._vignette)
        add = (gain * (1 - clear))[:, None] * self._air + lift  # (H, 3)
        # Fixed point: 8 bits of fraction.
        factor = np.clip(keep * 256, 0, 65535).astype(np.uint16)
        offset = np.clip(add * 256, -8000, 65535)
        if abs(style.saturation - 1) > 0.02:
            grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            frame = cv2.addWeighted(
                frame, style.saturation, cv2.merge([grey] * 3), 1 - style.saturation, 0
            )
        wide = frame.astype(np.float32)
        wide *= (factor.astype(np.float32) / 256)[..., None]
        wide += (offset / 256).astype(np.float32)[:, None, :]
        return cv2.convertScaleAbs(np.maximum(wide, 0, out=wide))
