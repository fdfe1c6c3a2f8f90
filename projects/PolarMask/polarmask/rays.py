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
    "mass_centres",
    "polygons_to_boxes",
    "ray_directions",
    "ray_lengths",
    "rays_to_polygons",
]

# Elements (centre, ray, edge) that are looked at together: some 16 MB a temporary.
_CHUNK = 1 << 21


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


def mass_centres(edges: torch.Tensor) -> torch.Tensor:
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
    centre = middle + ((start + end) * cross[..., None]).sum(dim=1) / (
        3 * cross.sum(dim=1, keepdim=True)
    )
    inside = (centre >= low) & (centre <= high)  # False for the NaN of a vanishing area
    return torch.where(inside.all(dim=1, keepdim=True), centre, middle)


def ray_lengths(
    edges: torch.Tensor,
    centres: torch.Tensor,
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
    directions = ray_directions(num_rays, dtype=edges.dtype, device=edges.device)
    # Columns: along the ray (dot product), and across it (cross product).
    along = directions.T
    across = torch.stack((-directions[:, 1], directions[:, 0]))
    frame = torch.cat((along, across), dim=1)  # (2, 2R)
    lengths = edges.new_full((len(centres), num_rays), min_length)
    step = max(1, _CHUNK // max(1, num_rays * edges.shape[1]))
    for begin in range(0, len(centres) if edges.shape[1] else 0, step):
        chunk = slice(begin, begin + step)
        relative = edges[instance_of[chunk]] - centres[chunk].to(edges.dtype).repeat(1, 2)[:, None]
        along_a, across_a = (relative[..., :2] @ frame).split(num_rays, dim=-1)  # (q, E, R) each
        along_b, across_b = (relative[..., 2:] @ frame).split(num_rays, dim=-1)
        # An edge meets the ray's line if its ends lie on different sides of it, or on it. There,
        # its position along the ray is between those of its ends; an edge that lies in the line
        # reaches as far as its farther end.
        meets = across_a * across_b <= 0
        weight = across_a / (across_a - across_b)
        position = torch.where(
            across_a == across_b,
            torch.maximum(along_a, along_b),
            along_a + weight * (along_b - along_a),
        )
        position = torch.where(meets, position, position.new_tensor(-math.inf))
        lengths[chunk] = position.amax(dim=1).clamp(min=min_length)
    return lengths


def rays_to_polygons(centres: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The ends of the rays (Q, R, 2), in order, from centres (Q, 2) and lengths (Q, R)."""
    directions = ray_directions(lengths.shape[1], dtype=lengths.dtype, device=lengths.device)
    return centres[:, None] + lengths[..., None] * directions


def polygons_to_boxes(polygons: torch.Tensor) -> torch.Tensor:
    """Smallest boxes (Q, 4) as x0, y0, x1, y1 around polygons (Q, R, 2)."""
    return torch.cat((polygons.amin(dim=1), polygons.amax(dim=1)), dim=1)
