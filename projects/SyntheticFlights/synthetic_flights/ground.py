"""The ground as an orthophoto in tiles: lawns, roads, drives, pools, litter and shadows, painted
when first seen.
"""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np

from synthetic_flights.config import Appearance
from synthetic_flights.noise import fractal_noise, sample_tiled
from synthetic_flights.rubble_texture import rubble
from synthetic_flights.vegetation import draw_fallen_tree
from synthetic_flights.world import GroundFeature

__all__ = ["TEXEL", "Ground"]

TEXEL = 1 / 16  # metres
TILE = 512  # texels; a tile is 32 m wide
MARGIN = 40  # texels painted around a tile, so that blurred shadows meet at the seams
CACHE = 120  # tiles kept
LEVELS = 4  # resolutions, each half the one before
SLACK = 2.0  # metres around the view that are painted too, for interpolation at its edge

# Hardness of the edge in texels, and how far noise moves it.
SURFACES = {
    "verge": (5.0, 1.3),
    "wear": (6.0, 0.6),
    "puddle": (2.0, 1.5),
    "leaves": (9.0, 1.4),
    "road": (1.2, 0.18),
    "drive": (0.8, 0.10),
    "path": (0.8, 0.1),
    "patio": (0.7, 0.03),
    "gravel": (2.5, 0.5),
    "mud": (6.0, 1.1),
    "patch": (0.6, 0.05),
}
# How far a surface hides what is below it.
STRENGTH = {"verge": 0.75, "wear": 0.3, "puddle": 0.6, "leaves": 0.7, "mud": 0.85, "patch": 0.6}


JOINED = ("road", "verge", "wear")


class Ground:
    """The ground of one scene.

    :meth:`window` returns the orthophoto over a rectangle; tiles are painted on demand and do not
    depend on the order in which they are asked for.
    """

    def __init__(
        self, features: list[GroundFeature], appearance: Appearance, rng: np.random.Generator
    ):
        self.appearance = appearance
        self._features = sorted(
            features, key=lambda f: f.order
        )  # stable: equal orders stay as laid out
        self._low = np.array([f.low for f in self._features]).reshape(-1, 2)
        self._high = np.array([f.high for f in self._features]).reshape(-1, 2)
        self._broad = fractal_noise(rng, 256, 1.2, longest=110)
        self._patches = fractal_noise(rng, 512, 1.5, longest=200)
        self._middle = fractal_noise(rng, 512, 0.9, longest=64)
        self._worn = float(np.quantile(self._patches, 1 - appearance.dry))
        self._fine = fractal_noise(rng, 1024, 0.25, longest=40)
        self._tiles: OrderedDict[tuple[int, int], list[np.ndarray]] = OrderedDict()
        self._range: tuple | None = None  # of tiles that _levels hold, as far as _filled says
        self._filled: set[tuple[int, int]] = set()
        self._levels: list[np.ndarray] = []

    def window(self, view: np.ndarray):
        """Return the orthophoto over at least the convex polygon ``view`` (N, 2), in world metres.

        Returns:
            ``(levels, (west, north))``: pictures with north up, each half the resolution of the one
            before, and the world place of their upper left corner. What lies well outside of
            ``view`` may be blank.
        """
        size = TILE * TEXEL
        i0, j0 = np.floor(view.min(0) / size).astype(int).tolist()
        i1, j1 = np.floor(view.max(0) / size).astype(int).tolist()
        if self._range != (i0, i1, j0, j1):
            self._range, self._filled = (i0, i1, j0, j1), set()
            shape = np.array([j1 - j0 + 1, i1 - i0 + 1]) * TILE
            self._levels = [np.full((*(shape >> k), 3), 90, np.uint8) for k in range(LEVELS)]
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                square = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + np.array([i, j])) * size
                if (i, j) not in self._filled and _meet(view, square, SLACK):
                    self._filled.add((i, j))
                    for k, tile in enumerate(self._tile(i, j)):
                        side = TILE >> k
                        y, x = (j1 - j) * side, (i - i0) * side
                        self._levels[k][y : y + side, x : x + side] = tile
        return self._levels, (i0 * size, (j1 + 1) * size)

    def features_in(self, view: np.ndarray) -> list[GroundFeature]:
        """What lies within the box of ``view`` (N, 2), in world metres."""
        hits = (self._low < view.max(0)).all(1) & (self._high > view.min(0)).all(1)
        return [self._features[k] for k in np.nonzero(hits)[0]]

    def _tile(self, i: int, j: int) -> list[np.ndarray]:
        tile = self._tiles.get((i, j))
        if tile is None:
            tile = [self._paint(i, j)]
            for k in range(1, LEVELS):
                side = (TILE >> k, TILE >> k)
                tile.append(cv2.resize(tile[-1], side, interpolation=cv2.INTER_AREA))
            self._tiles[i, j] = tile
            if len(self._tiles) > CACHE:
                self._tiles.popitem(last=False)
        else:
            self._tiles.move_to_end((i, j))
        return tile

    def _paint(self, i: int, j: int) -> np.ndarray:
        size = TILE + 2 * MARGIN
        left, top = (
            i * TILE - MARGIN,
            -(j + 1) * TILE - MARGIN,
        )  # texels east and south of the origin
        low = np.array([left, -(top + size)]) * TEXEL
        high = low + size * TEXEL
        hits = np.nonzero((self._low < high).all(1) & (self._high > low).all(1))[0]
        features = [self._features[k] for k in hits]
        origin = np.array([left, top])

        def texels(polygon: np.ndarray) -> np.ndarray:
            return polygon * (1 / TEXEL, -1 / TEXEL) - origin

        noise = {
            "broad": sample_tiled(self._broad, left, top, size, size, 16),
            "patches": sample_tiled(self._patches, left, top, size, size, 8),
            "middle": sample_tiled(self._middle, left, top, size, size, 4),
            "fine": sample_tiled(self._fine, left, top, size, size, 1),
        }
        canvas = self._lawn(noise, [f for f in features if f.kind == "lot"], texels)
        for kind in (
            "leaves",
            "mud",
            "puddle",
            "verge",
            "path",
            "gravel",
            "drive",
            "road",
            "patch",
            "wear",
            "patio",
        ):
            chosen = [f for f in features if f.kind == kind]
            # Scattered ones are cheaper one by one, each in its own window.
            for group in [chosen] if kind in JOINED else [[f] for f in chosen]:
                self._surface(canvas, noise, kind, group, texels)
        self._pools(canvas, noise, [f for f in features if f.kind == "pool"], texels)
        out = np.clip(canvas, 0, 255).astype(np.uint8)
        for feature in features:
            if feature.kind == "fallen":
                foot, tip = texels(feature.polygon)
                angle = float(np.arctan2(*(tip - foot)[::-1]))
                rng = np.random.default_rng(feature.seed)
                draw_fallen_tree(
                    out, rng, foot, angle, float(np.linalg.norm(tip - foot)), feature.amount
                )
            elif feature.kind == "scrap":
                self._scrap(out, texels(feature.polygon), feature.color)
            elif feature.kind == "rubble":
                self._rubble(out, texels(feature.polygon), feature.seed)
        shade = self._shade([f for f in features if f.kind in ("shade", "contact")], texels, size)
        light = (1 - shade[..., None] * self.appearance.shadow) * self.appearance.light.astype(
            np.float32
        )
        out = np.clip(out * light, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(out[MARGIN:-MARGIN, MARGIN:-MARGIN])

    def _lawn(self, noise, lots, texels) -> np.ndarray:
        size = noise["fine"].shape[0]
        # Colours change slowly: four texels a cell. Only the grain needs every texel.
        cells = size // 4
        tint = np.zeros((cells, cells, 3), np.float32)
        dryness = np.full((cells, cells), 0.5, np.float32)
        for lot in lots:
            polygon = [np.round(texels(lot.polygon) * 4).astype(np.int32)]
            cv2.fillPoly(tint, polygon, (lot.color * (3.0, 3.5, 4.5)).tolist(), cv2.LINE_8, 4)
            cv2.fillPoly(dryness, polygon, lot.amount, cv2.LINE_8, 4)
        broad, patches, middle = (noise[k][2::4, 2::4] for k in ("broad", "patches", "middle"))
        a, b = self.appearance.lawn.astype(np.float32)
        mix = np.clip(0.5 + 0.28 * broad + 0.25 * patches + 0.5 * (dryness - 0.5), 0, 1)
        cell = a + (b - a) * mix[..., None] + tint
        # Worn and muddy places, the more the drier.
        worn = np.clip(1.6 * (patches + 0.35 * middle + 0.8 * (dryness - 0.5) - self._worn), 0, 1)
        soil = np.array([104, 138, 152], np.float32)
        cell += (soil - cell) * (0.75 * worn[..., None])
        canvas = cv2.resize(cell, (size, size))
        canvas *= (1 + 0.05 * noise["middle"] + 0.075 * noise["fine"])[..., None]
        return canvas

    def _surface(self, canvas, noise, kind, features, texels) -> None:
        if not features:
            return
        hard, jitter = SURFACES[kind]
        polygons = [texels(f.polygon) for f in features]
        window = _around(polygons, int(5 * hard) + 4, canvas.shape[0])
        if window is None:
            return
        (y0, y1), (x0, x1) = window
        cut = (slice(y0, y1), slice(x0, x1))
        # Soft edges need no fine mask.
        coarse = 4 if hard >= 2 else 1
        shape = ((y1 - y0) // coarse + 1, (x1 - x0) // coarse + 1)
        mask = np.zeros(shape, np.float32)
        # Where a rough edge outgrows its polygon there must be a colour too.
        colors = np.array([f.color for f in features], np.float32)
        mixed = len(colors) > 1 and float(np.ptp(colors, 0).max()) > 1
        color = colors.mean(0)
        if mixed:
            paint = np.empty((*shape, 3), np.float32)
            paint[...] = color
        for feature, polygon in zip(features, polygons):
            fixed = [np.round((polygon - (x0, y0)) * (16 / coarse)).astype(np.int32)]
            cv2.fillPoly(mask, fixed, 1.0, cv2.LINE_8, 4)
            if mixed:
                cv2.fillPoly(paint, fixed, np.asarray(feature.color, float).tolist(), cv2.LINE_8, 4)
        if mixed:
            color = cv2.dilate(paint, np.ones((3, 3), np.uint8)) if coarse == 1 else paint
        soft = cv2.GaussianBlur(mask, (0, 0), hard * 1.6 / coarse)
        if coarse > 1:
            full = (shape[1] * coarse, shape[0] * coarse)
            soft = cv2.resize(soft, full)[: y1 - y0, : x1 - x0]
            if mixed:
                color = cv2.resize(color, full)[: y1 - y0, : x1 - x0]
        elif mixed:
            color = color[: y1 - y0, : x1 - x0]
        soft = soft[: y1 - y0, : x1 - x0]
        middle, patches = noise["middle"][cut], noise["patches"][cut]
        edge = middle * (0.22 * jitter)
        edge += soft
        edge -= 0.5
        edge *= 2.2 / max(jitter, 0.25)
        edge += 0.5
        np.clip(edge, 0, 1, out=edge)
        # Far from the surface the noise alone must not paint it.
        edge *= soft > 0.04
        edge *= STRENGTH.get(kind, 1.0)
        tone = 1 + 0.03 * noise["fine"][cut]
        tone += 0.05 * patches
        tone += 0.03 * middle
        if kind in ("road", "drive"):
            # Cracks: where noise passes zero.
            tone -= 0.12 * (np.abs(middle + 0.4 * patches) < 0.025)
        tone *= edge
        view = canvas[cut]
        view *= (1 - edge)[..., None]
        view += color * tone[..., None]

    def _pools(self, canvas, noise, features, texels) -> None:
        for feature in features:
            polygon = texels(feature.polygon)
            window = _around([polygon], 4, canvas.shape[0])
            if window is None:
                continue
            (y0, y1), (x0, x1) = window
            cut = (slice(y0, y1), slice(x0, x1))
            fixed = [np.round((polygon - (x0, y0)) * 16).astype(np.int32)]
            view = canvas[cut]
            mask = np.zeros(view.shape[:2], np.uint8)
            cv2.fillPoly(mask, fixed, 255, cv2.LINE_8, 4)
            view[mask > 0] = (206, 210, 212)
            # What a window cuts off is water, not rim.
            water = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
            middle, patches = noise["middle"][cut], noise["patches"][cut]
            tone = (1 + 0.16 * patches + 0.05 * middle)[..., None]
            view[water] = (np.asarray(feature.color, np.float32) * tone)[water]
            view[water & (middle + patches > 1.3)] *= 0.55  # leaves

    @staticmethod
    def _scrap(out, polygon, color) -> None:
        fixed = np.round(polygon * 16).astype(np.int32)
        cv2.fillConvexPoly(out, fixed + 20, (48, 62, 56), cv2.LINE_AA, 4)
        cv2.fillConvexPoly(out, fixed, np.asarray(color, float).tolist(), cv2.LINE_AA, 4)

    @staticmethod
    def _rubble(out, polygon, seed) -> None:
        low, high = np.floor(polygon.min(0)).astype(int), np.ceil(polygon.max(0)).astype(int) + 1
        rng = np.random.default_rng(seed)
        patch = rubble(rng, (int(high[1] - low[1]), int(high[0] - low[0])), 1 / TEXEL)
        mask = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round((polygon - low) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, out.shape[1::-1])
        if x0 < x1 and y0 < y1:
            cut = (slice(y0 - low[1], y1 - low[1]), slice(x0 - low[0], x1 - low[0]))
            inside = mask[cut] > 0
            out[y0:y1, x0:x1][inside] = np.clip(patch[cut][inside], 0, 255).astype(np.uint8)

    def _shade(self, features, texels, size) -> np.ndarray:
        shade = np.zeros((size, size), np.float32)
        contact = np.zeros((size, size), np.float32)
        for feature in features:
            polygon = [np.round(texels(feature.polygon) * 16).astype(np.int32)]
            if feature.kind == "contact":
                cv2.fillPoly(contact, polygon, 1.0, cv2.LINE_8, 4)
                continue
            layer = np.zeros_like(shade) if feature.amount < 1 else shade
            cv2.fillPoly(layer, polygon, min(feature.amount, 1.0), cv2.LINE_8, 4)
            if layer is not shade:
                np.maximum(shade, layer, out=shade)
        soft = cv2.GaussianBlur(shade, (0, 0), max(self.appearance.shadow_blur / TEXEL * 0.6, 0.8))
        # Little sky is seen from right beside a wall.
        contact = cv2.GaussianBlur(contact, (0, 0), 0.35 / TEXEL)
        return np.clip(soft + 0.4 * contact * (1 - soft), 0, 1.2)


def _around(polygons: list[np.ndarray], margin: int, size: int):
    """Return the rows and columns ``((y0, y1), (x0, x1))`` that polygons touch, or None if there
    are none.
    """
    points = np.concatenate(polygons)
    x0, y0 = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, size).tolist()
    x1, y1 = np.clip(np.ceil(points.max(0)).astype(int) + margin, 0, size).tolist()
    return ((y0, y1), (x0, x1)) if x0 < x1 and y0 < y1 else None


def _meet(a: np.ndarray, b: np.ndarray, slack: float) -> bool:
    """Whether two convex polygons (N, 2) come within ``slack``: no edge separates them."""
    for polygon, other in ((a, b), (b, a)):
        edges = np.roll(polygon, -1, 0) - polygon
        normals = np.stack([edges[:, 1], -edges[:, 0]], 1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        mine, yours = polygon @ normals.T, other @ normals.T
        apart = (mine.max(0) + slack < yours.min(0)) | (yours.max(0) + slack < mine.min(0))
        if apart.any():
            return False
    return True
