"""Rays of polygons whose distances are known, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from polarmask.masks import contours_of, rasterize
from polarmask.rays import (
    edges_of_polygons,
    mass_centers,
    polygons_to_boxes,
    ray_directions,
    ray_lengths,
    rays_to_polygons,
)

SQUARE = [0, 0, 10, 0, 10, 10, 0, 10]
# Open towards larger y: a bar of 9 x 3 and two legs of 3 x 6.
U_SHAPE = [0, 0, 9, 0, 9, 9, 6, 9, 6, 3, 3, 3, 3, 9, 0, 9]
NONE = 1e-6


def lengths_of(polygons, center, num_rays=36):
    """Ray lengths from one centre to one instance."""
    edges = edges_of_polygons([[np.array(p, dtype=float) for p in polygons]])
    centers = torch.tensor([center], dtype=torch.float64)
    return ray_lengths(edges, centers, torch.tensor([0]), num_rays=num_rays)[0]


def regular_polygon(points, radius, x, y):
    angles = np.arange(points) * 2 * np.pi / points
    return np.stack((x + radius * np.cos(angles), y + radius * np.sin(angles)), axis=1).reshape(-1)


def iou(a, b):
    return float((a & b).sum() / (a | b).sum())


def test_directions_are_ten_degrees_apart_and_exact_on_the_axes():
    directions = ray_directions(36, dtype=torch.float64)
    assert directions.shape == (36, 2)
    assert directions[0].tolist() == [1, 0]
    assert directions[9].tolist() == [0, 1]
    assert directions[18].tolist() == [-1, 0]
    assert directions[27].tolist() == [0, -1]
    assert directions[1].tolist() == pytest.approx([0.984808, 0.173648], abs=1e-6)  # 10 degrees


def test_square_from_its_center():
    # Up to 45 degrees a ray meets the side x = 10, 5 away: 5 / cos. Then the side y = 10: 5 / sin.
    # 5/cos 0, 10, 20, 30, 40 = 5, 5.0771, 5.3209, 5.7735, 6.5270; 50..80 mirror them; and so on
    # for each of the four quarters.
    quarter = [5, 5.0771, 5.3209, 5.7735, 6.5270, 6.5270, 5.7735, 5.3209, 5.0771]
    assert lengths_of([SQUARE], (5, 5)).tolist() == pytest.approx(quarter * 4, abs=1e-4)


def test_square_from_a_point_beside_its_center():
    # To the sides x = 10, y = 10, x = 0, y = 0.
    assert lengths_of([SQUARE], (7, 6), num_rays=4).tolist() == [3, 4, 7, 6]


def test_direction_of_the_points_does_not_matter():
    backwards = np.array(SQUARE).reshape(-1, 2)[::-1].reshape(-1)
    assert torch.equal(lengths_of([SQUARE], (4, 3)), lengths_of([backwards], (4, 3)))


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        # In the bar, below the notch. To the right the outer side x = 9. Towards y the edge y = 3.
        ((4.5, 1.5), [4.5, 1.5, 4.5, 1.5]),
        # In the left leg. To the right: the inner side x = 3, then x = 6, and last x = 9.
        ((1.0, 6.0), [8.0, 3.0, 1.0, 6.0]),
        # In the notch, outside the shape: nothing towards larger y; otherwise the farthest again.
        ((4.5, 6.0), [4.5, NONE, 4.5, 6.0]),
        # Outside altogether, beyond the legs: only what lies towards smaller y.
        ((4.5, 20.0), [NONE, NONE, NONE, 20.0]),
    ],
)
def test_concave_shape_takes_the_farthest_intersection(center, expected):
    assert lengths_of([U_SHAPE], center, num_rays=4).tolist() == pytest.approx(expected)


def test_ray_along_an_edge_reaches_its_far_end():
    # From (3, 1) towards larger y the ray runs in the edge x = 3, from y = 3 to y = 9.
    assert lengths_of([U_SHAPE], (3, 1), num_rays=4)[1] == 8


def test_ray_through_a_corner_meets_it():
    # 45 degrees from the centre of the square: its corner, 5 * sqrt 2 away.
    assert lengths_of([SQUARE], (5, 5), num_rays=8)[1] == pytest.approx(5 * math.sqrt(2))


def test_all_parts_of_an_instance_count():
    other = [20, 4, 24, 4, 24, 6, 20, 6]
    # Towards x: out of the square at 10, into the other part at 20, and out of it at 24.
    assert lengths_of([SQUARE, other], (5, 5), num_rays=4).tolist() == [19, 5, 5, 5]


def test_instances_of_unlike_sizes_and_order_of_centers():
    triangle = np.array([0, 0, 6, 0, 0, 6], dtype=float)
    edges = edges_of_polygons([[triangle], [np.array(U_SHAPE, dtype=float)]])
    assert edges.shape == (2, 8, 4)
    centers = torch.tensor([[4.5, 1.5], [1.0, 1.0]])
    found = ray_lengths(edges, centers, torch.tensor([1, 0]), num_rays=4)
    # Triangle from (1, 1): its long side is x + y = 6, 4 away along both axes.
    torch.testing.assert_close(
        found, torch.tensor([[4.5, 1.5, 4.5, 1.5], [4, 4, 1, 1]], dtype=torch.float64)
    )


def slow_ray_lengths(points, center, num_rays):
    """Every ray against every edge, by the textbook's two equations."""
    lengths = []
    for angle in np.arange(num_rays) * 2 * np.pi / num_rays:
        found = [NONE]
        for a, b in zip(points, np.roll(points, -1, axis=0)):
            # centre + t * direction = a + s * (b - a)
            matrix = np.array([[np.cos(angle), a[0] - b[0]], [np.sin(angle), a[1] - b[1]]])
            if abs(np.linalg.det(matrix)) > 1e-12:
                t, s = np.linalg.solve(matrix, a - center)
                found += [t] if 0 <= s <= 1 else []
        lengths.append(max(found))
    return lengths


@pytest.mark.parametrize("seed", range(6))
def test_any_polygon_from_anywhere(seed):
    """Polygons that may cross themselves, centres inside and outside, against the slow way."""
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(0, 50, (n, 2)) for n in (3, 8, 25)]
    centers, owner = rng.uniform(-10, 60, (30, 2)), rng.integers(0, 3, 30)
    found = ray_lengths(
        edges_of_polygons([[p.reshape(-1)] for p in polygons]),
        torch.from_numpy(centers),
        torch.from_numpy(owner),
        num_rays=20,
    )
    expected = [slow_ray_lengths(polygons[k], c, 20) for k, c in zip(owner, centers)]
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-6, atol=1e-6)


def test_ray_along_a_slanted_edge_reaches_its_far_end():
    # The ray at 60 degrees from the origin runs in the edge from 2 to 6 of its length.
    x, y = math.cos(math.pi / 3), math.sin(math.pi / 3)
    triangle = [2 * x, 2 * y, 6 * x, 6 * y, 10, 0]
    assert lengths_of([triangle], (0, 0))[6] == pytest.approx(6)


def test_center_on_a_corner():
    # From the corner (0, 0) of the square: along two of its sides, and nothing behind.
    assert lengths_of([SQUARE], (0, 0), num_rays=4).tolist() == [10, 10, NONE, NONE]


def test_nothing_in_nothing_out():
    nothing = edges_of_polygons([])
    assert mass_centers(nothing).shape == (0, 2)
    no_centers = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    assert ray_lengths(nothing, *no_centers).shape == (0, 36)
    square = edges_of_polygons([[np.array(SQUARE, dtype=float)]])
    assert ray_lengths(square, *no_centers).shape == (0, 36)
    assert rays_to_polygons(torch.zeros(0, 2), torch.zeros(0, 36)).shape == (0, 36, 2)
    assert rasterize(torch.zeros(0, 36, 2), 5, 7).shape == (0, 5, 7)


def test_instance_without_contour_has_shortest_rays():
    edges = edges_of_polygons([[], [np.array(SQUARE, dtype=float)]])
    found = ray_lengths(edges, torch.tensor([[5.0, 5], [5, 5]]), torch.tensor([0, 1]), num_rays=4)
    torch.testing.assert_close(
        found, torch.tensor([[NONE] * 4, [5] * 4], dtype=torch.float64), rtol=0, atol=0
    )
    assert mass_centers(edges)[0].isnan().all()


@pytest.mark.parametrize(
    ("polygons", "expected"),
    [
        ([SQUARE], (5, 5)),
        # The median's third of a triangle.
        ([[0, 0, 6, 0, 0, 6]], (2, 2)),
        # Bar 27 at y = 1.5, two legs of 18 at y = 6: (27 * 1.5 + 36 * 6) / 63 = 4.0714.
        ([U_SHAPE], (4.5, 4.0714)),
        # Areas 100 at (5, 5) and 8 at (22, 5): x = (500 + 176) / 108 = 6.2593. One runs backwards.
        ([SQUARE, [20, 6, 24, 6, 24, 4, 20, 4]], (6.2593, 5)),
        # Crosses itself, so that the signed areas cancel: the box's centre.
        ([[0, 0, 10, 10, 10, 0, 0, 10]], (5, 5)),
        # A line has no area.
        ([[0, 0, 8, 0, 4, 0]], (4, 0)),
    ],
)
@pytest.mark.parametrize("offset", [0, 100_000])
def test_mass_center(polygons, expected, offset):
    edges = edges_of_polygons([[np.array(p, dtype=float) + offset for p in polygons]])
    found = mass_centers(edges)[0] - offset
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_mass_center_stays_in_the_box_of_a_polygon_that_crosses_itself():
    # Two lobes of unlike direction: signed areas -2 and +3 would give a point far outside.
    edges = edges_of_polygons([[np.array([0, 0, 4, 4, 4, 1, 0, 3], dtype=float)]])
    x, y = mass_centers(edges)[0].tolist()
    assert 0 <= x <= 4
    assert 0 <= y <= 4


def test_rays_to_points_and_boxes():
    points = rays_to_polygons(torch.tensor([[10.0, 20.0]]), torch.tensor([[1.0, 2, 3, 4]]))
    assert points[0].tolist() == [[11, 20], [10, 22], [7, 20], [10, 16]]
    assert polygons_to_boxes(points).tolist() == [[7, 16, 11, 22]]


def test_square_of_rays_lacks_its_corners():
    # Rays at 40 and 50 degrees meet two sides; between them a triangle is cut off, with two sides
    # of 10 - 10 tan 40 = 1.609: four times 1.609^2 / 2 = 5.18 of 400 pixels.
    square = [0, 0, 20, 0, 20, 20, 0, 20]
    x, y = rays_to_polygons(torch.tensor([[10.0, 10.0]]), lengths_of([square], (10, 10))[None])[0].T
    area = 0.5 * (x * y.roll(-1) - y * x.roll(-1)).sum()
    assert float(area) == pytest.approx(400 - 5.178, abs=0.01)


@pytest.mark.parametrize(
    ("polygon", "least_iou"),
    [
        # 36 rays cut 0.5 % off a circle: (18 sin 10) / pi = 0.9949. Pixels at the rim cost more.
        (regular_polygon(200, 30, 50, 40), 0.98),
        (np.array([20, 10, 80, 10, 80, 70, 20, 70], dtype=float), 0.98),
        (np.array([10, 10, 90, 15, 30, 75], dtype=float), 0.9),
        # The notch cannot be seen from the centre: a limit of the representation.
        (np.array(U_SHAPE, dtype=float) * 8, 0.6),
    ],
)
def test_masks_from_rays_cover_the_polygon(polygon, least_iou):
    edges = edges_of_polygons([[polygon]])
    center = mass_centers(edges)
    points = rays_to_polygons(center, ray_lengths(edges, center, torch.tensor([0])))
    original = rasterize(torch.from_numpy(polygon.reshape(1, -1, 2)), 80, 100)
    assert iou(rasterize(points, 80, 100), original) > least_iou


def test_rasterized_pixels_are_those_inside():
    mask = rasterize(torch.tensor([[[2.0, 1], [5, 1], [5, 3], [2, 3]]]), 4, 6)
    expected = torch.zeros(1, 4, 6, dtype=torch.bool)
    expected[0, 1:3, 2:5] = True  # 3 x 2 pixels
    assert torch.equal(mask, expected)


def test_rasterizing_cuts_at_the_border():
    square = torch.tensor([[-10.0, -10], [3, -10], [3, 2], [-10, 2]])
    mask = rasterize(torch.stack((square, square + 1000)), 4, 6)
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[0, :2, :3] = True
    assert torch.equal(mask, expected)


def test_rasterizing_in_a_box_is_rasterizing_in_the_image():
    from detectron2.structures.masks import polygons_to_bitmask

    rng = np.random.default_rng(1)
    centers = torch.from_numpy(rng.uniform(0, 60, (40, 2)))
    points = rays_to_polygons(centers, torch.from_numpy(rng.uniform(1, 25, (40, 36))))
    whole = [polygons_to_bitmask([p.reshape(-1)], 50, 60) for p in points.numpy()]
    different = (rasterize(points, 50, 60).numpy() != np.stack(whole)).sum(axis=(1, 2))
    # pycocotools draws on a grid of a fifth of a pixel and clips at the image's border, so pixels
    # at the rim may differ where a polygon leaves the image.
    assert different.max() <= 2


def test_contours_of_bitmasks():
    from detectron2.structures import BitMasks

    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, 5:15, 4:10] = True
    (contour,), empty = contours_of(BitMasks(masks))
    points = contour.reshape(-1, 2)
    # Pixel centres: columns 4 to 9, rows 5 to 14.
    assert points.min(axis=0).tolist() == [4.5, 5.5]
    assert points.max(axis=0).tolist() == [9.5, 14.5]
    assert empty == []
