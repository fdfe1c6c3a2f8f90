"""Furnishes streets and lots: drives, paths, pools, trees, cars, fences, litter, and the shadows
of all that stands.
"""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.buildings import BuildingPlan, to_world
from synthetic_flights.config import Appearance
from synthetic_flights.litter import strew_litter
from synthetic_flights.lots import Lot
from synthetic_flights.meshes import car, container, fence, pole
from synthetic_flights.rubble import heap
from synthetic_flights.world import GroundFeature, Tree, World

__all__ = ["furnish_lot", "furnish_street", "plant_more_trees", "shadow_of_building"]


def _light(appearance: Appearance):
    from synthetic_flights.painting import lighting

    return lambda normal: lighting(normal, appearance)


def _circle(
    x: float, y: float, rx: float, ry: float, angle: float = 0.0, count: int = 20
) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    p = np.stack([rx * np.cos(t), ry * np.sin(t)], 1)
    c, s = np.cos(angle), np.sin(angle)
    return p @ np.array([[c, s], [-s, c]]) + (x, y)


def furnish_street(
    world: World,
    streets,
    appearance: Appearance,
    rng,
    b: float,
    a0: float,
    a1: float,
    half: float,
    near,
) -> None:
    """Add one street: its surface in pieces, and poles along one side."""
    a = np.arange(a0, a1 + 12, 12.0)
    sand = appearance.road * 0.5 + np.array([64.0, 74, 80])
    bands = [("road", -half, half, appearance.road), ("verge", -half - 1.3, half + 1.3, sand)]
    # Wheels polish two lines on each side.
    bands += [("wear", m - 0.45, m + 0.45, appearance.road * 0.8) for m in (-2.2, -0.8, 0.8, 2.2)]
    for kind, low, high, color in bands:
        left, right = (streets.world(np.stack([a, np.full_like(a, b + d)], 1)) for d in (low, high))
        for i in range(len(a) - 1):
            quad = np.stack([left[i], left[i + 1], right[i + 1], right[i]])
            if near(quad.mean(0)):
                world.ground.append(GroundFeature(kind, quad, color))
    for at in np.arange(a0, a1, 25.0):
        start, width = at + rng.uniform(0, 20), rng.uniform(0.8, 2.6)
        low = b + rng.uniform(-half, half - width)
        corners = [
            (start, low),
            (start + rng.uniform(1, 9), low),
            (start + rng.uniform(1, 9), low + width),
            (start, low + width),
        ]
        tone = appearance.road * rng.choice([0.7, 0.85, 1.12])
        world.ground.append(GroundFeature("patch", streets.world(np.array(corners)), tone))
    side = rng.choice([-1, 1])
    broken = rng.uniform(0.05, 0.4)
    previous = None
    for at in np.arange(a0 + rng.uniform(0, 20), a1, rng.uniform(32, 46)):
        place = streets.world(np.array([at, b + side * (half + 1.6)]))
        if not near(place):
            previous = None
            continue
        lean = rng.normal(0, 1.8, 2) if rng.random() < broken else rng.normal(0, 0.2, 2)
        angle = streets.direction(at, b) + np.pi / 2
        world.meshes.append(pole(place[0], place[1], angle, lean).lit(_light(appearance)))
        _shade(
            world,
            appearance,
            np.array([place - 0.15, place + 0.15, place + np.array([0.15, -0.15])]),
            9.0,
            0.5,
        )
        if rng.random() < 0.1:
            spot = streets.world(
                np.array([at + rng.uniform(5, 25), b + rng.uniform(-0.6, 0.6) * half])
            )
            world.meshes.append(
                car(rng, *spot, streets.direction(at, b) + rng.normal(0, 0.1)).lit(
                    _light(appearance)
                )
            )
            _shade(world, appearance, _circle(*spot, 2.4, 1.1, streets.direction(at, b)), 1.2, 1.0)
        if previous is not None:
            _wires(world, previous, place, angle)
        previous = place


def _wires(world: World, start: np.ndarray, end: np.ndarray, angle: float) -> None:
    """Hang two wires between poles at ``start`` and ``end`` (2,)."""
    t = np.linspace(0, 1, 7)[:, None]
    across = np.array([np.cos(angle), np.sin(angle)])
    for offset in (-1.0, 1.0):
        line = start + (end - start) * t + across * offset
        world.wires.append(np.concatenate([line, 9.0 - 3.2 * t * (1 - t)], 1))


def _shade(
    world: World, appearance: Appearance, base: np.ndarray, height: float, amount: float
) -> None:
    """Add the shadow on the ground of a thing with footprint ``base`` (N, 2) and ``height``."""
    shift = -appearance.sun[:2] / appearance.sun[2] * height
    hull = cv2.convexHull(np.concatenate([base, base + shift]).astype(np.float32))[:, 0]
    world.ground.append(GroundFeature("shade", hull, amount=amount))


def shadow_of_building(plan: BuildingPlan, appearance: Appearance) -> list[np.ndarray]:
    """Return the outlines (N, 2) on the ground of a standing building's shadow, one a block."""
    out = []
    for block in plan.blocks:
        x0, y0, x1, y1 = block.extent
        o = block.overhang
        eave = np.array([[x0 - o, y0 - o], [x1 + o, y0 - o], [x1 + o, y1 + o], [x0 - o, y1 + o]])
        inset = block.half[1] if block.roof == "hip" else 0.0
        reach = block.half[0] + o - inset
        ridge = np.array([[-reach, 0.0], [reach, 0.0]])
        if block.along:
            ridge = ridge[:, ::-1]
        ridge = ridge + np.array([block.x, block.y])
        shift = -appearance.sun[:2] / appearance.sun[2]
        world_eave = to_world(eave, plan.center, plan.angle)
        world_ridge = to_world(ridge, plan.center, plan.angle) + shift * (block.height + block.rise)
        hull = np.concatenate([world_eave, world_eave + shift * block.height, world_ridge])
        out.append(cv2.convexHull(hull.astype(np.float32))[:, 0])
    return out


def furnish_lot(
    world: World, lot: Lot, appearance: Appearance, rng, house: BuildingPlan | None, own
) -> None:
    """Add everything but buildings to one lot; ``own`` are the buildings that stand on it."""
    concrete = np.array([168.0, 172, 176]) * rng.uniform(0.82, 1.08)
    _shade_buildings(world, appearance, own)
    if house is not None:
        _drive(world, lot, appearance, rng, concrete)
        _path(world, lot, rng, concrete)
        _back_yard(world, lot, rng, concrete)
    _plant_trees(world, lot, appearance, rng, own, appearance.trees)
    _grove(world, lot, appearance, rng, own)
    _bushes(world, lot, appearance, rng, own)
    _fallen_tree(world, lot, appearance, rng, own)
    _large_things(world, lot, appearance, rng, own)
    _bare_ground(world, lot, rng)
    if rng.random() < 0.12:
        place = lot.at(rng.uniform(3, lot.width - 3), rng.uniform(4, lot.depth))
        if _is_free(own, place, 2):
            _add_car(world, rng, appearance, place, rng.uniform(0, np.pi))
    strew_litter(world, rng, appearance, lot.at, lot.width, lot.depth, own)


def plant_more_trees(
    world: World, lots: list[tuple[Lot, list[BuildingPlan]]], appearance: Appearance, factor, rng
) -> None:
    """Add trees to lots and the buildings on them until there are about ``factor`` times as many
    as :func:`furnish_lot` plants.
    """
    for lot, own in lots:
        _plant_trees(world, lot, appearance, rng, own, (factor - 1) * appearance.trees)


def _is_free(own: list[BuildingPlan], place: np.ndarray, gap: float) -> bool:
    """Whether a place lies ``gap`` metres or more off the buildings of its lot."""
    return all(np.hypot(*(place - p.center)) > p.radius * 0.82 + gap for p in own)


def _shade_buildings(world: World, appearance: Appearance, own: list[BuildingPlan]) -> None:
    for plan in own:
        if plan.level != 3:
            for hull in shadow_of_building(plan, appearance):
                world.ground.append(GroundFeature("shade", hull))
            rim = to_world(_grow(plan), plan.center, plan.angle)
            world.ground.append(GroundFeature("contact", rim))


def _drive(world: World, lot: Lot, appearance: Appearance, rng, concrete: np.ndarray) -> None:
    """A drive from the road, and perhaps a car on it."""
    right = rng.random() < 0.5
    x = lot.width - rng.uniform(2.4, 4.0) if right else rng.uniform(2.4, 4.0)
    end = rng.uniform(9, 16) if rng.random() < 0.75 else rng.uniform(18, lot.depth - 6)
    wide = rng.uniform(1.4, 2.7)
    kind = "gravel" if rng.random() < 0.25 else "drive"
    tint = concrete if kind == "drive" else np.array([146.0, 158, 166]) * rng.uniform(0.8, 1.1)
    world.ground.append(GroundFeature(kind, lot.rectangle(x - wide, -0.4, x + wide, end), tint))
    if rng.random() < 0.55:
        place = lot.at(x, rng.uniform(3, max(end - 2, 4)))
        angle = lot.street_angle + np.pi / 2 + rng.normal(0, 0.08)
        _add_car(world, rng, appearance, place, angle)


def _path(world: World, lot: Lot, rng, concrete: np.ndarray) -> None:
    """A footpath from the road to the door."""
    if rng.random() < 0.5:
        middle = lot.width / 2 + rng.uniform(-3, 3)
        bend = rng.uniform(-1, 1)
        points = [
            lot.at(middle - 0.5, -0.3),
            lot.at(middle + 0.5, -0.3),
            lot.at(middle + 0.5 + bend, 8.5),
            lot.at(middle - 0.5 + bend, 8.5),
        ]
        world.ground.append(GroundFeature("path", points, concrete * 0.95))


def _back_yard(world: World, lot: Lot, rng, concrete: np.ndarray) -> None:
    """A pool or a patio."""
    back = lot.depth - rng.uniform(4.5, 8.5)
    if rng.random() < 0.22:
        _pool(world, lot, rng, back, concrete)
    elif rng.random() < 0.35:
        x0, w = rng.uniform(3, lot.width - 9), rng.uniform(3, 5.5)
        patio = lot.rectangle(x0, back - 3, x0 + w, back)
        world.ground.append(GroundFeature("patio", patio, concrete))


def _plant_trees(world: World, lot: Lot, appearance: Appearance, rng, own, density: float) -> None:
    """Single trees, ``density`` per 1,000 square metres, thickest at the back."""
    for _ in range(rng.poisson(density * lot.width * lot.depth / 1000)):
        x = rng.uniform(0, lot.width)
        share = rng.uniform(0.05, 1) if rng.random() < 0.4 else rng.uniform(0.62, 1.0)
        place = lot.at(x, lot.depth * share)
        if _is_free(own, place, 1.5):
            _add_tree(world, rng, appearance, place)


def _grove(world: World, lot: Lot, appearance: Appearance, rng, own) -> None:
    """A few trees close together, with bare leaf-strewn ground below."""
    if rng.random() < 0.22:
        middle = lot.at(rng.uniform(0, lot.width), lot.depth * rng.uniform(0.6, 1.0))
        reach = rng.uniform(3, 7)
        ground = _ragged(rng, middle, reach * 1.3)
        soil = np.array([72.0, 96, 108]) * rng.uniform(0.8, 1.15)
        world.ground.append(GroundFeature("mud", ground, soil))
        for _ in range(rng.integers(4, 11)):
            place = middle + rng.normal(0, 0.55 * reach, 2)
            if _is_free(own, place, 1.5):
                _add_tree(world, rng, appearance, place)


def _bushes(world: World, lot: Lot, appearance: Appearance, rng, own) -> None:
    for _ in range(rng.poisson(2.4)):
        place = lot.at(rng.uniform(0, lot.width), rng.uniform(2, lot.depth))
        if _is_free(own, place, 0.4):
            world.trees.append(
                Tree(
                    *place,
                    rng.uniform(0.8, 2.2),
                    "bush",
                    int(rng.integers(4)),
                    bool(rng.integers(2)),
                    rng.uniform(0.8, 1.1),
                )
            )
            _blob_shade(world, appearance, place, 0.8, 0.5)


def _fallen_tree(world: World, lot: Lot, appearance: Appearance, rng, own) -> None:
    """A tree that lies on the ground, its crown in tufts."""
    if rng.random() >= 0.28 * appearance.storm:
        return
    place = lot.at(rng.uniform(0, lot.width), rng.uniform(2, lot.depth))
    angle = rng.uniform(0, 2 * np.pi)
    length = rng.uniform(6, 14)
    tip = place + length * np.array([np.cos(angle), np.sin(angle)])
    if not (_is_free(own, place, 1) and _is_free(own, tip, 1)):
        return
    leaves = 0.2 if rng.random() < appearance.bare else 1.0
    seed = int(rng.integers(2**31))
    world.ground.append(GroundFeature("fallen", [place, tip], amount=leaves, seed=seed, order=5))
    for _ in range(rng.integers(1, 4)):
        spot = place + (tip - place) * rng.uniform(0.5, 1.05) + rng.normal(0, 1, 2)
        world.trees.append(
            Tree(*spot, rng.uniform(1.2, 2.4), "bush", int(rng.integers(4)), False, 0.85)
        )


def _large_things(world: World, lot: Lot, appearance: Appearance, rng, own) -> None:
    """A fence, a container, a heap of boards at the kerb."""
    if rng.random() < 0.35:
        _fence(world, lot, rng, appearance)
    if rng.random() < 0.05:
        place = lot.at(rng.uniform(2, lot.width - 2), rng.uniform(3, 7))
        if _is_free(own, place, 2.5):
            angle = lot.street_angle + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
            world.meshes.append(container(rng, *place, angle).lit(_light(appearance)))
            _shade(world, appearance, _circle(*place, 3.2, 1.5, angle), 2.0, 1.0)
    damage = max((p.level for p in own), default=0)
    if rng.random() < (0.45 if damage else 0.15) * appearance.storm:
        place = lot.at(rng.uniform(2, lot.width - 2), rng.uniform(0.5, 4))
        if _is_free(own, place, 2):
            _heap(world, rng, _light(appearance)(np.array([0.0, 0, 1])), place)


def _bare_ground(world: World, lot: Lot, rng) -> None:
    """Mud and puddles."""
    if rng.random() < 0.15:
        spot = lot.at(rng.uniform(2, lot.width - 2), rng.uniform(4, lot.depth - 2))
        shape = _ragged(rng, spot, rng.uniform(2, 6))
        world.ground.append(
            GroundFeature("mud", shape, np.array([96.0, 126, 152]) * rng.uniform(0.75, 1.2))
        )
    for _ in range(rng.poisson(0.35)):
        spot = lot.at(rng.uniform(2, lot.width - 2), rng.uniform(1, lot.depth - 2))
        shape = _ragged(rng, spot, rng.uniform(0.8, 3))
        world.ground.append(
            GroundFeature("puddle", shape, np.array([150.0, 152, 150]) * rng.uniform(0.75, 1.1))
        )


def _grow(plan: BuildingPlan) -> np.ndarray:
    points = np.concatenate(
        [
            [
                (b.extent[0], b.extent[1]),
                (b.extent[2], b.extent[1]),
                (b.extent[2], b.extent[3]),
                (b.extent[0], b.extent[3]),
            ]
            for b in plan.blocks[:1]
        ]
    )
    return points * 1.04


def _add_car(world: World, rng, appearance: Appearance, place: np.ndarray, angle: float) -> None:
    world.meshes.append(car(rng, *place, angle).lit(_light(appearance)))
    _shade(world, appearance, _circle(*place, 2.5, 1.1, angle, 12), 1.1, 1.1)
    world.ground.append(GroundFeature("contact", _circle(*place, 2.5, 1.1, angle, 12)))


def _pool(world: World, lot: Lot, rng, back: float, concrete: np.ndarray) -> None:
    x = rng.uniform(4, max(lot.width - 9, 5))
    w, h = rng.uniform(4, 7), rng.uniform(3, 4.6)
    water = (
        np.array([172.0, 164, 66]) * rng.uniform(0.75, 1.15)
        if rng.random() < 0.75
        else np.array([96.0, 110, 58])
    )
    if rng.random() < 0.7:
        deck = lot.rectangle(x - 1.6, back - h - 1.5, x + w + 1.6, back + 1.5)
        world.ground.append(GroundFeature("patio", deck, concrete * 0.95))
        basin = lot.rectangle(x, back - h, x + w, back)
    else:
        center = lot.at(x + w / 2, back - h / 2)
        basin = _circle(*center, h / 2, h / 2)
    world.ground.append(GroundFeature("pool", basin, water))


def _add_tree(world, rng, appearance, place) -> None:
    roll = rng.random()
    if roll < appearance.bare:
        kind = "broken" if rng.random() < 0.45 else "bare"
    else:
        kind = "pine" if rng.random() < 0.18 else "leafy"
    height = {
        "leafy": rng.uniform(4.5, 10.5),
        "bare": rng.uniform(6, 12.5),
        "broken": rng.uniform(5, 11),
        "pine": rng.uniform(9, 16),
    }[kind]
    count = {"leafy": 6, "bare": 5, "broken": 4, "pine": 3}[kind]
    world.trees.append(
        Tree(
            *place,
            float(height),
            kind,
            int(rng.integers(count)),
            bool(rng.integers(2)),
            rng.uniform(0.82, 1.15),
            float(rng.normal(0, 0.05 if kind != "broken" else 0.16)),
        )
    )
    strength = {"leafy": 1.0, "bare": 0.35, "broken": 0.25, "pine": 0.6}[kind]
    crown = height * (0.42 if kind == "leafy" else 0.3)
    center = place - appearance.sun[:2] / appearance.sun[2] * height * 0.55
    world.ground.append(GroundFeature("shade", _ragged(rng, center, crown), amount=strength))
    _blob_shade(world, appearance, place, crown * 0.7, 0.5 * strength)


def _ragged(rng, center: np.ndarray, radius: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    r = radius * rng.uniform(0.7, 1.15, 18)
    return np.stack([r * np.cos(t), r * np.sin(t)], 1) + center


def _blob_shade(world, appearance, place, radius, amount) -> None:
    world.ground.append(GroundFeature("shade", _circle(*place, radius, radius), amount=amount))


def _fence(world: World, lot: Lot, rng, appearance: Appearance) -> None:
    light = _light(appearance)
    runs = [
        ((0.2, lot.depth * 0.5), (0.2, lot.depth)),
        ((0.2, lot.depth), (lot.width - 0.2, lot.depth)),
    ]
    for p, q in runs:
        start, end = lot.at(*p), lot.at(*q)
        away = appearance.sun[:2] * 1.2
        shadow = np.array([start, end, end - away, start - away])
        world.ground.append(GroundFeature("shade", shadow, amount=0.6))
        pieces = max(int(np.linalg.norm(end - start) / 7.2), 1)
        for i in range(pieces):
            mesh = fence(
                rng, start + (end - start) * i / pieces, start + (end - start) * (i + 1) / pieces
            )
            world.meshes.append(mesh.lit(lambda n: light(np.array([n[0], n[1], abs(n[2])]))))


def _heap(world: World, rng, light: np.ndarray, place: np.ndarray) -> None:
    radius = rng.uniform(0.9, 2.4)
    world.ground.append(
        GroundFeature(
            "rubble", _ragged(rng, place, radius * 1.1), seed=int(rng.integers(2**31)), order=6
        )
    )
    world.meshes.append(heap(rng, *place, radius, light))
