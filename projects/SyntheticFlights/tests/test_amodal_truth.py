"""Whole masks of buildings and parts, what hides them, and the order of who stands in front."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_util
from synthetic_flights.amodal import (
    amodal_annotations,
    building_views,
    occlusion_order,
    track_id,
)
from synthetic_flights.config import SceneConfig
from synthetic_flights.raster import Raster
from synthetic_flights.scene import Flight


@pytest.fixture(scope="module", params=[(4, 6.0), (7, 6.0), (11, 1.0)])
def scene(request):
    seed, trees = request.param
    flight = Flight(
        SceneConfig(width=320, height=180, fps=2.0, seconds=2.0, seed=seed, trees=trees)
    )
    frame = flight.frame(1, with_truth=True, with_image=False)
    return flight, frame, building_views(flight, 1)


def test_seen_and_hidden_make_up_the_whole(scene):
    flight, frame, views = scene
    annotations = amodal_annotations(flight, frame, views)
    assert {a["category_id"] for a in annotations} >= {4}
    for a in annotations:
        seen, whole, hidden = (
            mask_util.decode(a[key]) > 0
            for key in ("segmentation", "amodal_segmentation", "occluder_segmentation")
        )
        assert not (seen & ~whole).any()
        assert not (seen & hidden).any()
        np.testing.assert_array_equal(seen | hidden, whole)
        assert (seen.sum(), whole.sum()) == (a["area"], a["amodal_area"])
        assert a["visible_share"] == pytest.approx(seen.sum() / whole.sum(), abs=1e-4)
        ys, xs = np.nonzero(whole)
        assert a["amodal_bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]


def test_what_is_seen_of_each_is_what_the_id_buffers_show(scene):
    flight, frame, views = scene
    numbers = {b.id: n for n, b in enumerate(flight.buildings, start=1)}
    for a in amodal_annotations(flight, frame, views):
        seen = mask_util.decode(a["segmentation"]) > 0
        if a["part_id"] is None:
            there = frame.building_ids == numbers[a["building_id"]]
            np.testing.assert_array_equal(seen, there & (frame.truth.tree_ids == 0))
            assert a["track_id"] == track_id(a["building_id"])
        else:
            code = next(c for c, (_, p) in flight.parts.items() if p.id == a["part_id"])
            np.testing.assert_array_equal(seen, frame.part_ids == code)
            assert a["track_id"] == a["part_id"]
            assert a["parent_id"] == a["building_id"]


def test_every_building_that_is_seen_has_a_view_that_holds_it(scene):
    _, frame, views = scene
    seen = set(np.unique(frame.building_ids)) - {0}
    by_number = {view.number + 1: view for view in views}
    assert seen <= set(by_number)
    for number in seen:
        view = by_number[number]
        outside = frame.building_ids == number
        outside[view.window] &= ~view.mask.mask
        assert not outside.any()


def test_who_is_in_front_is_nearer(scene):
    flight, frame, views = scene
    depth = {}
    for view in views:
        raster = Raster(
            flight.intrinsics, frame.pose, flight.config.supersample, True,
            with_color=False, with_surfaces=True,
        )  # fmt: skip
        flight.draw_building(raster, view.number, frame.index)
        alone = raster.surfaces.reduced((320, 180)).depth
        depth[track_id(flight.buildings[view.number].id)] = (view, alone)
    order = occlusion_order(flight, frame, views)
    for pair in order:
        view, alone = depth[pair["back"]]
        whole = np.zeros((180, 320), bool)
        whole[view.window] = view.mask.mask
        if pair["front"] < 0:
            there = whole & (frame.truth.tree_ids == -pair["front"])
        else:
            front = depth[pair["front"]][0].number + 1
            there = whole & (frame.building_ids == front) & (frame.truth.tree_ids == 0)
        assert there.sum() == pair["pixels"] > 0
        nearer = frame.truth.depth[there] < alone[there] * 1.003
        # Boards of rubble win over what lies up to 2 m before their heap's middle.
        assert nearer.mean() > 0.9


def test_hidden_buildings_have_somebody_in_front(scene):
    flight, frame, views = scene
    order = occlusion_order(flight, frame, views)
    backs = {pair["back"] for pair in order}
    hidden = {
        a["track_id"]
        for a in amodal_annotations(flight, frame, views)
        if a["part_id"] is None and a["visible_share"] < 0.8
    }
    # Cars, fences, poles and containers stand in no order, but hide little.
    assert hidden <= backs


def test_trees_hide_more_where_there_are_more():
    shares = {}
    for trees in (1.0, 6.0):
        flight = Flight(
            SceneConfig(width=256, height=144, fps=2.0, seconds=2.0, seed=7, trees=trees)
        )
        frame = flight.frame(0, with_truth=True, with_image=False)
        annotations = amodal_annotations(flight, frame, building_views(flight, 0))
        shares[trees] = {a["track_id"]: a["visible_share"] for a in annotations}
    both = shares[1.0].keys() & shares[6.0].keys()
    assert both
    assert all(shares[6.0][n] <= shares[1.0][n] for n in both)
    assert sum(shares[6.0][n] for n in both) < sum(shares[1.0][n] for n in both)
