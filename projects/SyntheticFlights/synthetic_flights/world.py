"""What stands in a scene: the containers that layout fills and the renderer reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from synthetic_flights.buildings import BuildingPlan
from synthetic_flights.meshes import Mesh

__all__ = ["GroundFeature", "Tree", "World"]


@dataclass
class GroundFeature:
    """Something painted on the ground: a polygon (N, 2) in world metres and what it is made of.

    ``kind``: lot, road, drive, path, patio, pool, mud, gravel, scrap (one piece of litter), fallen
    (a tree from ``polygon[0]`` to ``polygon[1]``), shade (a shadow), rubble.
    """

    kind: str
    polygon: np.ndarray
    color: np.ndarray | None = None
    amount: float = 1.0
    seed: int = 0
    order: int = 0

    def __post_init__(self):
        self.polygon = np.asarray(self.polygon, np.float64)
        margin = 5.0 if self.kind == "fallen" else 1.5
        self.low, self.high = self.polygon.min(0) - margin, self.polygon.max(0) + margin


@dataclass
class Tree:
    """A standing tree or shrub: where, how high (metres), which sprite."""

    x: float
    y: float
    height: float
    kind: str
    sprite: int
    flip: bool = False
    tone: float = 1.0
    lean: float = 0.0  # of the sprite in the picture, radians


@dataclass
class World:
    """All that a flight can see. Lists are in the order in which they were laid out."""

    buildings: list[BuildingPlan] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    meshes: list[Mesh] = field(default_factory=list)
    ground: list[GroundFeature] = field(default_factory=list)
    wires: list[np.ndarray] = field(default_factory=list)  # (N, 3) polylines
