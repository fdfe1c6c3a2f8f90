"""The ground that a building covers, from its outlines as seen from one or more directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from msnet_d2.damage_map.buildings.observations import PlacedObservation

# Width of the sectors of view, in degrees: observations of one sector give one rectangle.
SECTOR_DEG = 30.0
# Standard deviation on the ground of a box's edge, in metres.
EDGE_SIGMA_M = 0.7
# Standard deviation of buildings' heights about the one that is assumed, in metres.
HEIGHT_SIGMA_M = 2.0
# The center of a rectangle is taken to be off by this quantile of the distances from the boxes'
# centers to it. Tuned on benchmarks/map.py, so that the CE90 holds 90% of the buildings.
SCATTER_QUANTILE = 0.75
# Added to the CE90 of a building that is truncated in every frame, in metres.
TRUNCATED_ERROR_M = 10.0


class Footprint(NamedTuple):
    """A building on the ground, in local metres.

    Attributes:
        polygon: shapely polygon.
        center: (2,).
        ce90_m: radius about the center that holds the true one with a probability of 90%.
        truncated: whether the frame's edge truncates it in every observation.
    """

    polygon: Any
    center: np.ndarray
    ce90_m: float
    truncated: bool


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value at which half of the weight is reached."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def footprint(observations: Sequence[PlacedObservation]) -> Footprint:
    """Footprint of one building.

    From each direction a building is as wide as its box and as deep as from the near wall's foot to
    the far roof: a rectangle along the view. Rectangles of different directions are laid over each
    other, center on center, and what they have in common is the footprint. Truncated boxes count
    only where there are no others.
    """
    import shapely

    whole = [s for s in observations if s.has_building_box and not s.truncated]
    used = whole or list(observations)
    angles = np.array([np.degrees(np.arctan2(s.view[0], s.view[1])) for s in used])
    sectors = np.floor((angles % 360) / SECTOR_DEG).astype(int)
    rectangles, centers, weights, errors = [], [], [], []
    for number in np.unique(sectors):
        members = [s for s, b in zip(used, sectors) if b == number]
        corners = _rectangle(members, whole=bool(whole))
        rectangles.append(corners)
        centers.append(corners.mean(axis=0))
        weight = np.array([s.score for s in members])
        error = weighted_median(np.array([s.ce90_m for s in members]), weight)
        error = float(np.hypot(error, _scatter(members, centers[-1])))
        errors.append(error)
        weights.append(weight.sum() / max(error, 0.1) ** 2)
    weights = np.array(weights) / np.sum(weights)
    center = weights @ np.array(centers)
    polygon = None
    for k in np.argsort(-weights):
        moved = shapely.Polygon(rectangles[k] - centers[k] + center)
        common = moved if polygon is None else polygon.intersection(moved)
        # A view of a part of the building must not cut the rest away.
        if polygon is None or common.area > 0.5 * polygon.area:
            polygon = common
    apart = max(float(np.hypot(*(c - center))) for c in centers)
    error = max(float(weights @ np.array(errors)), apart)
    if not whole:
        error = float(np.hypot(error, TRUNCATED_ERROR_M))
    return Footprint(polygon, np.array(polygon.centroid.coords[0]), error, not whole)


def _scatter(observations: Sequence[PlacedObservation], center: np.ndarray) -> float:
    """Scatter of the boxes of one direction about their common center (2,), in metres.

    Perfect boxes agree within decimetres. Those of a detector that takes in a tree or leaves out a
    wing do not, and an error of many frames is an error of their mean.
    """
    centers = np.stack([s.outline.mean(axis=0) for s in observations])
    return float(np.quantile(np.hypot(*(centers - center).T), SCATTER_QUANTILE))


def _height_offset(far: np.ndarray, relief_displacement: np.ndarray) -> float:
    """By how much the building is higher than assumed, in metres, by how its far edge moves.

    A ridge that is d metres higher than assumed lands ``d * relief_displacement`` too far away.
    The slope of ``far`` (S,) over ``relief_displacement`` (S,) is therefore d. A normal prior of
    :data:`HEIGHT_SIGMA_M` draws it towards 0.
    """
    spread = relief_displacement - relief_displacement.mean()
    information = (spread**2).sum() / EDGE_SIGMA_M**2
    slope = (spread * far).sum() / EDGE_SIGMA_M**2
    return float(slope / (information + 1 / HEIGHT_SIGMA_M**2))


def _rectangle(observations: Sequence[PlacedObservation], *, whole: bool) -> np.ndarray:
    """Corners (4, 2) of the rectangle along the mean view that the observations agree on."""
    view = np.sum([s.view for s in observations], axis=0)
    view = view / max(float(np.hypot(*view)), 1e-9)
    axes = np.stack([view, [view[1], -view[0]]])  # away from the camera, to its right
    along = np.stack([s.outline for s in observations]) @ axes.T  # (S, 4, 2)
    weights = np.array([s.score for s in observations])
    low, high = along.min(axis=1), along.max(axis=1)
    if whole:
        displacement = np.array([s.relief_displacement for s in observations])
        high[:, 0] -= _height_offset(high[:, 0], displacement) * displacement
        low = np.array([weighted_median(low[:, k], weights) for k in (0, 1)])
        high = np.array([weighted_median(high[:, k], weights) for k in (0, 1)])
    else:
        # Each sees a piece; together they reach this far. The outermost may be a slip.
        low, high = np.quantile(low, 0.1, axis=0), np.quantile(high, 0.9, axis=0)
    high = np.maximum(high, low + 0.5)
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])
    return corners @ axes
