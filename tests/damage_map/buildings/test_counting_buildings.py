"""Linking, joining and voting on hand-made observations: how many buildings, and which."""

from __future__ import annotations

import numpy as np
import pytest

from msnet_d2.damage_map.buildings.assessment import Rules, find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.footprints import footprint, weighted_median
from msnet_d2.damage_map.buildings.levels import LEVELS, vote
from msnet_d2.damage_map.buildings.observations import Observation, PartObservation, group_parts
from msnet_d2.damage_map.output.records import GRID_CELL_M, MapGrid

pytest.importorskip("scipy")


def observation(
    frame, x, y, side=10.0, *, level=2, score=0.9, video=0, depth=None, view=(0.0, 1.0)
):
    """A building on the ground at (x, y), ``side`` wide and ``depth`` deep, 4 frames a second.

    Its box in the picture is its ground from above at 4 pixels a metre, far from the edges.
    """
    depth = side if depth is None else depth
    w, d = side / 2, depth / 2
    outline = np.array([[x - w, y - d], [x + w, y - d], [x + w, y + d], [x - w, y + d]])
    low, high = 4 * outline.min(axis=0) + 1000, 4 * outline.max(axis=0) + 1000
    box = np.concatenate([low, high])
    part = PartObservation(level, score, box.copy(), outline=outline)
    return Observation(
        video, frame, frame / 4, box, (4000.0, 4000.0), [part],
        outline=outline, ce90_m=2.0, view=np.array(view),
    )  # fmt: skip


def count(*observations, rules=None):
    ordered = sorted(observations, key=lambda s: (s.video, s.frame))
    tracks = []
    for video in sorted({s.video for s in ordered}):
        tracks += link([s for s in ordered if s.video == video])
    return find_buildings(tracks, rules=rules)


def test_one_building_over_many_frames_is_one():
    (building,) = count(*(observation(i, 0, 0) for i in range(8)))
    assert len(building.observations) == 8
    assert building.passes == 1
    assert building.point == pytest.approx([0, 0])


def test_neighbours_stay_two():
    # 10 m wide, 12 m apart: 2 m of lawn between them.
    pairs = [s for i in range(6) for s in (observation(i, 0, 0), observation(i, 12, 0))]
    assert len(count(*pairs)) == 2


def test_a_roof_found_twice_in_the_same_frames_is_one():
    # The detector finds the whole roof and, in each frame too, a wing of 6 m within it:
    # intersection over the smaller one is 1.
    pairs = [s for i in range(6) for s in (observation(i, 0, 0, 14), observation(i, 3, 3, 6))]
    assert len(count(*pairs)) == 1


def test_a_building_that_comes_back_is_one_with_two_passes():
    first = [observation(i, 0, 0) for i in range(5)]
    # 30 s later, 2 m off: satellites have moved. IoU 80/120 = 0.67.
    again = [observation(i, 2, 0) for i in range(120, 125)]
    (building,) = count(*first, *again)
    assert building.passes == 2


def test_two_videos_of_one_building_are_one():
    (building,) = count(
        *(observation(i, 0, 0) for i in range(4)),
        *(observation(i, 1, 1, video=1, view=(1.0, 0.0)) for i in range(4)),
    )
    assert {s.video for s in building.observations} == {0, 1}
    # Two directions that disagree by sqrt(2) m: the error cannot be smaller.
    assert building.ce90_m >= np.sqrt(2) / 2


def test_without_places_nothing_is_joined_and_all_is_to_be_looked_at():
    def lost(i):
        s = observation(i, 0, 0)
        s.outline = s.view = None
        return s

    buildings = count(*(lost(i) for i in range(4)), *(lost(i) for i in range(80, 84)))
    assert len(buildings) == 2
    assert all("may be counted twice" in "; ".join(b.reasons) for b in buildings)


def test_the_vote_weighs_confidence_and_keeps_the_disagreement():
    # Severe 3 x 0.9 = 2.7, Debris 4 x 0.5 = 2.0: Severe, by 2.7 / 4.7 = 57% < 2/3.
    (building,) = count(
        *(observation(i, 0, 0, level=2, score=0.9) for i in range(3)),
        *(observation(i, 0, 0, level=3, score=0.5) for i in range(3, 7)),
    )
    assert building.level.name == "Severe"
    assert building.vote.weights == pytest.approx((0.0, 2.7, 2.0))
    assert building.vote.agreement == pytest.approx(2.7 / 4.7)
    assert "observations disagree (Severe 57%, Debris 43%)" in building.reasons


@pytest.mark.parametrize(
    ("ballots", "level", "confidence"),
    [
        ([], 0, 0.0),
        ([(1, 0.5), (1, 0.7)], 1, 0.6),
        ([(1, 0.6), (3, 0.6)], 3, 0.6),  # equal weights: the worse one
        ([(2, 0.0)], 0, 0.0),  # no weight at all is no vote
    ],
)
def test_votes(ballots, level, confidence):
    counted = vote(ballots)
    assert counted.level == level
    assert counted.confidence == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("observations", "reason"),
    [
        ([observation(0, 0, 0)], "seen in 1 frame only"),
        ([observation(i, 0, 0, score=0.4) for i in range(3)], "low confidence (0.40)"),
    ],
)
def test_too_little_evidence_is_not_assessed(observations, reason):
    (building,) = count(*observations, rules=Rules(min_confidence=0.5, min_observations=2))
    assert building.level is LEVELS[0]
    assert building.level.name == "not assessed"
    assert reason in building.reasons


def test_the_cross_walk_is_coarser_than_the_other_scales():
    assert [(lv.name, lv.fema, lv.ems98) for lv in LEVELS] == [
        ("not assessed", "", ""),
        ("Slight", "affected or minor", "1-2"),
        ("Severe", "major", "3-4"),
        ("Debris", "destroyed", "5"),
    ]


def test_boxes_that_disagree_widen_the_error():
    steady = footprint([observation(i, 0, 0) for i in range(9)])
    # A third of the boxes each take in a tree 6 m to the left or the right.
    restless = footprint([observation(i, 6 * (i % 3 - 1), 0) for i in range(9)])
    assert steady.ce90_m == pytest.approx(2.0)
    # 6 m is the 75% quantile of 0, 0, 0, 6, 6, 6, 6, 6, 6.
    assert restless.ce90_m == pytest.approx(np.hypot(2.0, 6.0))


def test_weighted_median():
    assert weighted_median(np.array([5.0, 1.0, 9.0]), np.array([1.0, 1.0, 3.0])) == 9.0
    assert weighted_median(np.array([5.0, 1.0, 9.0]), np.array([1.0, 1.0, 1.0])) == 5.0


def test_parts_go_to_the_building_that_holds_them():
    def part(box):
        return PartObservation(2, 0.9, np.array(box, float))

    # Nearly the same building.
    house, twin = np.array([0, 0, 100, 100]), np.array([2, 2, 100, 100])
    groups = group_parts(
        [
            (part([10, 10, 20, 20]), house),
            (part([50, 50, 60, 60]), twin),
            (part([30, 30, 40, 40]), None),  # within the house
            (part([300, 300, 320, 320]), None),  # in none
        ],
        0, 0, 0.0, (640.0, 480.0),
    )  # fmt: skip
    assert [len(g.parts) for g in groups] == [3, 1]
    assert [g.has_building_box for g in groups] == [True, False]


def test_areas_are_named_as_in_an_atlas():
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


def test_areas_between_flights_far_apart_take_no_names():
    far = np.array([500 * GRID_CELL_M, -300 * GRID_CELL_M - 1.0])
    assert MapGrid([np.zeros(2), far]).name(far) == "B2"


def test_the_27th_column_is_aa():
    points = [np.array([i * GRID_CELL_M, 0.0]) for i in range(28)]
    assert [MapGrid(points).name(points[i]) for i in (25, 26, 27)] == ["Z1", "AA1", "AB1"]
