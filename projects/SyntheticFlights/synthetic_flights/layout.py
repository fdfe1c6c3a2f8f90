"""Lays out the neighbourhood below a flight: streets, lots and what stands on them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from synthetic_flights.buildings import Block, BuildingPlan
from synthetic_flights.camera import FlightPath, Intrinsics, ground_footprint
from synthetic_flights.config import Appearance, SceneConfig
from synthetic_flights.damage import plan_parts
from synthetic_flights.furnishing import furnish_lot, furnish_street
from synthetic_flights.world import GroundFeature, World

__all__ = ["Streets", "build_world"]

ROAD_HALF = 3.4  # metres
SAND = np.array([128.0, 146, 156])  # BGR
# Colours of roofs (BGR) and how often: dark asphalt foremost, browns, greys, a few light, red,
# green ones.
SHINGLE_COLOURS = [
    ((88, 84, 82), 5), ((72, 70, 70), 5), ((108, 104, 102), 4), ((88, 98, 112), 4),
    ((84, 108, 134), 3), ((122, 138, 152), 2), ((140, 140, 142), 2),
    ((96, 104, 98), 1), ((88, 96, 140), 1), ((166, 168, 170), 1),
]  # fmt: skip
TILE_COLOURS = [((86, 122, 182), 3), ((84, 110, 160), 3), ((104, 150, 204), 2)]
METAL_COLOURS = [
    ((186, 188, 190), 4),
    ((170, 118, 62), 2),
    ((104, 118, 84), 1),
    ((84, 84, 150), 1),
    ((120, 124, 128), 2),
]
WALL_COLOURS = {
    "brick": [((78, 84, 136), 4), ((96, 108, 146), 3), ((118, 134, 160), 2)],
    "siding": [
        ((222, 224, 226), 5),
        ((192, 198, 202), 2),
        ((170, 200, 214), 2),
        ((206, 190, 168), 1),
        ((170, 190, 172), 1),
    ],
    "stucco": [((196, 212, 222), 3), ((172, 194, 212), 2), ((214, 216, 218), 2)],
}


def pick_colour(rng: np.random.Generator, table) -> np.ndarray:
    """Draw a colour from a table of (BGR, weight), with some variation."""
    weights = np.array([w for _, w in table], float)
    colour = np.array(table[rng.choice(len(table), p=weights / weights.sum())][0], float)
    return np.clip(colour * rng.uniform(0.9, 1.1) + rng.normal(0, 3, 3), 20, 240)


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
    centres = views.mean(1)
    reach = np.linalg.norm(views - centres[:, None], axis=2).max(1) + 28
    local = streets.rough_inverse(views.reshape(-1, 2))
    low, high = local.min(0) - 45, local.max(0) + 45
    lot_width, lot_depth = appearance.lot
    block = 2 * (lot_depth + ROAD_HALF)
    cross = rng.uniform(150, 260)
    wind_angle = rng.uniform(0, 2 * np.pi)
    wind = np.array([np.cos(wind_angle), np.sin(wind_angle)])
    world = World()

    def near(point: np.ndarray) -> bool:
        return bool((np.linalg.norm(centres - point, axis=1) < reach).any())

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
                        lot = (float(a), b, side, float(end - a), lot_depth)
                        _lot(world, streets, appearance, config, rng, *lot, wind)
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


def _lot(world: World, streets, appearance, config, rng, a, b, side, width, depth, wind) -> None:
    corners = np.array(
        [
            [a, b],
            [a + width, b],
            [a + width, b + side * (depth + ROAD_HALF)],
            [a, b + side * (depth + ROAD_HALF)],
        ]
    )
    world.ground.append(
        GroundFeature(
            "lot", streets.world(corners), rng.normal(0, 1, 3), amount=float(rng.random())
        )
    )
    house = None
    first = len(world.buildings)
    if rng.random() < 0.93:
        level = 0
        if rng.random() < appearance.damaged:
            level = int(rng.choice([1, 2, 3], p=LEVELS))
        house = _house(appearance, streets, rng, a, b, side, width, level)
        world.buildings.append(house)
        plan_parts(house, wind, rng)
        spread = rng.random()
        if spread < 0.34:
            extra = _outbuilding(appearance, streets, rng, a, b, side, width, depth, house, level)
            if extra is not None:
                world.buildings.append(extra)
                plan_parts(extra, wind, rng)
    furnish_lot(
        world,
        streets,
        appearance,
        rng,
        a,
        b,
        side,
        width,
        depth,
        house,
        world.buildings[first:],
        ROAD_HALF,
    )


LEVELS = (0.60, 0.31, 0.09)


def _roofing(rng: np.random.Generator):
    kind = str(rng.choice(["shingles", "tiles", "metal"], p=[0.84, 0.06, 0.10]))
    table = {"shingles": SHINGLE_COLOURS, "tiles": TILE_COLOURS, "metal": METAL_COLOURS}[kind]
    return kind, pick_colour(rng, table)


def _walls(rng: np.random.Generator):
    kind = str(rng.choice(["brick", "siding", "stucco"], p=[0.4, 0.42, 0.18]))
    return kind, pick_colour(rng, WALL_COLOURS[kind])


def _house(appearance, streets, rng, a, b, side, width, level) -> BuildingPlan:
    half_x = min(rng.uniform(6.0, 11.0), width / 2 - 1.4)
    half_y = rng.uniform(4.0, 6.2)
    storeys = 2 if rng.random() < 0.2 else 1
    height = 2.75 * storeys + rng.uniform(-0.1, 0.5)
    roof = str(rng.choice(["gable", "hip", "flat"], p=[0.58, 0.36, 0.06]))
    slope = rng.uniform(0.32, 0.72)
    along = 0 if half_x >= half_y else 1
    half = (half_x, half_y) if along == 0 else (half_y, half_x)
    blocks = [Block(0.0, 0.0, along, half, height, roof, slope, rng.uniform(0.35, 0.65), storeys)]
    if roof != "flat" and rng.random() < 0.62:  # a wing: L or T plan
        wing_half = rng.uniform(2.6, min(4.2, 0.62 * half_x))
        reach = rng.uniform(2.5, 5.0)
        front = rng.random() < 0.6
        x = (
            rng.choice([-1, 1]) * (half_x - wing_half)
            if rng.random() < 0.75
            else rng.uniform(-0.4, 0.4) * half_x
        )
        y0, y1 = (-half_y - reach, 0.5) if front else (-0.5, half_y + reach)
        low = height if rng.random() < 0.7 else max(height - 2.6, 2.6)
        steep = min(slope, blocks[0].rise * 0.97 / wing_half) if low == height else slope
        blocks.append(
            Block(
                float(x),
                (y0 + y1) / 2,
                1,
                ((y1 - y0) / 2, wing_half),
                low,
                "gable" if rng.random() < 0.7 else roof,
                steep,
                0.4,
                1 if low < height else storeys,
            )
        )
        if blocks[-1].half[0] < blocks[-1].half[1]:
            blocks[-1].roof = "gable"
    elif rng.random() < 0.45:  # a lower annex at the end
        ax = rng.uniform(2.2, 3.4)
        sign = rng.choice([-1, 1])
        x = sign * (half_x + ax - 0.3)
        if half_x + 2 * ax < width / 2 - 0.5:
            blocks.append(
                Block(
                    float(x),
                    0.0,
                    0,
                    (ax + 0.3, half_y * 0.8),
                    height * 0.92 if storeys == 1 else 2.7,
                    "gable" if roof == "gable" else "hip",
                    slope * 0.9,
                    0.35,
                    1,
                )
            )
            if blocks[-1].half[0] < blocks[-1].half[1]:
                blocks[-1].along, blocks[-1].half = 1, blocks[-1].half[::-1]
    if (
        roof != "flat" and rng.random() < 0.35
    ):  # a chimney: a narrow block that rises through the roof
        top = height + blocks[0].rise + rng.uniform(0.3, 1.0)
        blocks.append(
            Block(
                float(rng.uniform(-0.6, 0.6) * half_x),
                float(rng.uniform(-0.3, 0.3) * half_y),
                0,
                (rng.uniform(0.4, 0.6), 0.4),
                top,
                "flat",
                0.0,
                0.0,
                1,
            )
        )
    setback = rng.uniform(5.0, 8.5) + half_y + (4.0 if len(blocks) > 1 else 0.0)
    x, y = a + width / 2 + rng.uniform(-1, 1), b + side * (ROAD_HALF + setback)
    angle = streets.direction(x, y) + (0 if side > 0 else np.pi) + rng.normal(0, 0.04)
    roof_kind, roof_colour = _roofing(rng)
    wall_kind, wall_colour = _walls(rng)
    trim = np.full(3, 228.0) if rng.random() < 0.75 else wall_colour * 0.6
    centre = streets.world(np.array([x, y]))
    return BuildingPlan(
        0,
        "house",
        (float(centre[0]), float(centre[1])),
        float(angle),
        blocks,
        level,
        roof_kind,
        roof_colour,
        wall_kind,
        wall_colour,
        trim,
    )


def _outbuilding(
    appearance, streets, rng, a, b, side, width, depth, house, level
) -> BuildingPlan | None:
    garage = rng.random() < 0.55
    half = (
        (rng.uniform(3.2, 4.2), rng.uniform(2.9, 3.6))
        if garage
        else (rng.uniform(1.6, 2.6), rng.uniform(1.3, 1.9))
    )
    x = a + (half[0] + 1.2 if rng.random() < 0.5 else width - half[0] - 1.2)
    y = b + side * (ROAD_HALF + depth - half[1] - rng.uniform(1.5, 5.0))
    centre = streets.world(np.array([x, y]))
    gap = np.hypot(centre[0] - house.centre[0], centre[1] - house.centre[1])
    if gap < house.radius + 0.6 * max(half):
        return None
    hit = rng.random() < (0.6 if level else 0.15)
    own = int(rng.choice([1, 2, 3], p=(0.84, 0.10, 0.06))) if hit else 0
    match = rng.random() < 0.6
    roof_kind, roof_colour = (house.roof_kind, house.roof_colour) if match else _roofing(rng)
    wall_kind, wall_colour = (house.wall_kind, house.wall_colour) if match else _walls(rng)
    block = Block(
        0.0,
        0.0,
        0,
        half,
        rng.uniform(2.3, 2.9),
        "gable" if rng.random() < 0.8 else "hip",
        rng.uniform(0.3, 0.55),
        0.3,
        1,
    )
    angle = streets.direction(x, y) + (0 if side > 0 else np.pi) + rng.normal(0, 0.05)
    return BuildingPlan(
        0,
        "garage" if garage else "shed",
        (float(centre[0]), float(centre[1])),
        float(angle),
        [block],
        own,
        roof_kind,
        roof_colour,
        wall_kind,
        wall_colour,
        np.full(3, 220.0),
    )
