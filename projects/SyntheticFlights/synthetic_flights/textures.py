"""Materials as pictures: each function returns a texture (height, width, 3), float32, BGR, 0..255,
before light.

Textures are painted once per surface and warped into every frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from synthetic_flights.noise import value_noise

__all__ = [
    "add_openings",
    "boards",
    "brick",
    "flat_roof",
    "interior",
    "metal_roof",
    "plywood",
    "scatter_planks",
    "shingles",
    "siding",
    "stucco",
    "tarp",
]

Shape = tuple[int, int]
# Wood foremost, plasterboard and paper, roofing; colours are rare.
PLANK_COLORS = np.array(
    [
        [112, 148, 182],
        [132, 162, 190],
        [92, 122, 152],
        [78, 100, 124],
        [150, 174, 196],
        [104, 130, 150],
        [112, 148, 182],
        [92, 122, 152],
        [196, 202, 206],
        [214, 218, 220],
        [228, 230, 232],
        [160, 170, 178],
        [62, 66, 70],
        [84, 88, 92],
        [50, 54, 58],
        [150, 142, 192],
        [150, 116, 90],
        [84, 90, 142],
    ],
    np.float32,
)


def _fill(shape: Shape, color) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.float32), (*shape, 3)).copy()


def _grain(rng, texture: np.ndarray, amount: float) -> np.ndarray:
    texture += (amount * rng.standard_normal(texture.shape[:2], dtype=np.float32))[..., None]
    return texture


def shingles(rng: np.random.Generator, shape: Shape, color, texels_per_meter: float) -> np.ndarray:
    """Asphalt shingles in rows along x, weathered in streaks down the slope (y)."""
    texture = _fill(shape, color)
    row, tab = max(int(0.16 * texels_per_meter), 2), max(int(0.32 * texels_per_meter), 3)
    cells = rng.standard_normal((shape[0] // row + 1, shape[1] // tab + 2), dtype=np.float32)
    cells = np.repeat(np.repeat(cells, row, 0), tab, 1)
    tone = 5.0 * cells[: shape[0], tab // 2 : tab // 2 + shape[1]]
    tone[::row] -= 7.0
    tone += 5.0 * value_noise(rng, shape, 2.5 * texels_per_meter, 2)
    streaks = value_noise(rng, (max(shape[0] // (4 * row), 2), shape[1]), 0.35 * texels_per_meter)
    tone += 3.0 * cv2.resize(streaks, (shape[1], shape[0]))
    texture += tone[..., None]
    return _grain(rng, texture, 3.0)


def metal_roof(
    rng: np.random.Generator, shape: Shape, color, texels_per_meter: float
) -> np.ndarray:
    """Standing-seam sheets, seams down the slope."""
    texture = _fill(shape, color)
    pitch = max(int(0.45 * texels_per_meter), 4)
    texture[:, ::pitch] *= 0.78
    texture[:, 1::pitch] *= 1.1
    texture += (4.0 * value_noise(rng, shape, 3 * texels_per_meter, 2))[..., None]
    return _grain(rng, texture, 1.5)


def flat_roof(rng: np.random.Generator, shape: Shape, color, texels_per_meter: float) -> np.ndarray:
    """Membrane with seams, puddle stains and roof vents."""
    texture = _fill(shape, color)
    texture[:: max(int(2.0 * texels_per_meter), 4)] *= 0.92
    stain = value_noise(rng, shape, 3 * texels_per_meter, 3)
    texture *= (1 - 0.14 * np.clip(stain, 0, 2))[..., None]
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0.1, 0.9) * shape[1], rng.uniform(0.1, 0.9) * shape[0]
        size = rng.uniform(0.3, 0.9) * texels_per_meter
        cv2.rectangle(
            texture,
            (int(x + 3), int(y + 4)),
            (int(x + size + 5), int(y + size + 6)),
            (60, 60, 62),
            -1,
        )
        cv2.rectangle(
            texture, (int(x), int(y)), (int(x + size), int(y + size)), (190, 192, 195), -1
        )
    return _grain(rng, texture, 2.5)


def brick(rng: np.random.Generator, shape: Shape, color, texels_per_meter: float) -> np.ndarray:
    """Brickwork; single bricks are near a texel, so it is courses and mottle that remain."""
    texture = _fill(shape, color)
    cells = rng.standard_normal((shape[0] // 2 + 1, shape[1] // 4 + 1), dtype=np.float32)
    cells = np.repeat(np.repeat(cells, 2, 0), 4, 1)[: shape[0], : shape[1]]
    texture += (8.0 * cells)[..., None] * np.array([0.7, 0.8, 1.0], np.float32)
    texture[::4] = texture[::4] * 0.8 + 26
    return _grain(rng, texture, 3.0)


def siding(rng: np.random.Generator, shape: Shape, color, texels_per_meter: float) -> np.ndarray:
    """Horizontal boards."""
    texture = _fill(shape, color)
    texture[:: max(int(0.2 * texels_per_meter), 3)] *= 0.84
    texture += (3.0 * value_noise(rng, shape, 2 * texels_per_meter, 2))[..., None]
    return _grain(rng, texture, 1.5)


def stucco(rng: np.random.Generator, shape: Shape, color, texels_per_meter: float) -> np.ndarray:
    """Plain plaster."""
    texture = _fill(shape, color)
    texture += (4.0 * value_noise(rng, shape, 2 * texels_per_meter, 3))[..., None]
    return _grain(rng, texture, 2.0)


def plywood(
    rng: np.random.Generator, shape: Shape, texels_per_meter: float, age: float = 0.0
) -> np.ndarray:
    """Bare roof decking: sheets of 2.4 m × 1.2 m with seams. ``age`` 0 is fresh orange, 1 is
    weathered grey brown.
    """
    fresh, old = np.array([92.0, 158, 228]), np.array([112.0, 142, 172])
    color = fresh * (1 - age) + old * age
    height, width = max(int(1.2 * texels_per_meter), 4), max(int(2.4 * texels_per_meter), 8)
    rows, columns = shape[0] // height + 1, shape[1] // width + 2
    tone = rng.normal(0, 9, (rows, columns, 1)) * np.array([0.9, 1.0, 0.8]) + rng.normal(
        0, 3, (rows, columns, 3)
    )
    texture = np.zeros((rows * height, columns * width, 3), np.float32)
    for r in range(rows):
        band = np.repeat(tone[r].astype(np.float32), width, 0)
        texture[r * height : (r + 1) * height] = np.roll(band, (r % 2) * width // 2, 0)[None]
        seams = (np.arange(columns) * width + (r % 2) * width // 2) % (columns * width)
        texture[r * height : (r + 1) * height, seams] -= 46
        texture[r * height] -= 46
    texture = texture[: shape[0], : shape[1]] + color.astype(np.float32)
    grain = value_noise(rng, (shape[0], max(shape[1] // 8, 2)), 1.5)
    texture += (6.0 * cv2.resize(grain, (shape[1], shape[0])))[..., None]
    texture += (7.0 * value_noise(rng, shape, 1.3 * texels_per_meter, 2))[..., None]
    return _grain(rng, texture, 3.0)


def boards(rng: np.random.Generator, shape: Shape, texels_per_meter: float) -> np.ndarray:
    """Old plank decking: narrow boards with dark gaps, browner than plywood."""
    texture = _fill(shape, np.array([88.0, 128, 172]) * rng.uniform(0.85, 1.1))
    board = max(int(0.2 * texels_per_meter), 3)
    cells = rng.normal(0, 14, (shape[0] // board + 1, shape[1] // (10 * board) + 2)).astype(
        np.float32
    )
    texture += np.repeat(np.repeat(cells, board, 0), 10 * board, 1)[: shape[0], : shape[1], None]
    texture[::board] *= 0.55
    return _grain(rng, texture, 4.0)


def tarp(rng: np.random.Generator, shape: Shape, texels_per_meter: float) -> np.ndarray:
    """Blue plastic sheet: folds that catch the light and battens that hold it."""
    color = np.array([205.0, 120, 38]) * rng.uniform(0.85, 1.12) + rng.normal(0, 8, 3)
    texture = _fill(shape, color)
    folds = np.abs(value_noise(rng, shape, 1.6 * texels_per_meter, 2))
    texture += (30.0 * np.exp(-8 * folds) - 12.0 * np.clip(folds - 0.8, 0, 1))[..., None]
    texture += (6.0 * value_noise(rng, shape, 3 * texels_per_meter))[..., None]
    step = max(int(rng.uniform(1.0, 1.8) * texels_per_meter), 6)
    for x in range(step // 2, shape[1], step):
        cv2.line(texture, (x, 0), (x + int(rng.normal(0, 2)), shape[0]), (150, 180, 200), 1)
    return _grain(rng, texture, 2.0)


def interior(
    rng: np.random.Generator, shape: Shape, texels_per_meter: float, light: float = 1.0
) -> np.ndarray:
    """What an open roof shows: dark rooms, insulation, plasterboard, fallen boards."""
    texture = _fill(shape, (44, 48, 54))
    field = value_noise(rng, shape, 1.4 * texels_per_meter, 2)
    texture[field > 0.5] = (150, 158, 164)  # plasterboard
    texture[field > 1.15] = (158, 150, 196)  # pink insulation
    texture[field < -0.8] = (26, 28, 32)
    planks = 0.35 * shape[0] * shape[1] / texels_per_meter**2
    scatter_planks(
        rng,
        texture,
        int(planks) + 3,
        (0.6 * texels_per_meter, 2.6 * texels_per_meter),
        max(0.09 * texels_per_meter, 1.5),
        shadow=0.5,
    )
    texture *= light
    return _grain(rng, texture, 6.0)


def scatter_planks(
    rng: np.random.Generator,
    texture: np.ndarray,
    count: int,
    lengths: tuple[float, float],
    width: float,
    shadow: float = 0.4,
    colors: np.ndarray = PLANK_COLORS,
) -> None:
    """Strew ``count`` boards over ``texture`` in place; each throws a small shadow. Lengths and
    widths in texels.
    """
    height, breadth = texture.shape[:2]
    centers = rng.uniform(0, 1, (count, 2)) * (breadth, height)
    angles = rng.uniform(0, np.pi, count)
    half = rng.uniform(*lengths, count) / 2
    thick = width * rng.uniform(0.5, 1.6, count) * np.where(rng.random(count) < 0.15, 4.0, 1.0) / 2
    tone = rng.uniform(0.75, 1.1, count)
    picks = colors[rng.integers(len(colors), size=count)] * tone[:, None]
    along = np.stack([np.cos(angles), np.sin(angles)], 1)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    corners = np.stack(
        [
            centers + sa * along * half[:, None] + sb * across * thick[:, None]
            for sa, sb in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ],
        1,
    )
    fixed = np.round(corners * 16).astype(np.int32)
    offset = np.array([max(width * 0.8, 1.0), max(width * 0.9, 1.0)])
    dark = np.round((corners + offset) * 16).astype(np.int32)
    shade = (28 * (1 - shadow),) * 3
    for i in range(count):
        if shadow:
            cv2.fillConvexPoly(texture, dark[i], shade, cv2.LINE_8, 4)
        cv2.fillConvexPoly(
            texture, fixed[i], picks[i].tolist(), cv2.LINE_AA if texture.dtype == np.uint8 else 8, 4
        )


def add_openings(
    rng: np.random.Generator,
    texture: np.ndarray,
    texels_per_meter: float,
    *,
    top: float,
    stories: int,
    boarded: float,
    garage: bool,
) -> None:
    """Paint windows, a door and perhaps a garage door on a wall, in place. ``top`` is the texel
    row of the eave.
    """
    height, width = texture.shape[:2]
    story = (height - top) / stories
    trim = np.array([232.0, 234, 236])
    for level in range(stories):
        y0 = top + story * level
        x = rng.uniform(0.6, 1.8) * texels_per_meter
        if garage and level == stories - 1 and width > 6.5 * texels_per_meter:
            span = (
                4.8 * texels_per_meter if width > 8 * texels_per_meter else 2.7 * texels_per_meter
            )
            box = (
                int(0.7 * texels_per_meter),
                int(y0 + story - 2.2 * texels_per_meter),
                int(0.7 * texels_per_meter + span),
                height,
            )
            cv2.rectangle(texture, box[:2], box[2:], (215, 218, 220), -1)
            for row in range(box[1], height, max(int(0.55 * texels_per_meter), 3)):
                cv2.line(texture, (box[0], row), (box[2], row), (165, 168, 172), 1)
            x = box[2] + texels_per_meter
        while x < width - 1.6 * texels_per_meter:
            w = rng.uniform(0.8, 1.7) * texels_per_meter
            door = level == stories - 1 and rng.random() < 0.18
            h = (2.0 if door else rng.uniform(1.0, 1.4)) * texels_per_meter
            y = y0 + story - h if door else y0 + 0.28 * story
            p, q = (int(x), int(y)), (int(x + w), int(min(y + h, height - 1)))
            cv2.rectangle(texture, (p[0] - 1, p[1] - 1), (q[0] + 1, q[1] + 1), trim.tolist(), -1)
            if rng.random() < boarded:
                color = (100, 160, 214)
            elif door:
                color = tuple(rng.uniform(40, 150, 3))
            else:
                color = (74, 62, 52)
            cv2.rectangle(texture, p, q, color, -1)
            if not door and color[0] == 74:
                cv2.line(
                    texture,
                    ((p[0] + q[0]) // 2, p[1]),
                    ((p[0] + q[0]) // 2, q[1]),
                    trim.tolist(),
                    1,
                )
            x += w + rng.uniform(0.9, 3.4) * texels_per_meter
    # The eave keeps light off the top of the wall, splashed earth darkens its foot.
    fade = np.clip((np.arange(height) - top) / (0.9 * texels_per_meter), 0, 1).astype(np.float32)
    texture *= (0.62 + 0.38 * fade)[:, None, None]
    texture[-max(int(0.25 * texels_per_meter), 1) :] *= 0.82
