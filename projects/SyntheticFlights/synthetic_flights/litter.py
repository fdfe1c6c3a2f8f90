"""Litter on the ground: shingles, boards, insulation and paper that the wind left, thickest around
hit buildings.
"""

from __future__ import annotations

import numpy as np

from synthetic_flights.buildings import BuildingPlan
from synthetic_flights.config import Appearance
from synthetic_flights.textures import PLANK_COLORS
from synthetic_flights.world import GroundFeature, World

__all__ = ["strew_litter"]


def strew_litter(
    world: World,
    rng,
    appearance: Appearance,
    at,
    width: float,
    depth: float,
    own: list[BuildingPlan],
) -> None:
    """Add the litter of one lot; ``at(x, y)`` maps lot metres to the world."""
    for _ in range(rng.poisson(1.4 * appearance.storm)):  # the wind gathers it in patches
        center = at(rng.uniform(0, width), rng.uniform(-2, depth))
        count = int(rng.integers(4, 16))
        places = center + rng.normal(0, rng.uniform(0.8, 3.0), (count, 2))
        _scraps(world, rng, places, _sizes(rng, count), _colors(rng, count, None))
    count = rng.poisson(7 * appearance.storm)
    places = np.array(
        [at(rng.uniform(0, width), rng.uniform(-2, depth)) for _ in range(count)]
    ).reshape(-1, 2)
    _scraps(world, rng, places, _sizes(rng, count), _colors(rng, count, None))
    for plan in own:
        if not plan.level:
            continue
        count = rng.poisson({1: 40, 2: 110, 3: 200}[plan.level] * appearance.storm)
        side = rng.uniform(0, 2 * np.pi)
        angle = np.where(
            rng.random(count) < 0.6, rng.normal(side, 0.7, count), rng.uniform(0, 2 * np.pi, count)
        )
        far = plan.radius * (0.7 + rng.exponential(0.28, count))
        places = np.stack([np.cos(angle) * far, np.sin(angle) * far], 1) + plan.center
        sizes = _sizes(rng, count) * (1.35 if plan.level > 1 else 1.0)
        _scraps(world, rng, places, sizes, _colors(rng, count, plan.roof_color))


def _sizes(rng, count: int) -> np.ndarray:
    return np.clip(0.13 * np.exp(0.6 * rng.standard_normal(count)), 0.05, 0.8)


def _colors(rng, count: int, roof: np.ndarray | None) -> np.ndarray:
    colors = PLANK_COLORS[rng.integers(len(PLANK_COLORS), size=count)] * rng.uniform(
        0.75, 1.05, (count, 1)
    )
    if roof is not None:
        dark = rng.random(count) < 0.55
        colors[dark] = np.asarray(roof) * rng.uniform(0.6, 1.0, (int(dark.sum()), 1))
    colors[rng.random(count) < 0.2] = 226
    return colors


def _scraps(world: World, rng, places: np.ndarray, sizes: np.ndarray, colors: np.ndarray) -> None:
    for place, size, color in zip(places, sizes, colors):
        if rng.random() < 0.3:  # a stick
            angle = rng.uniform(0, np.pi)
            c, s = np.cos(angle), np.sin(angle)
            long, wide = 2.6 * size, 0.045
            shape = np.array(
                [[-long, -wide], [long, -wide], [long, wide], [-long, wide]]
            ) @ np.array([[c, s], [-s, c]])
        else:  # a torn piece
            corners = int(rng.integers(3, 6))
            t = np.sort(rng.uniform(0, 2 * np.pi, corners)) + rng.uniform(0, 1)
            r = size * rng.uniform(0.5, 1.3, corners)
            shape = np.stack([r * np.cos(t), r * np.sin(t)], 1)
        world.ground.append(GroundFeature("scrap", shape + place, color, order=7))
