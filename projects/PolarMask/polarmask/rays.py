"""Polar geometry: from contours to rays and back. Tensors in, tensors out.

Shape shorthand in this module:

    M: number of instances
    Q: number of centres (an instance may have several, or none)
    R: number of rays; ray r points at r * 360 / R degrees, from the x axis towards the y axis
    E: largest number of edges among the instances

Lengths and coordinates are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

__all__ = [
    "edges_of_polygons",
    "mass_centers",
    "polygons_to_boxes",
    "ray_directions",
    "ray_lengths",
    "rays_to_polygons",
]

# Of an angle, in steps of one ray.
_TOLERANCE = 1e-9


def ray_directions(num_rays: int, *, dtype=torch.float32, device=None) -> torch.Tensor:
    """Unit vectors (x, y) of the rays, (R, 2)."""
    angles = torch.arange(num_rays, dtype=torch.float64) * (2 * math.pi / num_rays)
    directions = torch.stack((angles.cos(), angles.sin()), dim=1)
    # cos(90°) is 6e-17 in floating point; exact axes keep what is parallel to them exact.
    directions[directions.abs() < 1e-12] = 0.0
    return directions.to(dtype=dtype, device=device)


def edges_of_polygons(instances: Sequence[Sequence[np.ndarray]], *, device=None) -> torch.Tensor:
    """The edges of the polygons of each instance, padded to one length.

    Args:
        instances: M lists of polygons, each an array x0, y0, x1, y1, … of 3 or more points;
            Detectron2's ``PolygonMasks.polygons``. An instance may have several polygons, or none.

    Returns:
        (M, E, 4) float64: x and y of an edge's two ends. All polygons run in one direction, so that
        their areas add up. Padding repeats a point of the instance as an edge without length; an
        instance without polygons has NaN.
    """
    edges = []
    for polygons in instances:
        points = [_positively_oriented(polygon) for polygon in polygons]
        rows = [np.concatenate((p, np.roll(p, -1, axis=0)), axis=1) for p in points]
        edges.append(np.concatenate(rows) if rows else np.full((1, 4), np.nan))
    longest = max((len(rows) for rows in edges), default=0)
    padded = np.empty((len(edges), longest, 4))
    for index, rows in enumerate(edges):
        padded[index, : len(rows)] = rows
        padded[index, len(rows) :] = np.tile(rows[-1, 2:], 2)
    return torch.from_numpy(padded).to(device)


def _positively_oriented(polygon: np.ndarray) -> np.ndarray:
    """The polygon's points (K, 2), in the direction in which its area is not negative."""
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    x, y = (points - points[0]).T
    return points[::-1] if np.dot(x, np.roll(y, -1)) < np.dot(y, np.roll(x, -1)) else points


def mass_centers(edges: torch.Tensor) -> torch.Tensor:
    """Centres of mass of the area inside the polygons.

    Args:
        edges: (M, E, 4), see :func:`edges_of_polygons`.

    Returns:
        (M, 2), x and y. Where the area vanishes or the polygons cross themselves such that the
        formula leaves their bounding box, it is that box's centre.
    """
    if edges.shape[1] == 0:
        return edges.new_zeros((len(edges), 2))
    points = torch.cat((edges[..., :2], edges[..., 2:]), dim=1)  # (M, 2E, 2)
    low, high = points.amin(dim=1), points.amax(dim=1)
    middle = (low + high) / 2
    # Relative to the box: the products below would lose digits far from the origin.
    start, end = edges[..., :2] - middle[:, None], edges[..., 2:] - middle[:, None]
    cross = start[..., 0] * end[..., 1] - end[..., 0] * start[..., 1]  # (M, E), twice the areas
    center = middle + ((start + end) * cross[..., None]).sum(dim=1) / (
        3 * cross.sum(dim=1, keepdim=True)
    )
    inside = (center >= low) & (center <= high)  # False for the NaN of a vanishing area
    return torch.where(inside.all(dim=1, keepdim=True), center, middle)


def ray_lengths(
    edges: torch.Tensor,
    centers: torch.Tensor,
    instance_of: torch.Tensor,
    *,
    num_rays: int = 36,
    min_length: float = 1e-6,
) -> torch.Tensor:
    """Distance from each centre to the contour of its instance along each ray.

    Of several intersections the farthest counts. A ray that meets no contour, because its centre
    lies outside, has the length ``min_length`` (paper, section 3.2).

    Args:
        edges: (M, E, 4), see :func:`edges_of_polygons`.
        centres: (Q, 2), x and y.
        instance_of: (Q,), which of the M instances each centre belongs to.
        num_rays: R.
        min_length: positive; no ray is shorter.

    Returns:
        (Q, R), in the dtype of ``edges``.
    """
    relative = edges[instance_of] - centers.to(edges.dtype).repeat(1, 2)[:, None]  # (Q, E, 4)
    # Angles of an edge's ends, in steps of one ray. Seen from the centre an edge spans less than
    # half a turn: from one end to the other, the shorter way round.
    steps = num_rays / (2 * math.pi)
    start = torch.atan2(relative[..., 1], relative[..., 0]) * steps
    turn = torch.atan2(relative[..., 3], relative[..., 2]) * steps - start
    turn = turn - num_rays * torch.round(turn / num_rays)
    # So it meets few of the rays, and only these meetings are looked at. Rounding must not lose the
    # one at a corner; to find it twice does no harm.
    first = torch.ceil(torch.minimum(start, start + turn) - _TOLERANCE)
    last = torch.floor(torch.maximum(start, start + turn) + _TOLERANCE)
    counts = (last - first + 1).nan_to_num(nan=0.0).clamp(min=0).long().flatten()
    edge = torch.repeat_interleave(counts)  # of the Q * E, for each meeting
    number = torch.arange(len(edge), device=edge.device) - (counts.cumsum(0) - counts)[edge]
    ray = (first.flatten()[edge].long() + number) % num_rays

    direction = ray_directions(num_rays, dtype=edges.dtype, device=edges.device)[ray]
    x0, y0, x1, y1 = relative.reshape(-1, 4)[edge].unbind(dim=1)
    dx, dy = direction.unbind(dim=1)
    along0, along1 = dx * x0 + dy * y0, dx * x1 + dy * y1
    across0, across1 = dx * y0 - dy * x0, dx * y1 - dy * x1
    share = (across0 / (across0 - across1)).clamp(0, 1)
    # An edge that lies in the ray reaches as far as its farther end.
    position = torch.where(
        across0 == across1, torch.maximum(along0, along1), along0 + share * (along1 - along0)
    )
    lengths = edges.new_full((len(centers) * num_rays,), min_length)
    slot = edge // max(1, edges.shape[1]) * num_rays + ray
    return lengths.scatter_reduce_(0, slot, position, "amax").view(len(centers), num_rays)


def rays_to_polygons(centers: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The ends of the rays (Q, R, 2), in order, from centres (Q, 2) and lengths (Q, R)."""
    directions = ray_directions(lengths.shape[1], dtype=lengths.dtype, device=lengths.device)
    return centers[:, None] + lengths[..., None] * directions


def polygons_to_boxes(polygons: torch.Tensor) -> torch.Tensor:
    """Smallest boxes (Q, 4) as x0, y0, x1, y1 around polygons (Q, R, 2)."""
    return torch.cat((polygons.amin(dim=1), polygons.amax(dim=1)), dim=1)
