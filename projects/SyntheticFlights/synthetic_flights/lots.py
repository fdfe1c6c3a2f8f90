"""A lot along a street, in coordinates of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from synthetic_flights.layout import Streets

__all__ = ["ROAD_HALF", "Lot"]

ROAD_HALF = 3.4  # metres, half the width of a road


@dataclass(frozen=True)
class Lot:
    """A piece of land: x metres along the street from its corner, y metres from the road's edge.

    Attributes:
        streets: that it belongs to.
        a: street coordinate of its corner, along the street.
        b: street coordinate of its street's middle, across.
        side: 1 or -1, of the street that it lies on.
        width: along the street, metres.
        depth: away from the road, metres.
    """

    streets: Streets
    a: float
    b: float
    side: int
    width: float
    depth: float

    def at(self, x: float, y: float) -> np.ndarray:
        """Place in the world, (2,) metres."""
        return self.streets.world(np.array([self.a + x, self.b + self.side * (ROAD_HALF + y)]))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float) -> list[np.ndarray]:
        """The corners in the world of a rectangle, which streets bend a little."""
        return [self.at(x0, y0), self.at(x1, y0), self.at(x1, y1), self.at(x0, y1)]

    @property
    def street_angle(self) -> float:
        """Direction of the street at the corner, radians counter-clockwise from east."""
        return self.streets.direction(self.a, self.b)
