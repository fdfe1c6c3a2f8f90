"""Trees: sprites seen from about 45 degrees above, and fallen trees painted on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["Sprite", "draw_fallen_tree", "sprite_library"]

SIDE = 288  # texels, the largest side of a sprite


@dataclass
class Sprite:
    """A tree as a picture that stands on its foot.

    Attributes:
        colour: (h, w, 3) uint8, premultiplied by the coverage.
        clear: (h, w) uint8, 255 where one sees through it: what remains of the background.
        covers: (h, w) uint8, 255 where it hides damage from a person who outlines it; lone twigs
            do not.
        foot: (x, y) texel of the trunk's foot.
        texels: texels per unit of the tree's height, from the foot to the top.
        smaller: the same at half the size, or None.
    """

    color: np.ndarray
    clear: np.ndarray
    covers: np.ndarray
    foot: tuple[float, float]
    texels: float
    smaller: Sprite | None = None

    def above(self, share: float) -> Sprite:
        """Return the sprite, at this size alone, without the lower ``share`` of its height."""
        rows = max(0, round(self.foot[1] - share * self.texels))
        color, clear, covers = self.color[:rows], self.clear[:rows], self.covers[:rows]
        return Sprite(color, clear, covers, self.foot, self.texels)


def _finish(bgr: np.ndarray, alpha: np.ndarray, foot, texels: float, levels: int = 3) -> Sprite:
    alpha = np.clip(alpha, 0, 1)
    color = np.clip(bgr * alpha[..., None], 0, 255).astype(np.uint8)
    clear = (255 - alpha * 255).astype(np.uint8)
    # A frame of nothing around the sprite, so that a warp with constant border fades out.
    covers = ((cv2.blur(alpha, (13, 13)) > 0.5) * 255).astype(np.uint8)
    sprite = Sprite(color, clear, covers, foot, texels)
    if levels > 1:
        half = (bgr.shape[1] // 2, bgr.shape[0] // 2)
        small = Sprite(
            cv2.resize(color, half, interpolation=cv2.INTER_AREA),
            cv2.resize(clear, half, interpolation=cv2.INTER_AREA),
            cv2.resize(covers, half, interpolation=cv2.INTER_NEAREST),
            (foot[0] / 2, foot[1] / 2),
            texels / 2,
        )
        if levels > 2:
            quarter = (half[0] // 2, half[1] // 2)
            small.smaller = Sprite(
                cv2.resize(small.color, quarter, interpolation=cv2.INTER_AREA),
                cv2.resize(small.clear, quarter, interpolation=cv2.INTER_AREA),
                cv2.resize(small.covers, quarter, interpolation=cv2.INTER_NEAREST),
                (foot[0] / 4, foot[1] / 4),
                texels / 4,
            )
        sprite.smaller = small
    return sprite


def leafy(rng: np.random.Generator, sunny: float) -> Sprite:
    """A broad-leaved tree: hundreds of clumps of leaves, lighter the higher they are."""
    size = SIDE
    bgr, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    green = np.array([rng.uniform(30, 62), rng.uniform(72, 112), rng.uniform(48, 92)])
    foot = (size / 2, size * 0.93)
    cv2.line(bgr, (size // 2, size // 2), (size // 2, int(foot[1])), (52, 66, 78), 9)
    cv2.line(alpha, (size // 2, size // 2), (size // 2, int(foot[1])), 1.0, 9)
    lobes = rng.normal(0, 0.36, (rng.integers(5, 11), 3))
    lobes[:, 2] = np.abs(lobes[:, 2]) * 0.8
    radii = rng.uniform(0.28, 0.5, len(lobes))
    count = 1700
    pick = rng.integers(len(lobes), size=count)
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = lobes[pick] + direction * radii[pick, None] * rng.uniform(0.75, 1.05, (count, 1))
    points /= np.abs(points[:, :2]).max() * 1.06
    # Seen at 45 degrees: a place's height and its distance both move it up the picture.
    screen_x = size * (0.5 + 0.46 * points[:, 0])
    screen_y = size * (0.52 - 0.34 * points[:, 2] - 0.3 * points[:, 1])
    depth = points[:, 1] - points[:, 2]
    top = 0.5 * direction[:, 2] + 0.25 * points[:, 2] + 0.3 * sunny * direction[:, 0]
    lift = rng.standard_normal(len(lobes))
    for i in np.argsort(-depth):
        tone = green * (0.84 + 0.5 * top[i] + 0.1 * rng.standard_normal() + 0.16 * lift[pick[i]])
        axes = (int(rng.integers(2, 7)), int(rng.integers(2, 5)))
        at = (int(screen_x[i]), int(screen_y[i]))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(bgr, at, axes, angle, 0, 360, tone.tolist(), -1)
        cv2.ellipse(alpha, at, axes, angle, 0, 360, 1.0, -1)
    bgr += 9 * rng.standard_normal((size, size, 1))
    ragged = rng.standard_normal((size // 3, size // 3)).astype(np.float32)
    ragged = cv2.resize(ragged, (size, size))
    edge = cv2.blur(alpha, (9, 9)) + 0.16 * ragged
    alpha = np.where(edge > 0.5, alpha, 0)
    bgr = cv2.GaussianBlur(bgr, (0, 0), 0.8)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1.0)
    return _finish(bgr, alpha, foot, size * 0.84)


def bare(rng: np.random.Generator, broken: bool) -> Sprite:
    """A tree without leaves: grey branches, a haze of twigs; ``broken`` ones have lost most of
    them.
    """
    size = SIDE
    scale = 2
    alpha = np.zeros((size * scale, size * scale), np.uint8)
    tone = np.zeros_like(alpha)
    foot = (size / 2, size * 0.95)
    tips = []

    def grow(x, y, angle, length, width, depth):
        if depth > 6 or length < 5:
            tips.append((x, y))
            return
        bend = angle + rng.normal(0, 0.12)
        x1, y1 = x + length * np.sin(bend), y - length * np.cos(bend)
        p, q = (int(x), int(y)), (int(x1), int(y1))
        cv2.line(alpha, p, q, 255, max(int(width), 2), cv2.LINE_AA)
        cv2.line(tone, p, q, int(np.clip(rng.normal(120, 30), 30, 220)), max(int(width), 1))
        if broken and depth >= 2 and rng.random() < 0.45:
            return
        for _ in range(2 if rng.random() < 0.6 else 3):
            grow(
                x1,
                y1,
                bend + rng.normal(0, 0.55),
                length * rng.uniform(0.6, 0.86),
                width * 0.66,
                depth + 1,
            )

    trunk = rng.uniform(0.2, 0.3) * size * scale
    grow(foot[0] * scale, foot[1] * scale, rng.normal(0, 0.1), trunk, 17 if broken else 14, 0)
    alpha = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    tone = cv2.resize(tone, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    color = np.array([92.0, 108, 120]) * rng.uniform(0.75, 1.2)
    bgr = color * (0.55 + 0.75 * tone[..., None] / 160)
    if tips and not broken:
        haze = np.zeros((size, size), np.float32)
        for x, y in tips:
            cv2.circle(haze, (int(x / scale), int(y / scale)), int(rng.integers(4, 10)), 1.0, -1)
        grain = rng.random((size, size), dtype=np.float32)
        twigs = cv2.GaussianBlur(haze, (0, 0), 3) * (0.2 + 0.6 * (grain > 0.6)) * 0.75
        leaf = np.array([70.0, 105, 100]) * rng.uniform(0.8, 1.2)
        share = (twigs / np.maximum(alpha + twigs, 1e-3))[..., None]
        bgr = bgr * (1 - share) + share * leaf * (0.7 + 0.6 * grain[..., None])
        alpha = np.maximum(alpha, twigs)
    return _finish(bgr, alpha, foot, size * 0.86)


def pine(rng: np.random.Generator) -> Sprite:
    """A tall pine: a bare trunk with tufts near its top."""
    size = SIDE
    bgr, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    foot = (size / 2, size * 0.95)
    top = (size / 2 + rng.normal(0, 8), size * 0.12)
    cv2.line(bgr, tuple(map(int, top)), tuple(map(int, foot)), (72, 88, 108), 5)
    cv2.line(alpha, tuple(map(int, top)), tuple(map(int, foot)), 1.0, 5)
    green = np.array([40.0, 84, 60]) * rng.uniform(0.8, 1.25)
    for t in np.sort(rng.uniform(0.0, 0.55, 60))[::-1]:
        reach = size * (0.05 + 0.22 * np.sin(np.pi * (t + 0.12) / 0.75))
        cx = top[0] + (foot[0] - top[0]) * t + rng.uniform(-1, 1) * reach
        cy = top[1] + (foot[1] - top[1]) * t + rng.uniform(-0.3, 0.5) * reach
        for _ in range(9):
            at = (int(cx + rng.normal(0, 9)), int(cy + rng.normal(0, 6)))
            shade = green * (0.7 + 0.5 * rng.random() + 0.25 * (0.5 - t))
            axes, angle = (
                (int(rng.integers(3, 8)), int(rng.integers(1, 4))),
                float(rng.uniform(0, 180)),
            )
            cv2.ellipse(bgr, at, axes, angle, 0, 360, shade.tolist(), -1)
            cv2.ellipse(alpha, at, axes, angle, 0, 360, 1.0, -1)
    return _finish(bgr, cv2.GaussianBlur(alpha, (3, 3), 0), foot, size * 0.84)


def bush(rng: np.random.Generator) -> Sprite:
    """A low shrub, or the crown of a tree that lies on the ground."""
    size = SIDE // 3
    bgr, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    green = np.array([rng.uniform(38, 70), rng.uniform(78, 110), rng.uniform(62, 100)])
    for _ in range(220):
        x, y = rng.normal(0, 0.2, 2)
        lift = np.clip(1 - (x * x + y * y) * 12, 0, 1)
        at = (int(size * (0.5 + x)), int(size * (0.6 + 0.6 * y - 0.16 * lift)))
        axes, angle = (int(rng.integers(2, 6)), int(rng.integers(1, 4))), float(rng.uniform(0, 180))
        cv2.ellipse(
            bgr,
            at,
            axes,
            angle,
            0,
            360,
            (green * (0.6 + 0.5 * lift + 0.2 * rng.random())).tolist(),
            -1,
        )
        cv2.ellipse(alpha, at, axes, angle, 0, 360, 1.0, -1)
    return _finish(
        bgr, cv2.GaussianBlur(alpha, (3, 3), 0), (size / 2, size * 0.75), size * 0.6, levels=2
    )


def sprite_library(rng: np.random.Generator, sunny: float) -> dict[str, list[Sprite]]:
    """Return the sprites of one scene by kind."""
    return {
        "leafy": [leafy(rng, sunny) for _ in range(6)],
        "bare": [bare(rng, broken=False) for _ in range(5)],
        "broken": [bare(rng, broken=True) for _ in range(4)],
        "pine": [pine(rng) for _ in range(3)],
        "bush": [bush(rng) for _ in range(4)],
    }


def draw_fallen_tree(
    canvas: np.ndarray,
    rng: np.random.Generator,
    foot: np.ndarray,
    angle: float,
    length: float,
    leaves: float,
) -> None:
    """Draw a tree that lies on the ground on ``canvas`` (uint8), in place. ``foot`` and ``length``
    in texels.
    """
    direction = np.array([np.cos(angle), np.sin(angle)])
    bark = np.array([72.0, 88, 100]) * rng.uniform(0.7, 1.15)
    leaf = np.array([60.0, 96, 78]) * rng.uniform(0.75, 1.15)
    tip = foot + direction * length
    shade = tuple((bark * 0.42).tolist())

    def stroke(p, q, color, width):
        cv2.line(
            canvas, tuple(map(int, p * 8)), tuple(map(int, q * 8)), color, width, cv2.LINE_AA, 3
        )

    stroke(foot + 4, tip + 4, shade, 7)
    # The torn-up root plate.
    for turn in rng.uniform(0, 2 * np.pi, 14):
        root = rng.uniform(0.4, 1.0) * (0.04 * length + 7)
        end = foot + root * np.array([np.cos(turn), np.sin(turn)])
        stroke(foot, end, (58, 76, 98), int(rng.integers(2, 6)))
    crown = []
    for _ in range(46):
        t = rng.uniform(0.28, 1.0)
        start = foot + direction * length * t
        spread = angle + rng.choice([-1, 1]) * rng.uniform(0.25, 1.2)
        reach = length * (1.1 - t) * rng.uniform(0.2, 0.55) + 6
        end = start + reach * np.array([np.cos(spread), np.sin(spread)])
        stroke(start + 3, end + 3, shade, 2)
        stroke(start, end, tuple((bark * rng.uniform(0.7, 1.3)).tolist()), int(rng.integers(1, 4)))
        for _ in range(4):
            k = rng.uniform(0.4, 1)
            mid = start + (end - start) * k
            off = rng.normal(0, reach * 0.25, 2)
            stroke(mid, mid + off, tuple((bark * rng.uniform(0.6, 1.4)).tolist()), 1)
            crown.append(mid + off)
    stroke(foot, tip, tuple(bark.tolist()), 6)
    for place in crown:
        for _ in range(int(6 * leaves)):
            at = place + rng.normal(0, 7, 2)
            tone = leaf * (0.55 + 0.75 * rng.random())
            cv2.ellipse(
                canvas,
                tuple(map(int, at)),
                (int(rng.integers(2, 5)), int(rng.integers(1, 4))),
                float(rng.uniform(0, 180)),
                0,
                360,
                tone.tolist(),
                -1,
            )
