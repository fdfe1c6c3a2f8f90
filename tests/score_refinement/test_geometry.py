"""The rule of refinement by geometry, by hand: matches after a motion, misses, running scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from msnet_d2.score_refinement.geometry import GeometryRule, RunningScore, warp_boxes
from msnet_d2.score_refinement.matching import Match

SIZE = (100, 200)
RIGHT_20 = np.array([[1, 0, 20], [0, 1, 0], [0, 0, 1]], dtype=float)


def found(boxes, scores, classes=None, *, masks=True):
    instances = Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes or [0] * len(scores), dtype=torch.int64),
    )
    if masks:
        instances.pred_masks = torch.zeros(len(scores), *SIZE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, boxes):
            mask[y0:y1, x0:x1] = True
    return instances


def index_of(match):
    return match.index.tolist()


def test_boxes_match_where_the_motion_takes_them():
    p = found([(10, 10, 30, 30), (60, 10, 80, 30)], [0.9, 0.5])
    q = found([(80, 10, 100, 30), (30, 12, 50, 32)], [0.4, 0.8])
    matches = GeometryRule().match(p, q, RIGHT_20)
    assert index_of(matches.forward) == [1, 0]
    assert index_of(matches.backward) == [1, 0]
    # Two rows of 20 differ: 18 * 20 in common of 22 * 20.
    assert matches.forward.similarity.tolist() == pytest.approx([18 / 22, 1.0])


def test_another_class_does_not_match():
    p, q = found([(10, 10, 30, 30)], [0.9], [0]), found([(30, 10, 50, 30)], [0.8], [1])
    matches = GeometryRule().match(p, q, RIGHT_20)
    assert index_of(matches.forward) == index_of(matches.backward) == [-1]
    assert matches.forward.similarity.isnan().all()


@pytest.mark.parametrize(
    ("shift", "expected"),
    # 20 wide, 5 in common: 5 / 35 = 0.14. 6 in common: 6 / 34 = 0.18.
    [(15, -1), (14, 0)],
)
def test_boxes_of_too_little_overlap_do_not_match(shift, expected):
    p = found([(10, 10, 30, 30)], [0.9])
    q = found([(30 + shift, 10, 50 + shift, 30)], [0.9])
    assert index_of(GeometryRule().match(p, q, RIGHT_20).forward) == [expected]


def test_a_duplicate_does_not_match_what_the_better_box_matches():
    # The second box overlaps the one of the next frame too, but the first is its best match.
    p = found([(10, 10, 30, 30), (14, 10, 34, 30)], [0.9, 0.3])
    q = found([(30, 10, 50, 30)], [0.8])
    matches = GeometryRule().match(p, q, RIGHT_20)
    assert (index_of(matches.forward), index_of(matches.backward)) == ([0, -1], [0])


@pytest.mark.parametrize(("scores", "expected"), [([0.9, 0.3], [0, -1]), ([0.3, 0.9], [-1, 0])])
def test_of_equal_boxes_the_higher_score_matches(scores, expected):
    p = found([(10, 10, 30, 30)] * 2, scores)
    q = found([(30, 10, 50, 30)], [0.8])
    assert index_of(GeometryRule().match(p, q, RIGHT_20).forward) == expected


@pytest.mark.parametrize(("n", "m"), [(0, 2), (2, 0), (0, 0)])
def test_frames_without_detections_have_no_matches(n, m):
    p, q = (found([(10, 10, 30, 30), (60, 10, 80, 30)][:k], [0.5] * k) for k in (n, m))
    matches = GeometryRule().match(p, q, RIGHT_20)
    assert index_of(matches.forward) == [-1] * n
    assert index_of(matches.backward) == [-1] * m


def test_a_place_that_has_left_the_frame_was_not_missed():
    # The frame ends at 200. Moved by 20: 20 columns of 170 to 190, in view, all of 20; of 165 to
    # 185, 15 of 20 (75%); of 167 to 187, 13 of 20 (65%); of 185 to 195, none.
    p = found(
        [(150, 10, 170, 30), (165, 10, 185, 30), (167, 10, 187, 30), (185, 10, 195, 30)], [0.5] * 4
    )
    nothing = Match(torch.full((4,), math.nan), torch.full((4,), -1))
    rule = GeometryRule()
    assert rule.missed(p, nothing, RIGHT_20).tolist() == [True, True, False, False]
    boxes = Instances(SIZE, **{k: v for k, v in p.get_fields().items() if k != "pred_masks"})
    assert rule.missed(boxes, nothing, RIGHT_20).tolist() == [True, True, False, False]


def test_the_mask_says_what_is_in_view_and_not_its_box():
    p = found([(165, 10, 195, 30)], [0.5])  # 15 of 30 columns stay: half
    nothing = Match(torch.tensor([math.nan]), torch.tensor([-1]))
    assert not GeometryRule().missed(p, nothing, RIGHT_20)
    p.pred_masks[0, :, 182:] = False  # 15 of 17 columns stay
    assert GeometryRule().missed(p, nothing, RIGHT_20)


def test_what_matches_was_not_missed():
    p = found([(10, 10, 30, 30)], [0.5])
    assert not GeometryRule().missed(p, Match(torch.tensor([1.0]), torch.tensor([0])), RIGHT_20)


def test_running_scores_of_a_match_a_miss_and_neither():
    scores = torch.tensor([0.6, 0.6, 0.6])
    match = Match(torch.tensor([0.8, math.nan, math.nan]), torch.tensor([1, -1, -1]))
    missed = torch.tensor([False, True, False])
    adjacent = RunningScore(torch.tensor([5.0, 1.4]).double(), torch.tensor([3.0, 2.0]).double())
    running = GeometryRule().extend(scores, match, missed, adjacent)
    # 0.6 + 0.65 * 1.4 = 1.51, 1 + 0.65 * 2 = 2.3; a miss: 0.6, 1 + 0.65 * 0.75 = 1.4875.
    assert running.total.tolist() == pytest.approx([1.51, 0.6, 0.6])
    assert running.weight.tolist() == pytest.approx([2.3, 1.4875, 1.0])


def test_the_own_score_counts_once_in_the_mean_of_both_sides():
    scores = torch.tensor([0.6])
    past = RunningScore(torch.tensor([1.185]).double(), torch.tensor([1.65]).double())
    future = RunningScore(torch.tensor([0.6]).double(), torch.tensor([1.4875]).double())
    # (1.185 + 0.6 - 0.6) / (1.65 + 1.4875 - 1) = 1.185 / 2.1375
    assert GeometryRule.refine(scores, past, future).tolist() == pytest.approx([0.554386])
    assert scores.tolist() == pytest.approx([0.6])


def test_boxes_are_warped_with_their_corners_and_clipped():
    # A quarter turn about the origin and 100 to the right: (x, y) -> (100 - y, x).
    turn = np.array([[0, -1, 100], [1, 0, 0], [0, 0, 1]], dtype=float)
    boxes = torch.tensor([[10.0, 20, 40, 30], [90, -10, 120, 10]])
    warped = warp_boxes(boxes, turn, SIZE)
    assert warped.tolist() == [[70, 10, 80, 40], [90, 90, 110, 100]]
