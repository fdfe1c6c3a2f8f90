"""What the renderer knows of each pixel beside its colour: material, depth, trees, wires."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from synthetic_flights.materials import BUILDING, GROUND_MATERIALS, Material
from synthetic_flights.meshes import Mesh
from synthetic_flights.world import GroundFeature

__all__ = ["PixelTruth", "SurfaceBuffers"]

SHIFT = 4  # fractional bits of polygon corners
_IS_BUILDING = np.isin(np.arange(256), BUILDING)


@dataclass
class PixelTruth:
    """The surfaces seen in one frame, at the frame's size.

    Attributes:
        materials: (H, W) uint8, values of :class:`.materials.Material`.
        depth: (H, W) float32, metres along the optical axis. Trees are upright billboards at the
            middle of their trunk; what is seen through a hole in a roof has its own depth.
        tree_ids: (H, W) uint16, 0 or 1 + the index in ``World.trees`` of the tree in front.
        tree_cover: (H, W) uint8, how opaque the trees in front are, lone twigs included; 255: one
            sees nothing behind.
        wires: (H, W) bool, where a wire crosses.
        sprite_maps: for each tree drawn the affine map (2, 3) from its sprite's texels to the
            frame's pixels (continuous coordinates), by the numbers in ``tree_ids``.
    """

    materials: np.ndarray
    depth: np.ndarray
    tree_ids: np.ndarray
    tree_cover: np.ndarray
    wires: np.ndarray
    sprite_maps: dict[int, np.ndarray] = field(default_factory=dict)


class SurfaceBuffers:
    """:class:`PixelTruth` while it is being drawn, at the raster's size; depth as its inverse.

    Beside the depth buffer that decides what is seen this one has no preferences: there a roof wins
    over its trim, and a mesh lies flat at its centre.
    """

    def __init__(self, height: int, width: int, camera_to_world: np.ndarray, altitude: float):
        """Start with bare ground.

        Args:
            height, width: of the raster.
            camera_to_world: (3, 3), from raster pixel indices (x, y, 1) to rays in the world whose
                length along the optical axis is 1.
            altitude: of the camera above the ground, metres.
        """
        self.shape = height, width
        self.ray_z = affine(camera_to_world[2], slice(0, height), slice(0, width))
        self.inverse_depth = self.ray_z * np.float32(-1 / altitude)
        self.materials = np.full((height, width), Material.GROUND, np.uint8)
        self.tree_ids = np.zeros((height, width), np.uint16)
        self.see_through = np.full((height, width), 255, np.uint8)
        self.wires = np.zeros((height, width), np.uint8)
        self.sprite_maps: dict[int, np.ndarray] = {}

    def paint_ground(self, features: list[GroundFeature], view: np.ndarray, position: np.ndarray):
        """Fill in what lies on the ground.

        Args:
            features: of the ground within the frame; any order within a kind.
            view: (3, 3), from world offsets to raster pixels.
            position: (3,), the camera's.
        """
        by_kind: dict[str, list[np.ndarray]] = {}
        for feature in features:
            if feature.kind in GROUND_MATERIALS:
                polygon = fallen_outline(feature) if feature.kind == "fallen" else feature.polygon
                h = (np.column_stack([polygon, np.zeros(len(polygon))]) - position) @ view.T
                if h[:, 2].min() > 1:
                    pixels = np.clip(h[:, :2] / h[:, 2:], -30_000, 30_000)
                    by_kind.setdefault(feature.kind, []).append(_fixed(pixels))
        for kind, material in GROUND_MATERIALS.items():
            for polygon in by_kind.get(kind, ()):
                cv2.fillPoly(self.materials, [polygon], int(material), cv2.LINE_8, SHIFT)

    def write_face(self, window, material: int, inverse_depth, written, solid) -> None:
        """Take over a face; where it is ``written`` but not ``solid`` one sees through it."""
        cv2.copyTo(inverse_depth, solid, self.inverse_depth[window])
        target = self.materials[window]
        if solid is not written:
            hole = (written > 0) & ~_IS_BUILDING[target]
            target[hole] = Material.INSIDE
        target[solid > 0] = material

    def write_mesh(self, window, mesh: Mesh, front: np.ndarray, pixels, depth, mask) -> None:
        """Take over a mesh.

        Args:
            window: rows and columns of the raster that it lies in.
            mesh: that is drawn.
            front: (h, w) int16, which of its quads is in front at each pixel of the window.
            pixels: (N, 4, 2), the quads' corners in raster pixels.
            depth: (N, 4), metres.
            mask: (h, w) uint8, 0 where something else is in front.
        """
        inside = mask > 0
        ys, xs = np.nonzero(inside)
        if not len(ys):
            return
        quads = front[ys, xs]
        planes, low, high = _inverse_depth_planes(pixels, depth)
        x, y = xs + window[1].start, ys + window[0].start
        a, b, c = planes[quads].T
        values = np.clip(a * x + b * y + c, low[quads], high[quads])
        self.inverse_depth[window][inside] = values
        self.materials[window][inside] = mesh.material

    def write_tree(self, window, number: int, near: float, covers, clear, to_raster) -> None:
        """Take over a tree: number from 1, inverse depth, and the warped sprite's two masks."""
        inside = covers > 127
        self.tree_ids[window][inside] = number
        self.materials[window][inside] = Material.TREE
        self.inverse_depth[window][inside] = near
        target = self.see_through[window]
        cv2.multiply(target, clear, dst=target, scale=1 / 255)
        self.sprite_maps[number] = to_raster

    def reduced(self, size: tuple[int, int]) -> PixelTruth:
        """Return the buffers at the frame's ``size`` (width, height)."""
        height, width = self.shape
        scale = np.diag([size[0] / width, size[1] / height])

        def to_frame(matrix: np.ndarray) -> np.ndarray:
            # Raster pixel indices have their centres at whole numbers, the frame's at halves.
            return scale @ (matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]]))

        wires = self.wires
        if (width, height) != size:
            wires = cv2.resize(wires, size, interpolation=cv2.INTER_AREA)
        return PixelTruth(
            materials=nearest(self.materials, size),
            depth=1 / nearest(self.inverse_depth, size),
            tree_ids=nearest(self.tree_ids, size),
            tree_cover=255 - nearest(self.see_through, size),
            wires=wires > 0,
            sprite_maps={number: to_frame(m) for number, m in self.sprite_maps.items()},
        )


def nearest(buffer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ``buffer`` at ``size`` (width, height), by the sample next to each pixel's centre."""
    if buffer.shape[1::-1] == size:
        return buffer
    rows, columns = (sample_indices(n, m) for n, m in zip(buffer.shape, size[::-1]))
    return buffer.take(rows, 0).take(columns, 1)


@lru_cache(maxsize=8)
def sample_indices(large: int, small: int) -> np.ndarray:
    """Which of ``large`` samples stand next to the centres of ``small`` pixels: (small,) int."""
    ramp = np.arange(large, dtype=np.float32)[None]
    # OpenCV decides what is next at a tie.
    taken = cv2.resize(ramp, (small, 1), interpolation=cv2.INTER_NEAREST_EXACT)
    return taken[0].astype(np.intp)


def affine(row: np.ndarray, ys: slice, xs: slice) -> np.ndarray:
    """Return a·x + b·y + c for ``row`` (a, b, c) at whole pixels: float32 of the slices' shape."""
    a, b, c = row
    columns = (a * np.arange(xs.start, xs.stop, xs.step or 1) + c).astype(np.float32)
    rows = (b * np.arange(ys.start, ys.stop, ys.step or 1)).astype(np.float32)
    return columns[None] + rows[:, None]


def fallen_outline(feature: GroundFeature) -> np.ndarray:
    """Outline (N, 2) on the ground of a fallen tree: a root plate, a trunk, and a crown."""
    foot, tip = feature.polygon
    along = tip - foot
    across = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-9)
    length = float(np.linalg.norm(along))
    # Share of the length and half width; branches reach furthest where the crown begins.
    half = [(0.0, 0.5), (0.06, 0.5), (0.08, 0.25), (0.27, 0.25)]
    half += [(t, 0.2 + 0.28 * length * (1.1 - t)) for t in (0.4, 0.6, 0.8, 1.0, 1.06)]
    sides = [(foot + t * along, w * across) for t, w in half]
    return np.array([p + w for p, w in sides] + [p - w for p, w in reversed(sides)])


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels * 2**SHIFT).astype(np.int32)


def _inverse_depth_planes(pixels: np.ndarray, depth: np.ndarray):
    """Of quads the affine function of the picture that 1 / depth is: (N, 3), and its range."""
    inverse = 1 / depth
    middle = pixels.mean(1, keepdims=True)
    ones = np.ones((*depth.shape, 1))
    # A ridge of a hundredth of a pixel: quads seen edge on have no plane, and get their mean.
    design = np.concatenate([pixels - middle, ones], 2)
    normal = design.transpose(0, 2, 1) @ design + np.diag([1e-4, 1e-4, 0])
    planes = np.linalg.solve(normal, design.transpose(0, 2, 1) @ inverse[..., None])[..., 0]
    planes[:, 2] -= (planes[:, :2] * middle[:, 0]).sum(1)
    return planes, inverse.min(1), inverse.max(1)
