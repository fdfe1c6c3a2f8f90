"""Shapes across the antimeridian in GeoJSON (RFC 7946, section 3.1.9)."""

import pytest
import shapely

from msnet_d2.damage_map.output.table import split_at_180


@pytest.mark.parametrize(
    "ring",
    [
        # The same square, with longitudes that jump, and that run on.
        [(179.9, -17.1), (-179.9, -17.1), (-179.9, -16.9), (179.9, -16.9)],
        [(179.9, -17.1), (180.1, -17.1), (180.1, -16.9), (179.9, -16.9)],
    ],
)
def test_a_polygon_across_it_is_cut_in_two(ring):
    cut = split_at_180(shapely.Polygon(ring))
    east, west = sorted(cut.geoms, key=lambda g: -g.bounds[0])
    assert east.bounds == pytest.approx((179.9, -17.1, 180, -16.9))
    assert west.bounds == pytest.approx((-180, -17.1, -179.9, -16.9))
    assert cut.area == pytest.approx(0.2 * 0.2)


def test_others_stay_as_they_are():
    for shape in (
        shapely.box(8, 47, 9, 48),
        shapely.Point(-179.9, 3),
        shapely.box(-180, 1, -179, 2),
    ):
        assert split_at_180(shape).equals(shape)
