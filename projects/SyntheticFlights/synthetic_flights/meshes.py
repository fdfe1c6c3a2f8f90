"""Small things made of flat-coloured polygons: cars, containers, fences, poles, boards of a rubble
heap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic_flights.materials import Material

__all__ = ["Mesh", "box", "car", "container", "fence", "planks", "pole"]


@dataclass
class Mesh:
    """Quadrilaterals (N, 4, 3) in world metres with BGR colours (N, 3), drawn far to near.

    ``part_index`` is 0, or the number of the damaged part that the mesh belongs to; ``material``
    one of :class:`.materials.Material`.
    """

    quads: np.ndarray
    colors: np.ndarray
    part_index: int = 0
    material: int = Material.UNKNOWN

    def __post_init__(self):
        self.center = self.quads.reshape(-1, 3).mean(0)
        self.radius = float(np.linalg.norm(self.quads.reshape(-1, 3) - self.center, axis=1).max())

    def lit(self, light) -> Mesh:
        """Return the mesh with its colours multiplied by ``light(normal)``."""
        q = self.quads
        normal = np.cross(q[:, 1] - q[:, 0], q[:, 3] - q[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        factor = np.stack([light(n) for n in normal])
        return Mesh(q, np.clip(self.colors * factor, 0, 255), self.part_index, self.material)


def _place(local: np.ndarray, x: float, y: float, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    out = local.copy()
    out[..., 0] = c * local[..., 0] - s * local[..., 1] + x
    out[..., 1] = s * local[..., 0] + c * local[..., 1] + y
    return out


def box(x0, y0, z0, x1, y1, z1, shrink: float = 0.0) -> np.ndarray:
    """Return five outward quads (5, 4, 3) of a box without its bottom; the top is smaller by
    ``shrink`` on each side.
    """
    b = np.array([[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]], np.float64)
    s = shrink
    t = np.array(
        [[x0 + s, y0 + s, z1], [x1 - s, y0 + s, z1], [x1 - s, y1 - s, z1], [x0 + s, y1 - s, z1]],
        np.float64,
    )
    sides = [np.stack([b[i], b[(i + 1) % 4], t[(i + 1) % 4], t[i]]) for i in range(4)]
    return np.stack([*sides, t])


def car(rng: np.random.Generator, x: float, y: float, angle: float) -> Mesh:
    """A car, or a pick-up one time in three."""
    palette = np.array(
        [
            [235, 235, 236],
            [40, 40, 42],
            [150, 150, 152],
            [195, 197, 200],
            [60, 45, 150],
            [120, 70, 40],
            [70, 80, 60],
        ]
    )
    paint = palette[rng.integers(len(palette))].astype(float)
    glass = np.array([58.0, 50, 44])
    length, width = rng.uniform(4.3, 5.4), rng.uniform(1.75, 2.0)
    a, b = length / 2, width / 2
    wheels = box(-a, -b, 0.0, a, b, 0.35)
    body = box(-a, -b, 0.3, a, b, 0.85, 0.05)
    pickup = rng.random() < 0.33
    x0, x1 = (-0.1 * a, 0.5 * a) if pickup else (-0.75 * a, 0.45 * a)
    cabin = box(x0, -b + 0.08, 0.8, x1, b - 0.08, 1.45, 0.28)
    quads = np.concatenate([wheels, body, cabin])
    colors = np.concatenate(
        [np.full((5, 3), 30.0), np.tile(paint, (5, 1)), np.tile(glass, (4, 1)), paint[None]]
    )
    if pickup:
        bed = box(-0.95 * a, -b + 0.12, 0.8, -0.15 * a, b - 0.12, 0.87)[4:]
        quads, colors = (
            np.concatenate([quads, bed]),
            np.concatenate([colors, np.full((1, 3), 45.0)]),
        )
    return Mesh(_place(quads, x, y, angle), colors, material=Material.VEHICLE)


def container(rng: np.random.Generator, x: float, y: float, angle: float) -> Mesh:
    """A shipping container, or an open skip."""
    palette = np.array(
        [
            [60, 60, 165],
            [150, 90, 40],
            [90, 120, 60],
            [70, 110, 190],
            [175, 178, 180],
            [60, 130, 60],
        ]
    )
    paint = palette[rng.integers(len(palette))].astype(float)
    if rng.random() < 0.5:
        quads = box(-3.0, -1.2, 0, 3.0, 1.2, 2.5)
        colors = np.tile(paint, (5, 1))
        ribs = np.concatenate(
            [box(i, -1.22, 0.1, i + 0.12, 1.22, 2.52)[[0, 2, 4]] for i in np.arange(-2.7, 2.9, 0.6)]
        )
        quads, colors = (
            np.concatenate([quads, ribs]),
            np.concatenate([colors, np.tile(paint * 0.82, (len(ribs), 1))]),
        )
    else:
        quads = box(-3.0, -1.2, 0, 3.0, 1.2, 1.5)
        colors = np.tile(paint, (5, 1))
        colors[4] = 55
        filling = planks(rng, np.zeros(2), (2.6, 1.0), 30, 1.3, spread=0.9)
        quads, colors = (
            np.concatenate([quads, filling.quads]),
            np.concatenate([colors, filling.colors]),
        )
    return Mesh(_place(quads, x, y, angle), colors, material=Material.CONTAINER)


def pole(x: float, y: float, angle: float, lean: np.ndarray, height: float = 9.5) -> Mesh:
    """A wooden power pole with a cross-arm; ``lean`` (2,) is how far its top stands off its
    foot.
    """
    shaft = box(-0.15, -0.15, 0, 0.15, 0.15, height, 0.04)
    arm = box(-1.2, -0.08, height - 0.8, 1.2, 0.08, height - 0.62)
    quads = _place(np.concatenate([shaft, arm]), 0, 0, angle)
    quads[..., :2] += quads[..., 2:] / height * lean + (x, y)
    colors = np.tile(np.array([62.0, 72, 82]), (len(quads), 1))
    colors[5:] += 25
    return Mesh(quads, colors, material=Material.POLE)


def fence(rng: np.random.Generator, start: np.ndarray, end: np.ndarray) -> Mesh:
    """A board fence with panels missing or fallen over."""
    length = float(np.linalg.norm(end - start))
    count = max(int(length / 2.4), 1)
    along = (end - start) / max(length, 1e-9)
    across = np.array([-along[1], along[0]])
    tone = np.array([92.0, 112, 132]) * rng.uniform(0.75, 1.15)
    quads, colors = [], []
    for i in range(count):
        fate = rng.random()
        if fate < 0.12:
            continue
        p, q = start + along * (i * 2.4), start + along * min((i + 1) * 2.4, length)
        flop = across * rng.uniform(-1.6, 1.6) if fate < 0.26 else across * rng.normal(0, 0.05)
        z = 0.15 if fate < 0.26 else 1.75
        quads.append([[*p, 0], [*q, 0], [*(q + flop), z], [*(p + flop), z]])
        colors.append(tone * rng.uniform(0.88, 1.1))
    if not quads:
        quads, colors = [[[*start, 0]] * 4], [tone]
    return Mesh(np.array(quads, np.float64), np.array(colors), material=Material.FENCE)


def planks(
    rng: np.random.Generator,
    center: np.ndarray,
    half: tuple[float, float],
    count: int,
    height: float,
    *,
    spread: float = 1.0,
    colors: np.ndarray | None = None,
    part_index: int = 0,
) -> Mesh:
    """Boards and sheets strewn over a heap that is ``height`` high in its middle; half sides
    ``half`` metres.
    """
    from synthetic_flights.textures import PLANK_COLORS

    palette = PLANK_COLORS if colors is None else colors
    place = np.clip(rng.normal(0, 0.5, (count, 2)), -1.25, 1.25) * spread
    x, y = place[:, 0] * half[0], place[:, 1] * half[1]
    z = height * np.clip(1 - (place**2).sum(1), 0, 1) * rng.uniform(0.3, 1.1, count) + 0.05
    sheet = rng.random(count) < 0.22
    longest = min(0.7 * max(half), 4.2)
    length = (
        np.where(
            sheet,
            rng.uniform(0.4, 0.6 * longest + 0.3, count),
            rng.uniform(0.5, longest + 0.4, count),
        )
        / 2
    )
    width = (
        np.where(
            sheet,
            rng.uniform(0.3, min(1.4, 0.4 * longest + 0.2), count),
            rng.uniform(0.08, 0.24, count),
        )
        / 2
    )
    turn, tilt, bank = (
        rng.uniform(0, 2 * np.pi, count),
        rng.normal(0, 0.3, count),
        rng.normal(0, 0.35, count),
    )
    along = np.stack([np.cos(turn) * np.cos(tilt), np.sin(turn) * np.cos(tilt), np.sin(tilt)], 1)
    across = np.stack([-np.sin(turn) * np.cos(bank), np.cos(turn) * np.cos(bank), np.sin(bank)], 1)
    middle = np.stack([x + center[0], y + center[1], z], 1)
    a, b = along * length[:, None], across * width[:, None]
    quads = np.stack([middle - a - b, middle + a - b, middle + a + b, middle - a + b], 1)
    quads[..., 2] = np.maximum(quads[..., 2], 0.03)
    tone = palette[rng.integers(len(palette), size=count)] * rng.uniform(0.7, 1.08, (count, 1))
    return Mesh(quads, np.clip(tone, 0, 255), part_index)
