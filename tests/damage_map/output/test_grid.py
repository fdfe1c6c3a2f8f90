from __future__ import annotations

import numpy as np

from msnet_d2.damage_map.output.grid import GRID_CELL_M, MapGrid


def test_cells_are_named_as_in_an_atlas():
    points = [np.array(p, float) for p in ((0, 0), (GRID_CELL_M + 1, 0), (0, -GRID_CELL_M - 1))]
    grid = MapGrid(points)
    assert [grid.name(p) for p in points] == ["A1", "B1", "A2"]
    # South-west, south-east, north-east, north-west.
    assert grid.ring(points[1]).tolist() == [
        [GRID_CELL_M, -GRID_CELL_M],
        [2 * GRID_CELL_M, -GRID_CELL_M],
        [2 * GRID_CELL_M, 0.0],
        [GRID_CELL_M, 0.0],
    ]


def test_cells_between_flights_far_apart_take_no_names():
    far = np.array([500 * GRID_CELL_M, -300 * GRID_CELL_M - 1.0])
    assert MapGrid([np.zeros(2), far]).name(far) == "B2"


def test_the_27th_column_is_aa():
    points = [np.array([i * GRID_CELL_M, 0.0]) for i in range(28)]
    assert [MapGrid(points).name(points[i]) for i in (25, 26, 27)] == ["Z1", "AA1", "AB1"]
