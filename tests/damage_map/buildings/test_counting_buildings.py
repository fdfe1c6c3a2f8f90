"""Linking, joining and voting on hand-made observations: how many buildings, and which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msnet_d2.damage_map.buildings.assessment import Rules, find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.footprints import footprint, weighted_median
from msnet_d2.damage_map.buildings.levels import LEVELS, Vote
from msnet_d2.damage_map.buildings.observations import (
    MapVideo,
    NadirObservation,
    PartObservation,
    PlacedObservation,
    UnplacedObservation,
    group_parts,
)
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag
from msnet_d2.video.results import (
    FORMAT,
    VERSION,
    Category,
    ModelInfo,
    ResultsHeader,
    ResultsSummary,
    SourceInfo,
)

GOOD = TelemetryFlag.GOOD

pytest.importorskip("scipy")


HEADER = ResultsHeader(
    FORMAT, VERSION, SourceInfo("v.mp4", 4000, 4000, 4), ModelInfo(), [Category(1, "Slight")]
)
VIDEOS = [MapVideo(Path(f"{i}.mp4"), i, HEADER.with_frames([], ResultsSummary())) for i in range(2)]


def observation(
    frame, x, y, side=10.0, *, level=2, score=0.9, video=0, view=(0.0, 1.0), flags=GOOD, kind=None
):
    """A building of ``side`` on the ground at (x, y), 4 frames a second.

    Its box in the picture is its ground from above at 4 pixels a metre, far from the edges.
    """
    half = side / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    outline = np.array([x, y]) + half
    box = np.concatenate([4 * outline.min(axis=0) + 1000, 4 * outline.max(axis=0) + 1000])
    seen = {
        "video": VIDEOS[video],
        "frame": frame,
        "time_s": frame / 4,
        "box": box,
        "size": (4000.0, 4000.0),
        "parts": (PartObservation(level, score, box.copy()),),
    }
    if kind is UnplacedObservation:
        return UnplacedObservation(reason="above the horizon", **seen)
    if kind is NadirObservation:
        return NadirObservation(point=np.zeros(2), ce90_m=240.0, flags=flags, **seen)
    return PlacedObservation(
        outline=outline,
        ce90_m=2.0,
        view=np.array(view),
        relief_displacement=0.0,
        flags=flags,
        part_outlines=(outline,),
        **seen,
    )


def count(*observations, rules=None):
    ordered = sorted(observations, key=lambda o: o.order)
    tracks = []
    for video in VIDEOS:
        tracks += link([o for o in ordered if o.video is video])
    return find_buildings(tracks, rules=rules)


def test_one_building_over_many_frames_is_one():
    (building,) = count(*(observation(i, 0, 0) for i in range(8)))
    assert len(building.observations) == 8
    assert building.passes == 1
    assert building.point == pytest.approx([0, 0])


def test_neighbors_stay_two():
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
    assert {o.video for o in building.observations} == set(VIDEOS)
    # Two directions that disagree by sqrt(2) m: the error cannot be smaller.
    assert building.ce90_m >= np.sqrt(2) / 2


def test_without_places_nothing_is_joined_and_all_is_to_be_looked_at():
    seen = [observation(i, 0, 0, kind=UnplacedObservation) for i in (*range(4), *range(80, 84))]
    buildings = count(*seen)
    assert len(buildings) == 2
    assert all("may be counted twice" in "; ".join(b.review_reasons) for b in buildings)
    assert [b.point for b in buildings] == [None, None]
    assert [b.ce90_m for b in buildings] == [None, None]


def test_where_only_the_drone_is_known_a_building_is_a_point_with_a_large_error():
    flags = TelemetryFlag.NO_ANGLES | TelemetryFlag.STILL
    (building,) = count(
        *(observation(i, 0, 0, kind=NadirObservation, flags=flags) for i in range(4))
    )
    assert building.footprint is None
    assert building.point.tolist() == [0, 0]
    assert building.ce90_m == 240.0
    # That the drone stands still says nothing of the place.
    assert building.review_reasons == (
        "place known to 240 m only: it may be counted twice",
        "flight log: no angles",
    )


def test_the_vote_weighs_confidence_and_keeps_the_disagreement():
    # Severe 3 x 0.9 = 2.7, Debris 4 x 0.5 = 2.0: Severe, by 2.7 / 4.7 = 57% < 2/3.
    (building,) = count(
        *(observation(i, 0, 0, level=2, score=0.9) for i in range(3)),
        *(observation(i, 0, 0, level=3, score=0.5) for i in range(3, 7)),
    )
    assert building.level.name == "Severe"
    assert building.vote.weights == pytest.approx((0.0, 2.7, 2.0))
    assert building.vote.agreement == pytest.approx(2.7 / 4.7)
    assert "observations disagree (Severe 57%, Debris 43%)" in building.review_reasons


@pytest.mark.parametrize(
    ("votes", "level", "confidence"),
    [
        ([], 0, 0.0),
        ([(1, 0.5), (1, 0.7)], 1, 0.6),
        ([(1, 0.6), (3, 0.6)], 3, 0.6),  # equal weights: the worse one
        ([(2, 0.0)], 0, 0.0),  # no weight at all is no vote
    ],
)
def test_votes(votes, level, confidence):
    counted = Vote.of(votes)
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
    assert reason in building.review_reasons


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
        video=VIDEOS[0], frame=0, time_s=0.0, size=(640.0, 480.0),
    )  # fmt: skip
    assert [len(g.parts) for g in groups] == [3, 1]
    assert [g.has_building_box for g in groups] == [True, False]
