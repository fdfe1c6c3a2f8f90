"""The plans of houses, garages and sheds: size, shape and materials by lot."""

from __future__ import annotations

import numpy as np

from synthetic_flights.buildings import Block, BuildingPlan
from synthetic_flights.lots import ROAD_HALF, Lot

__all__ = ["plan_house", "plan_outbuilding"]

# Colours of roofs (BGR) and how often: dark asphalt foremost, browns, greys, a few light, red,
# green ones.
SHINGLE_COLORS = [
    ((88, 84, 82), 5), ((72, 70, 70), 5), ((108, 104, 102), 4), ((88, 98, 112), 4),
    ((84, 108, 134), 3), ((122, 138, 152), 2), ((140, 140, 142), 2),
    ((96, 104, 98), 1), ((88, 96, 140), 1), ((166, 168, 170), 1),
]  # fmt: skip
TILE_COLORS = [((86, 122, 182), 3), ((84, 110, 160), 3), ((104, 150, 204), 2)]
METAL_COLORS = [
    ((186, 188, 190), 4),
    ((170, 118, 62), 2),
    ((104, 118, 84), 1),
    ((84, 84, 150), 1),
    ((120, 124, 128), 2),
]
WALL_COLORS = {
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


def pick_color(rng: np.random.Generator, table) -> np.ndarray:
    """Draw a colour from a table of (BGR, weight), with some variation."""
    weights = np.array([w for _, w in table], float)
    color = np.array(table[rng.choice(len(table), p=weights / weights.sum())][0], float)
    return np.clip(color * rng.uniform(0.9, 1.1) + rng.normal(0, 3, 3), 20, 240)


def _roofing(rng: np.random.Generator):
    kind = str(rng.choice(["shingles", "tiles", "metal"], p=[0.84, 0.06, 0.10]))
    table = {"shingles": SHINGLE_COLORS, "tiles": TILE_COLORS, "metal": METAL_COLORS}[kind]
    return kind, pick_color(rng, table)


def _walls(rng: np.random.Generator):
    kind = str(rng.choice(["brick", "siding", "stucco"], p=[0.4, 0.42, 0.18]))
    return kind, pick_color(rng, WALL_COLORS[kind])


def plan_house(lot: Lot, rng: np.random.Generator, level: int) -> BuildingPlan:
    """Draw the house of a lot; ``level`` is its damage, 0 to 3."""
    half_x = min(rng.uniform(6.0, 11.0), lot.width / 2 - 1.4)
    half_y = rng.uniform(4.0, 6.2)
    stories = 2 if rng.random() < 0.2 else 1
    height = 2.75 * stories + rng.uniform(-0.1, 0.5)
    roof = str(rng.choice(["gable", "hip", "flat"], p=[0.58, 0.36, 0.06]))
    slope = rng.uniform(0.32, 0.72)
    along = 0 if half_x >= half_y else 1
    half = (half_x, half_y) if along == 0 else (half_y, half_x)
    main = Block(0.0, 0.0, along, half, height, roof, slope, rng.uniform(0.35, 0.65), stories)
    blocks = [main]
    if roof != "flat" and rng.random() < 0.62:
        blocks.append(_wing(rng, main, half_x, half_y))
    elif rng.random() < 0.45:
        annex = _annex(rng, main, half_x, half_y, lot.width)
        if annex is not None:
            blocks.append(annex)
    if roof != "flat" and rng.random() < 0.35:
        blocks.append(_chimney(rng, main, half_x, half_y))
    setback = rng.uniform(5.0, 8.5) + half_y + (4.0 if len(blocks) > 1 else 0.0)
    x = lot.a + lot.width / 2 + rng.uniform(-1, 1)
    y = lot.b + lot.side * (ROAD_HALF + setback)
    angle = lot.streets.direction(x, y) + (0 if lot.side > 0 else np.pi) + rng.normal(0, 0.04)
    roof_kind, roof_color = _roofing(rng)
    wall_kind, wall_color = _walls(rng)
    trim = np.full(3, 228.0) if rng.random() < 0.75 else wall_color * 0.6
    center = lot.streets.world(np.array([x, y]))
    return BuildingPlan(
        0,
        "house",
        (float(center[0]), float(center[1])),
        float(angle),
        blocks,
        level,
        roof_kind,
        roof_color,
        wall_kind,
        wall_color,
        trim,
    )


def _wing(rng: np.random.Generator, main: Block, half_x: float, half_y: float) -> Block:
    """A wing across the main block, which makes an L or a T of the plan."""
    wing_half = rng.uniform(2.6, min(4.2, 0.62 * half_x))
    reach = rng.uniform(2.5, 5.0)
    front = rng.random() < 0.6
    x = (
        rng.choice([-1, 1]) * (half_x - wing_half)
        if rng.random() < 0.75
        else rng.uniform(-0.4, 0.4) * half_x
    )
    y0, y1 = (-half_y - reach, 0.5) if front else (-0.5, half_y + reach)
    low = main.height if rng.random() < 0.7 else max(main.height - 2.6, 2.6)
    lower = low < main.height
    slope = main.slope if lower else min(main.slope, main.rise * 0.97 / wing_half)
    wing = Block(
        float(x),
        (y0 + y1) / 2,
        1,
        ((y1 - y0) / 2, wing_half),
        low,
        "gable" if rng.random() < 0.7 else main.roof,
        slope,
        0.4,
        1 if lower else main.stories,
    )
    if wing.half[0] < wing.half[1]:
        wing.roof = "gable"
    return wing


def _annex(
    rng: np.random.Generator, main: Block, half_x: float, half_y: float, lot_width: float
) -> Block | None:
    """A lower annex at an end of the main block; None if the lot is too narrow."""
    ax = rng.uniform(2.2, 3.4)
    sign = rng.choice([-1, 1])
    x = sign * (half_x + ax - 0.3)
    if half_x + 2 * ax >= lot_width / 2 - 0.5:
        return None
    annex = Block(
        float(x),
        0.0,
        0,
        (ax + 0.3, half_y * 0.8),
        main.height * 0.92 if main.stories == 1 else 2.7,
        "gable" if main.roof == "gable" else "hip",
        main.slope * 0.9,
        0.35,
        1,
    )
    if annex.half[0] < annex.half[1]:
        annex.along, annex.half = 1, annex.half[::-1]
    return annex


def _chimney(rng: np.random.Generator, main: Block, half_x: float, half_y: float) -> Block:
    """A narrow block that rises through the roof."""
    top = main.height + main.rise + rng.uniform(0.3, 1.0)
    return Block(
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


def plan_outbuilding(
    lot: Lot, rng: np.random.Generator, house: BuildingPlan, level: int
) -> BuildingPlan | None:
    """Draw a garage or shed behind ``house``, whose damage is ``level``; None: no room for one."""
    garage = rng.random() < 0.55
    half = (
        (rng.uniform(3.2, 4.2), rng.uniform(2.9, 3.6))
        if garage
        else (rng.uniform(1.6, 2.6), rng.uniform(1.3, 1.9))
    )
    x = lot.a + (half[0] + 1.2 if rng.random() < 0.5 else lot.width - half[0] - 1.2)
    y = lot.b + lot.side * (ROAD_HALF + lot.depth - half[1] - rng.uniform(1.5, 5.0))
    center = lot.streets.world(np.array([x, y]))
    gap = np.hypot(center[0] - house.center[0], center[1] - house.center[1])
    if gap < house.radius + 0.6 * max(half):
        return None
    hit = rng.random() < (0.6 if level else 0.15)
    own = int(rng.choice([1, 2, 3], p=(0.84, 0.10, 0.06))) if hit else 0
    match = rng.random() < 0.6
    roof_kind, roof_color = (house.roof_kind, house.roof_color) if match else _roofing(rng)
    wall_kind, wall_color = (house.wall_kind, house.wall_color) if match else _walls(rng)
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
    angle = lot.streets.direction(x, y) + (0 if lot.side > 0 else np.pi) + rng.normal(0, 0.05)
    return BuildingPlan(
        0,
        "garage" if garage else "shed",
        (float(center[0]), float(center[1])),
        float(angle),
        [block],
        own,
        roof_kind,
        roof_color,
        wall_kind,
        wall_color,
        np.full(3, 220.0),
    )
