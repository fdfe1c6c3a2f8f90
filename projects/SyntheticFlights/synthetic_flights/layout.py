"""Lays out the neighbourhood below a flight: streets, lots and what stands on them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from synthetic_flights.buildings import BuildingPlan
from synthetic_flights.camera import FlightPath, Intrinsics, ground_footprint
from synthetic_flights.config import Appearance, SceneConfig, scene_rng
from synthetic_flights.damage import plan_parts
from synthetic_flights.furnishing import furnish_lot, furnish_street, plant_more_trees
from synthetic_flights.houses import plan_house, plan_outbuilding
from synthetic_flights.lots import ROAD_HALF, Lot
from synthetic_flights.world import GroundFeature, World

__all__ = ["Streets", "build_world"]

LEVELS = (0.60, 0.31, 0.09)  # shares of Slight, Severe and Debris among damaged houses
SAND = np.array([128.0, 146, 156])  # BGR


class Streets:
    """A gently bent grid: street coordinates (a along, b across) to world metres."""

    def __init__(self, appearance: Appearance, rng: np.random.Generator):
        self.angle = appearance.street_angle
        self.bends = [
            (rng.uniform(2, 9), rng.uniform(60, 110), rng.uniform(0, 2 * np.pi)) for _ in range(2)
        ]
        self.offset = rng.uniform(-40, 40, 2)

    def world(self, points: np.ndarray) -> np.ndarray:
        """Map street coordinates (..., 2) to the world."""
        points = np.asarray(points, np.float64) + self.offset
        a, b = points[..., 0], points[..., 1]
        (r0, l0, p0), (r1, l1, p1) = self.bends
        bent = np.stack([a + 0.5 * r0 * np.sin(b / l0 + p0), b + r1 * np.sin(a / l1 + p1)], -1)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return bent @ np.array([[c, s], [-s, c]])

    def direction(self, a: float, b: float) -> float:
        """Return the world angle of the street's direction at a place."""
        step = self.world(np.array([a + 0.5, b])) - self.world(np.array([a - 0.5, b]))
        return float(np.arctan2(step[1], step[0]))

    def rough_inverse(self, world: np.ndarray) -> np.ndarray:
        """Return street coordinates within a dozen metres of the true ones."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.asarray(world) @ np.array([[c, -s], [s, c]]) - self.offset


def build_world(
    config: SceneConfig, appearance: Appearance, path: FlightPath, intrinsics: Intrinsics, rng
) -> World:
    """Lay out everything within view of the flight."""
    streets = Streets(appearance, rng)
    times = np.arange(0, config.seconds + 0.5, 0.5)
    views = np.stack(
        [ground_footprint(path.pose(float(t)), intrinsics, 30) for t in times]
    )  # (T, 4, 2)
    centers = views.mean(1)
    reach = np.linalg.norm(views - centers[:, None], axis=2).max(1) + 28
    local = streets.rough_inverse(views.reshape(-1, 2))
    low, high = local.min(0) - 45, local.max(0) + 45
    lot_width, lot_depth = appearance.lot
    block = 2 * (lot_depth + ROAD_HALF)
    cross = rng.uniform(150, 260)
    wind_angle = rng.uniform(0, 2 * np.pi)
    wind = np.array([np.cos(wind_angle), np.sin(wind_angle)])
    world = World()
    lots: list[tuple[Lot, list[BuildingPlan]]] = []

    def near(point: np.ndarray) -> bool:
        return bool((np.linalg.norm(centers - point, axis=1) < reach).any())

    for row in range(int(np.floor(low[1] / block)), int(np.ceil(high[1] / block)) + 1):
        b = row * block
        furnish_street(world, streets, appearance, rng, b, low[0], high[0], ROAD_HALF, near)
        for side in (-1, 1):
            for column in range(
                int(np.floor(low[0] / cross)) - 1, int(np.ceil(high[0] / cross)) + 1
            ):
                # Lots fill the stretch between two cross streets.
                start, length = column * cross + ROAD_HALF + 0.5, cross - 2 * ROAD_HALF - 1
                count = max(int(length / lot_width), 1)
                shares = rng.uniform(0.85, 1.2, count)
                edges = start + np.concatenate([[0.0], np.cumsum(shares / shares.sum() * length)])
                for a, end in pairwise(edges):
                    middle = ((a + end) / 2, b + side * (ROAD_HALF + lot_depth / 2))
                    if near(streets.world(np.array(middle))):
                        lot = Lot(streets, float(a), b, side, float(end - a), lot_depth)
                        lots.append((lot, _build_lot(world, lot, appearance, rng, wind)))
    for column in range(int(np.floor(low[0] / cross)), int(np.ceil(high[0] / cross)) + 1):
        a = column * cross
        line = np.stack([np.full(40, a), np.linspace(low[1], high[1], 40)], 1)
        left, right = (streets.world(line + np.array([d * ROAD_HALF * 0.9, 0])) for d in (-1, 1))
        for i in range(len(line) - 1):
            quad = np.stack([left[i], right[i], right[i + 1], left[i + 1]])
            if near(quad.mean(0)):
                world.ground.append(GroundFeature("road", quad, appearance.road))
                wide = quad.mean(0) + (quad - quad.mean(0)) * 1.35
                world.ground.append(
                    GroundFeature("verge", wide, appearance.road * 0.5 + SAND * 0.5)
                )
    if config.trees > 1:
        more = scene_rng(config, 8)
        plant_more_trees(world, lots, appearance, config.trees, more)
    _number(world, config)
    return world


def _number(world: World, config: SceneConfig) -> None:
    """Number buildings and parts; ids are unique in the whole data set, indices in the flight."""
    part_index = 0
    for index, building in enumerate(world.buildings, start=1):
        building.id = config.video * 100_000 + index
        for k, part in enumerate(building.parts, start=1):
            part_index += 1
            part.id, part.part_index = building.id * 10 + k, part_index


def _build_lot(
    world: World, lot: Lot, appearance: Appearance, rng, wind: np.ndarray
) -> list[BuildingPlan]:
    """Put buildings and all else on a lot; return the buildings."""
    corners = np.array(
        [
            [lot.a, lot.b],
            [lot.a + lot.width, lot.b],
            [lot.a + lot.width, lot.b + lot.side * (lot.depth + ROAD_HALF)],
            [lot.a, lot.b + lot.side * (lot.depth + ROAD_HALF)],
        ]
    )
    lawn = lot.streets.world(corners)
    world.ground.append(GroundFeature("lot", lawn, rng.normal(0, 1, 3), amount=float(rng.random())))
    house = None
    first = len(world.buildings)
    if rng.random() < 0.93:
        level = 0
        if rng.random() < appearance.damaged:
            level = int(rng.choice([1, 2, 3], p=LEVELS))
        house = plan_house(lot, rng, level)
        world.buildings.append(house)
        plan_parts(house, wind, rng)
        spread = rng.random()
        if spread < 0.34:
            extra = plan_outbuilding(lot, rng, house, level)
            if extra is not None:
                world.buildings.append(extra)
                plan_parts(extra, wind, rng)
    own = world.buildings[first:]
    furnish_lot(world, lot, appearance, rng, house, own)
    return own
