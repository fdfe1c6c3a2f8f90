"""The texture of a collapsed house seen from above: zones of boards, plasterboard, roofing and
insulation, in relief.
"""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.noise import value_noise
from synthetic_flights.textures import plywood, scatter_planks, shingles

__all__ = ["rubble"]

WOOD = np.array(
    [
        [112, 148, 182],
        [132, 162, 190],
        [92, 122, 152],
        [78, 100, 124],
        [150, 174, 196],
        [104, 130, 150],
    ],
    np.float32,
)
PALE = np.array(
    [[196, 202, 206], [214, 218, 220], [176, 184, 190], [228, 230, 232], [160, 170, 178]],
    np.float32,
)
DARK = np.array([[62, 66, 70], [84, 88, 92], [74, 82, 96], [50, 54, 58]], np.float32)
ODDS = np.array(
    [[150, 142, 192], [112, 176, 196], [150, 112, 84], [80, 84, 140], [110, 136, 112]], np.float32
)


def rubble(
    rng: np.random.Generator, shape: tuple[int, int], texels_per_meter: float, accents=None
) -> np.ndarray:
    """Return a texture (height, width, 3), float32. ``accents`` (N, 3) are colours of the house
    that it was.
    """
    height, width = shape
    texture = np.empty((height, width, 3), np.float32)
    texture[...] = np.array([92, 106, 120], np.float32) * rng.uniform(0.85, 1.1)
    texture += (16.0 * value_noise(rng, shape, 1.2 * texels_per_meter, 4))[..., None]
    accents = np.empty((0, 3), np.float32) if accents is None else np.asarray(accents, np.float32)
    area = height * width / texels_per_meter**2

    def strew(density, lengths, thick, colors, field=None, cut=0.0, shadow=0.4):
        """Strew pieces, within the places where ``field`` is above ``cut`` if one is given."""
        count = int(density * area) + 1
        if field is None:
            scatter_planks(
                rng,
                texture,
                count,
                (lengths[0] * texels_per_meter, lengths[1] * texels_per_meter),
                thick * texels_per_meter,
                shadow,
                colors,
            )
            return
        layer = texture.copy()
        scatter_planks(
            rng,
            layer,
            count,
            (lengths[0] * texels_per_meter, lengths[1] * texels_per_meter),
            thick * texels_per_meter,
            shadow,
            colors,
        )
        texture[field > cut] = layer[field > cut]

    zones = [value_noise(rng, shape, 3.2 * texels_per_meter, 2) for _ in range(3)]
    sheets = (
        np.concatenate([PALE, WOOD[:3], accents, accents])
        if len(accents)
        else np.concatenate([PALE, WOOD[:3]])
    )
    strew(0.30, (0.7, 2.4), 1.1, sheets)
    strew(1.0, (0.2, 0.9), 0.45, np.concatenate([PALE, sheets]), zones[0], 0.1)
    roofing = accents[:1] if len(accents) else DARK
    strew(1.1, (0.3, 1.1), 0.5, np.concatenate([DARK, roofing, roofing]), zones[1], 0.1)
    strew(2.0, (0.12, 0.5), 0.16, np.concatenate([WOOD, PALE, DARK]))
    strew(1.5, (0.6, 3.2), 0.11, np.concatenate([WOOD, WOOD, PALE[:2]]), zones[2], -0.5)
    strew(0.35, (1.0, 4.0), 0.13, WOOD)
    strew(0.10, (0.4, 1.3), 0.5, ODDS)
    if area > 30:
        for _ in range(rng.integers(0, 1 + int(area / 60))):
            _slab(
                rng,
                texture,
                texels_per_meter,
                roofing[0] if len(accents) else np.array([84, 86, 90]),
            )
    # Relief: the sky side of every mound is lighter.
    mounds = value_noise(rng, shape, 2.6 * texels_per_meter, 3)
    slope = cv2.Sobel(mounds, cv2.CV_32F, 1, 1, ksize=5)
    texture *= np.clip(1 + 0.16 * slope / max(float(slope.std()), 1e-6), 0.55, 1.3)[..., None]
    texture += (5.0 * rng.standard_normal(shape, dtype=np.float32))[..., None]
    return cv2.GaussianBlur(texture, (0, 0), 0.6)


def _slab(rng, texture: np.ndarray, texels_per_meter: float, color) -> None:
    """Lay a torn piece of roof on the rubble."""
    height, width = texture.shape[:2]
    w, h = (
        int(rng.uniform(1.8, 4.5) * texels_per_meter),
        int(rng.uniform(1.2, 3.0) * texels_per_meter),
    )
    piece = (
        shingles(rng, (h, w), color, texels_per_meter)
        if rng.random() < 0.65
        else plywood(rng, (h, w), texels_per_meter, rng.uniform(0, 0.9))
    )
    t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    r = rng.uniform(0.75, 1.05, 14)
    corners = np.stack([w / 2 + r * w * 0.52 * np.cos(t), h / 2 + r * h * 0.52 * np.sin(t)], 1)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    angle, place = float(rng.uniform(0, 360)), rng.uniform(0.1, 0.9, 2) * (width, height)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    matrix[:, 2] += place - (w / 2, h / 2)
    there = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    below = np.roll(there, (3, 3), (0, 1)) & ~there
    texture[below] *= 0.5
    laid = cv2.warpAffine(piece, matrix, (width, height), flags=cv2.INTER_LINEAR)
    texture[there] = laid[there] * rng.uniform(0.85, 1.1)
