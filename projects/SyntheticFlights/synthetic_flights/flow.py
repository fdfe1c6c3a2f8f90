"""Where each pixel of a frame lies in another: exact optical flow from depth and poses."""

from __future__ import annotations

import numpy as np

from synthetic_flights.camera import Intrinsics, rotation_matrix
from synthetic_flights.scene import Flight, Frame
from synthetic_flights.surfaces import affine

__all__ = ["flow_between", "frame_flow"]

# A pixel is seen in the other frame if the depth there is the expected one, up to this share.
DEPTH_TOLERANCE = 0.03


def flow_between(flight: Flight, i: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow from frame ``i`` to frame ``k`` of a flight; see :func:`frame_flow`."""
    frames = (flight.frame(n, with_truth=True, with_image=False) for n in (i, k))
    return frame_flow(flight.intrinsics, *frames)


def frame_flow(
    intrinsics: Intrinsics, source: Frame, target: Frame, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from one frame to another of the same flight.

    The scene stands still. Trees are pictures that face the camera: a pixel of one goes where the
    same texel of the picture goes.

    Args:
        intrinsics: of both frames.
        source, target: frames with truth.
        step: give every so manieth pixel of every so manieth row alone.

    Returns:
        ``flow`` (H, W, 2) float32, in pixels: what is seen at p in ``source`` lies at p + flow in
        ``target``. ``valid`` (H, W) bool: it is within the frame there and nothing hides it. The
        flow of what is hidden or outside is right too; that of wires is that of what is below.
    """
    height, width = source.truth.depth.shape
    to_source, to_target = (rotation_matrix(f.pose) for f in (source, target))
    camera = intrinsics.matrix
    offset = np.asarray(source.pose.position) - np.asarray(target.pose.position)
    # The homography of what is infinitely far, and what a depth of one metre moves.
    far = camera @ to_target @ to_source.T @ np.linalg.inv(camera)
    near = camera @ to_target @ offset
    far[:, 2] += far[:, 0] / 2 + far[:, 1] / 2  # of pixel indices: centres lie at halves
    window = (slice(0, height, step), slice(0, width, step))
    depth, trees = source.truth.depth[window], source.truth.tree_ids[window]
    inverse = 1 / depth
    x, y, z = (affine(row, *window) + np.float32(n) * inverse for row, n in zip(far, near))
    ahead = z > 0
    z = np.where(ahead, z, 1)
    landing = np.stack([x / z, y / z], axis=-1)
    moved, on_tree = _tree_landing(source, target, step)
    landing[on_tree] = moved

    column, row = (np.floor(landing[..., n]).astype(np.int32) for n in (0, 1))
    inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    expected = z * depth
    same = np.abs(target.truth.depth[place] - expected) <= DEPTH_TOLERANCE * expected
    same = np.where(trees > 0, True, same) & (target.truth.tree_ids[place] == trees)
    valid = inside & same & ~source.truth.wires[window] & ~target.truth.wires[place]
    centers = np.meshgrid(np.arange(0, width, step), np.arange(0, height, step))
    centers = np.stack(centers, -1).astype(np.float32)
    return landing - centers - np.float32(0.5), valid


def _tree_landing(
    source: Frame, target: Frame, step: int
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Landing places (N, 2) of the pixels of trees that both frames draw, and these pixels."""
    trees = source.truth.tree_ids[::step, ::step]
    shared = sorted(source.truth.sprite_maps.keys() & target.truth.sprite_maps.keys())
    table = np.zeros((int(trees.max(initial=0)) + 1, 2, 3))
    known = np.zeros(len(table), bool)
    for number in shared:
        if number < len(table):
            there, here = (
                np.vstack([f.truth.sprite_maps[number], [0, 0, 1]]) for f in (target, source)
            )
            table[number] = (there @ np.linalg.inv(here))[:2]
            known[number] = True
    ys, xs = np.nonzero(known[trees])
    maps = table[trees[ys, xs]]
    places = np.stack([xs * step + 0.5, ys * step + 0.5, np.ones(len(xs))], axis=-1)
    return np.einsum("nij,nj->ni", maps, places).astype(np.float32), (ys, xs)
