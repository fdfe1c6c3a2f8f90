"""The grid of a map: squares by which people find a building, as in a street atlas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Side of a cell in metres: a sheet of the printed report.
GRID_CELL_M = 250.0


class MapGrid:
    """Squares of :data:`GRID_CELL_M` over all buildings, named as in a street atlas.

    Letters go from west to east, numbers from north to south: A1 is the north-west corner. Columns
    and rows without a building have no name, so that flights far apart have short ones too.
    """

    def __init__(self, points: Sequence[np.ndarray]) -> None:
        """Cover ``points``, each (2,) in metres east and north; there may be none."""
        xy = np.array(points, dtype=float).reshape(-1, 2)
        self.west, self.north = (xy[:, 0].min(), xy[:, 1].max()) if len(xy) else (0.0, 0.0)
        cells = [self._cell(p) for p in xy]
        self._columns = {c: i for i, c in enumerate(sorted({c for c, _ in cells}))}
        self._rows = {r: i for i, r in enumerate(sorted({r for _, r in cells}))}

    def _cell(self, point: np.ndarray) -> tuple[int, int]:
        x, y = np.asarray(point, dtype=float)
        return int((x - self.west) // GRID_CELL_M), int((self.north - y) // GRID_CELL_M)

    def name(self, point: np.ndarray) -> str:
        """Name of the cell that holds one of the places that are covered."""
        column, row = self._cell(point)
        column, letters = self._columns[column], ""
        while column >= 0:
            column, digit = divmod(column, 26)
            letters, column = chr(ord("A") + digit) + letters, column - 1
        return f"{letters}{self._rows[row] + 1}"

    def ring(self, point: np.ndarray) -> np.ndarray:
        """Corners (4, 2) in metres east and north of the cell that holds a place."""
        column, row = self._cell(point)
        corner = np.array([self.west + column * GRID_CELL_M, self.north - row * GRID_CELL_M])
        return corner + np.array([[0, -1], [1, -1], [1, 0], [0, 0]]) * GRID_CELL_M
