"""Brown water over the ground, up to one level: streets and low gardens first.

The renderer's ground is a plane. A flood gives it a relief of its own, in which roads lie lower and
houses higher, and stands at one level over that relief. Everything is drawn with the relief ironed
flat, so that the surface is as high above the plane as the water is deep.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from synthetic_flights.camera import Pose
from synthetic_flights.config import Appearance
from synthetic_flights.materials import Material
from synthetic_flights.noise import value_noise
from synthetic_flights.surfaces import SHIFT, affine
from synthetic_flights.world import GroundFeature

__all__ = ["Flood", "mirrored"]

CELL = 0.5  # metres, of the relief
MARGIN = 12.0  # metres of relief around what is in view
# Amplitude and wavelength of the relief, metres. The finest makes the shore ragged.
RELIEF = ((0.25, 60.0), (0.12, 18.0), (0.02, 3.0))
ROAD_DEPTH = 0.80  # metres that roads lie below the lots
SHORE = 5.0  # metres over which a lot falls to the road
TURBIDITY = 30.0  # per metre of water looked through
OPAQUE = 0.5  # from this opacity on a pixel is water
STEP = 4  # raster pixels between places where the water's height is computed


class Flood:
    """The water of one scene.

    Attributes:
        level: metres above the mean of the relief.
        surface_z: metres, the mean height of the surface above the plane.
    """

    def __init__(
        self,
        share: float,
        appearance: Appearance,
        ground: list[GroundFeature],
        views: list[np.ndarray],
        rng: np.random.Generator,
    ):
        """Fill a scene with water.

        Args:
            share: of the ground in view that is to be under water, above 0.
            appearance: of the scene.
            ground: what lies on the ground.
            views: outlines (N, 2) of the ground that frames show, metres.
            rng: of the relief and the colour of the water.
        """
        self.appearance = appearance
        points = np.concatenate(views)
        self._low = points.min(0) - MARGIN
        columns, rows = np.ceil((points.max(0) + MARGIN - self._low) / CELL).astype(int).tolist()
        relief = sum(
            height * value_noise(rng, (rows, columns), wavelength / CELL / 2)
            for height, wavelength in RELIEF
        )
        roads, seen = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.uint8)
        for feature in ground:
            if feature.kind == "road":
                cv2.fillPoly(roads, [self._cells(feature.polygon)], 1.0, cv2.LINE_8, SHIFT)
        for view in views:
            cv2.fillPoly(seen, [self._cells(view)], 1, cv2.LINE_8, SHIFT)
        relief -= ROAD_DEPTH * cv2.GaussianBlur(roads, (0, 0), SHORE / CELL / 2)
        self.level = float(np.quantile(relief[seen > 0], share))
        self._depth = (self.level - relief).astype(np.float32)
        self.surface_z = float(self._depth[(seen > 0) & (self._depth > 0)].mean())
        silt = np.array([82.0, 126, 156]) * rng.uniform(0.85, 1.1) * rng.uniform(0.96, 1.04, 3)
        self._color = silt * appearance.light
        self._sky = np.array([232.0, 226, 220]) * appearance.light
        self._streaks = value_noise(rng, (rows, columns), 14 / CELL, 3)
        self._ripples = cv2.GaussianBlur(
            rng.standard_normal((256, 256), dtype=np.float32), (0, 0), 1.6, sigmaY=0.8
        )

    def _cells(self, polygon: np.ndarray) -> np.ndarray:
        return np.round(((polygon - self._low) / CELL - 0.5) * 2**SHIFT).astype(np.int32)

    def _sample(self, field: np.ndarray, places: np.ndarray) -> np.ndarray:
        cells = ((places - self._low) / CELL - 0.5).astype(np.float32)
        shape = cells.shape[:-1]
        flat = cells.reshape(1, -1, 2)
        # OpenCV remaps up to 2^15 columns.
        parts = [
            cv2.remap(field, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for part in np.array_split(flat, flat.shape[1] // 30_000 + 1, axis=1)
        ]
        return np.concatenate(parts, axis=1).reshape(shape)

    def depth(self, places: np.ndarray) -> np.ndarray:
        """Depth of the water at places (..., 2), metres; below 0: how far they lie above it."""
        return self._sample(self._depth, np.asarray(places, np.float64).reshape(*places.shape))

    def draw_sky(self, color: np.ndarray) -> None:
        """Fill a picture with what lies behind everything in the mirror."""
        color[...] = np.clip(self._sky, 0, 255).astype(np.uint8)

    def draw(self, raster, features: list[GroundFeature], reflection: np.ndarray | None) -> None:
        """Lay the water over a raster with surfaces, before trees are drawn.

        Args:
            raster: with ground, buildings and meshes.
            features: of the ground in view, for their shadows.
            reflection: (H, W, 3) uint8, what the surface mirrors; None where there is no picture.
        """
        surfaces = raster.surfaces
        altitude = float(raster.position[2])
        depth, streaks = self._surface(raster)
        height = np.maximum(depth, 0)
        near = surfaces.ray_z * (-1 / (altitude - height))
        # Metres of water between the surface and what is seen through it.
        through = 1 / surfaces.inverse_depth - 1 / near
        wet = (depth > 0) & (through > 0)
        opacity = np.where(wet, 1 - np.exp(-TURBIDITY * np.maximum(through, 0)), 0)
        opacity = opacity.astype(np.float32)
        if raster.color is not None:
            water = self._shaded(raster, features, streaks, reflection)
            share = opacity[..., None]
            mixed = raster.color * (1 - share) + water * share
            raster.color[...] = np.clip(mixed, 0, 255).astype(np.uint8)
        opaque = opacity > OPAQUE
        surfaces.materials[opaque] = Material.WATER
        surfaces.inverse_depth[opaque] = near[opaque]
        if raster.part_ids is not None:
            raster.part_ids[opaque] = 0
            raster.building_ids[opaque] = 0

    def _surface(self, raster) -> tuple[np.ndarray, np.ndarray]:
        """Depth of the water at which each pixel's ray meets the surface, and its streaks: (H, W)
        float32 each.
        """
        rows, columns = raster.height // STEP + 2, raster.width // STEP + 2
        back = np.linalg.inv(raster.view)
        x = (np.arange(columns) + 0.5) * STEP - 0.5
        y = (np.arange(rows) + 0.5) * STEP - 0.5
        pixels = np.stack([*np.meshgrid(x, y), np.ones((rows, columns))], -1)
        rays = pixels @ back.T
        rays /= np.maximum(-rays[..., 2:], 0.05)  # a ray sinks by a metre for each unit
        z = np.zeros((rows, columns))
        for _ in range(3):
            places = raster.position[:2] + rays[..., :2] * (raster.position[2] - z)[..., None]
            depth = self.depth(places)
            z = np.maximum(depth, 0)
        streaks = self._sample(self._streaks, places)
        size = (columns * STEP, rows * STEP)
        return tuple(
            cv2.resize(field, size)[: raster.height, : raster.width] for field in (depth, streaks)
        )

    def _shaded(self, raster, features, streaks, reflection) -> np.ndarray:
        """Colour of the surface, (H, W, 3) float32: silt, shadows, and the mirrored scene."""
        surfaces = raster.surfaces
        length = np.sqrt(surfaces.ray_z**2 + self._level_ray(raster))
        # Schlick's approximation for water; the floor stands for the small waves, which turn
        # towards the sky.
        steep = np.clip(-surfaces.ray_z / length, 0, 1)
        mirror = 0.2 + 0.8 * (1 - steep) ** 4
        shade = 1 - self._shadows(raster, features) * (0.7 * self.appearance.shadow)
        silt = shade * (1 + 0.035 * streaks)
        tile = self._ripples
        ripples = np.tile(tile, [s // t + 1 for s, t in zip(streaks.shape, tile.shape)])
        ripples = ripples[: streaks.shape[0], : streaks.shape[1]]
        mirror = np.clip(mirror * (1 + 0.25 * ripples), 0, 1)[..., None]
        blurred = cv2.blur(reflection, (3, 9))
        return self._color.astype(np.float32) * silt[..., None] * (1 - mirror) + blurred * mirror

    @staticmethod
    def _level_ray(raster) -> np.ndarray:
        """Squared horizontal length of the rays of unit depth, (H, W)."""
        back = np.linalg.inv(raster.view)
        window = (slice(0, raster.height), slice(0, raster.width))
        return affine(back[0], *window) ** 2 + affine(back[1], *window) ** 2

    @staticmethod
    def _shadows(raster, features) -> np.ndarray:
        """Where shadows fall on the water, (H, W) float32 in 0..1."""
        scale = 4
        shape = (raster.height // scale + 1, raster.width // scale + 1)
        shade = np.zeros(shape, np.float32)
        for feature in features:
            if feature.kind != "shade" or feature.amount < 0.5:
                continue
            level = np.column_stack([feature.polygon, np.zeros(len(feature.polygon))])
            h = (level - raster.position) @ raster.view.T
            if h[:, 2].min() <= 1:
                continue
            pixels = np.clip(h[:, :2] / h[:, 2:] / scale, -10_000, 10_000)
            fixed = np.round(pixels * 2**SHIFT).astype(np.int32)
            cv2.fillPoly(shade, [fixed], min(feature.amount, 1.0), cv2.LINE_8, SHIFT)
        full = (shape[1] * scale, shape[0] * scale)
        soft = cv2.resize(cv2.GaussianBlur(shade, (0, 0), 1.2), full)
        return soft[: raster.height, : raster.width]


def mirrored(pose: Pose, z: float) -> Pose:
    """The pose of the camera's mirror image below a level surface at height ``z``.

    What it sees, turned upside down, is what the surface mirrors into the camera.
    """
    x, y, height = pose.position
    return replace(pose, position=(x, y, 2 * z - height), pitch=-pose.pitch, roll=-pose.roll)
