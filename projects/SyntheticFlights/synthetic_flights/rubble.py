"""Buildings that collapsed: heaps of texture in layers, slabs of roof, stumps of walls, and boards
on top.
"""

from __future__ import annotations

import numpy as np

from synthetic_flights import textures as tx
from synthetic_flights.buildings import BuildingPlan, Face, to_world
from synthetic_flights.config import Appearance
from synthetic_flights.materials import Material
from synthetic_flights.meshes import Mesh, planks
from synthetic_flights.noise import blob_field
from synthetic_flights.rubble_texture import rubble

__all__ = ["heap", "rubble_building"]


def _layer(
    rng, plan, center, half, z, part_index, texture, margin, roughness, tilt=(0.0, 0.0)
) -> Face:
    """Return one irregular sheet of rubble, parallel to the building's sides; ``tilt`` is rise per
    metre.
    """
    from synthetic_flights.painting import finish_face

    c, s = np.cos(plan.angle), np.sin(plan.angle)
    u = np.array([c, s, tilt[0]])
    v = np.array([s, -c, tilt[1]])
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    size = 2 * np.asarray(half)
    middle = np.array([*to_world(np.array([center]), plan.center, plan.angle)[0], z])
    origin = middle - u * half[0] - v * half[1]
    polygon = np.array([(0, 0), (size[0], 0), tuple(size), (0, size[1])], np.float64)
    face = Face("rubble", origin, u, v, polygon)
    shape = texture.shape[:2]
    radii = (shape[1] / 2 - margin, shape[0] / 2 - margin)
    field = blob_field(rng, shape, (shape[1] / 2, shape[0] / 2), radii, roughness, 3)
    face.solid = np.where(field > 0, 255, 0).astype(np.uint8)
    face.part_ids = np.where(field > 0, part_index, 0).astype(np.uint16)
    # Darker towards the rim, where the heap runs out into the grass.
    face_light = np.clip(0.72 + 0.5 * field, 0.72, 1.0)[..., None]
    finish_face(face, texture * face_light)
    return face


def rubble_building(
    plan: BuildingPlan, appearance: Appearance, texels_per_meter: float, rng
) -> tuple[list[Face], list[Mesh]]:
    """Return the faces and meshes of a building of level Debris; all of them carry its part's
    number.
    """
    from synthetic_flights.painting import lighting

    part = plan.parts[0]
    light = lighting(np.array([0.0, 0, 1]), appearance)
    (cx, cy), (hx, hy) = part.center, part.radii
    faces = []
    accents = np.stack([plan.roof_color, plan.wall_color, plan.trim])
    for z, grow in ((0.12, 1.5), (0.7, -0.4), (1.3, -0.3 * min(hx, hy))):
        half = (hx + grow, hy + grow)
        if min(half) < 1.2:
            continue
        shape = (int(2 * half[1] * texels_per_meter), int(2 * half[0] * texels_per_meter))
        texture = (
            rubble(rng, shape, texels_per_meter, accents)
            * light.astype(np.float32)
            * (0.86 + 0.1 * z)
        )
        center = (cx + rng.normal(0, 0.3), cy + rng.normal(0, 0.3))
        faces.append(
            _layer(
                rng, plan, center, half, z, part.part_index, texture, 1.2 * texels_per_meter, 0.3
            )
        )
    for _ in range(rng.integers(1, 4)):  # slabs of roof
        half = (rng.uniform(1.5, 0.45 * hx + 1.6), rng.uniform(1.2, 0.4 * hy + 1.3))
        shape = (int(2 * half[1] * texels_per_meter), int(2 * half[0] * texels_per_meter))
        if rng.random() < 0.6:
            texture = tx.shingles(rng, shape, plan.roof_color, texels_per_meter)
        else:
            texture = tx.plywood(rng, shape, texels_per_meter, rng.uniform(0, 0.8))
        place = (cx + rng.uniform(-0.6, 0.6) * hx, cy + rng.uniform(-0.6, 0.6) * hy)
        tilt = rng.normal(0, 0.22, 2)
        texture = texture * light.astype(np.float32) * rng.uniform(0.8, 1.05)
        faces.append(
            _layer(
                rng,
                plan,
                place,
                half,
                1.2,
                part.part_index,
                texture,
                0.2 * texels_per_meter,
                0.25,
                tuple(tilt),
            )
        )
    meshes = []
    center = to_world(np.array([[cx, cy]]), plan.center, plan.angle)[0]
    palette = np.concatenate([tx.PLANK_COLORS[:12], tx.PLANK_COLORS[:8], accents])
    count = int(np.clip(1.1 * hx * hy, 30, 200))
    local = planks(
        rng,
        np.zeros(2),
        (1.05 * hx, 1.05 * hy),
        count,
        1.9,
        colors=palette * light,
        part_index=part.part_index,
    )
    c, s = np.cos(plan.angle), np.sin(plan.angle)
    quads = local.quads.copy()
    quads[..., :2] = local.quads[..., :2] @ np.array([[c, s], [-s, c]]) + center
    meshes.append(Mesh(quads, local.colors, part.part_index, Material.RUBBLE))
    if rng.random() < 0.7:
        meshes.append(_stumps(rng, plan, part, lighting, appearance))
    part.outlines = [_ground_outline(plan, cx, cy, hx + 1.0, hy + 1.0)]
    return faces, meshes


def _stumps(rng, plan: BuildingPlan, part, lighting, appearance) -> Mesh:
    """Return what is left of the walls: jagged stretches of 0.4 to 2.2 m."""
    (cx, cy), (hx, hy) = part.center, part.radii
    corners = np.array([[-hx, -hy], [hx, -hy], [hx, hy], [-hx, hy]]) + np.array([cx, cy])
    quads, colors = [], []
    for i in range(4):
        p, q = corners[i], corners[(i + 1) % 4]
        t = rng.uniform(0, 0.5)
        end = t + rng.uniform(0.15, 0.5)
        high = rng.uniform(0.4, 2.2)
        while t < min(end, 1.0):
            step = rng.uniform(0.04, 0.1)
            a, b = p + (q - p) * t, p + (q - p) * min(t + step, 1)
            next_high = float(np.clip(high + rng.normal(0, 0.5), 0.2, 2.4))
            quads.append([[*a, 0], [*b, 0], [*b, next_high], [*a, high]])
            colors.append(plan.wall_color * rng.uniform(0.75, 1.0))
            high, t = next_high, t + step
    quads = np.array(quads, np.float64)
    quads[..., :2] = to_world(quads[..., :2].reshape(-1, 2), plan.center, plan.angle).reshape(
        -1, 4, 2
    )
    return Mesh(quads, np.array(colors), part.part_index, Material.RUBBLE).lit(
        lambda n: lighting(n if n[2] >= 0 else -n, appearance)
    )


def _ground_outline(plan: BuildingPlan, cx, cy, hx, hy) -> np.ndarray:
    corners = np.array([[-hx, -hy], [hx, -hy], [hx, hy], [-hx, hy]]) + np.array([cx, cy])
    return np.concatenate([to_world(corners, plan.center, plan.angle), np.zeros((4, 1))], 1)


def heap(rng, x: float, y: float, radius: float, light: np.ndarray) -> Mesh:
    """Return a heap of boards at the kerb, which is no building."""
    mesh = planks(
        rng, np.array([x, y]), (radius, radius * rng.uniform(0.5, 0.9)), int(26 * radius), 0.9
    )
    return Mesh(mesh.quads, np.clip(mesh.colors * light, 0, 255), material=Material.HEAP)
