"""Anchor sampling scores against cases computed by hand and against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.proposal_generator.anchor_filter import (
    anchor_scores,
    filter_anchors,
)

UNIT = [0.0, 0.0, 10.0, 10.0]  # the anchor of the hand-computed cases: area 100
NAN, INF = float("nan"), float("inf")


def boxes(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def random_boxes(n: int, seed: int, *, grid: float = 0.0) -> torch.Tensor:
    """Boxes in a 200 x 200 frame and beyond it; on a grid, so that ties occur, if one is given."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.rand(n, 4, generator=generator) * torch.tensor([220.0, 220.0, 90.0, 90.0])
    box[:, :2] -= 20
    box[:, 2:] += box[:, :2]
    return (box / grid).round() * grid if grid else box


def definition(anchors: torch.Tensor, proposals: torch.Tensor, metric: str) -> torch.Tensor:
    """The definition, one pair at a time, in Python floats (64 bits)."""
    scores = []
    for ax1, ay1, ax2, ay2 in anchors.tolist():
        best, area = 0.0, (ax2 - ax1) * (ay2 - ay1)
        for px1, py1, px2, py2 in proposals.tolist():
            width = max(0.0, min(ax2, px2) - max(ax1, px1))
            height = max(0.0, min(ay2, py2) - max(ay1, py1))
            overlap = width * height
            other = 0.0 if metric == "ioa" else (px2 - px1) * (py2 - py1) - overlap
            best = max(best, overlap / (area + other))
        scores.append(best)
    return torch.tensor(scores)


@pytest.mark.parametrize(
    ("proposals", "ioa", "iou"),
    [
        # |A ∩ p| = 5 * 10 = 50; |p| = 100: 50 / 100; 50 / (100 + 100 - 50)
        (boxes([5, 0, 15, 10]), 0.5, 1 / 3),
        # A inside p: 100 / 100; 100 / 400
        (boxes([-5, -5, 15, 15]), 1.0, 0.25),
        # p inside A: 4 * 5 = 20: 20 / 100; 20 / 100
        (boxes([2, 2, 6, 7]), 0.2, 0.2),
        # equal
        (boxes(UNIT), 1.0, 1.0),
        # a corner of 2 * 3 = 6, |p| = 400: 6 / 100; 6 / (100 + 400 - 6)
        (boxes([8, 7, 28, 27]), 0.06, 6 / 494),
        # touching along an edge is no overlap; nor is lying beside in one direction only
        (boxes([10, 0, 20, 10], [0, 20, 10, 30]), 0.0, 0.0),
        # the best of each metric comes from another proposal: a large one holds half of A (50; 50 /
        # (100 + 800 - 50)), a small one lies in A (6 * 6 = 36; 36 / 100)
        (boxes([5, -30, 15, 50], [0, 0, 6, 6]), 0.5, 0.36),
        # two proposals of a quarter each do not add up: the score is the best one's, 25 / 100; 25 /
        # (100 + 100 - 25)
        (boxes([-5, -5, 5, 5], [5, 5, 15, 15]), 0.25, 25 / 175),
        # proposals outside the frame count as any other: 1 * 10; |p| = 11 * 10
        (boxes([-10, 0, 1, 10]), 0.1, 10 / 200),
    ],
)
def test_hand_computed(proposals, ioa, iou):
    anchors = boxes(UNIT)
    torch.testing.assert_close(anchor_scores(anchors, proposals, "ioa"), torch.tensor([ioa]))
    torch.testing.assert_close(anchor_scores(anchors, proposals, "iou"), torch.tensor([iou]))


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_equals_definition(metric):
    anchors, proposals = random_boxes(150, 0), random_boxes(40, 1)
    scores = anchor_scores(anchors, proposals, metric)
    torch.testing.assert_close(scores, definition(anchors, proposals, metric))
    assert scores.min() >= 0
    assert scores.max() <= 1


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_boxes_and_tensors_alike(metric):
    anchors, proposals = random_boxes(20, 2), random_boxes(5, 3)
    expected = anchor_scores(anchors, proposals, metric)
    assert torch.equal(anchor_scores(Boxes(anchors), Boxes(proposals), metric), expected)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("block_elements", [1, 7, 40, 41, 1000, 10**6])
def test_blocks_do_not_matter(metric, block_elements):
    """From one anchor a block (even where that is above the limit) to all, equal to the bit."""
    anchors, proposals = random_boxes(101, 4), random_boxes(40, 5)
    expected = anchor_scores(anchors, proposals, metric)
    got = anchor_scores(anchors, proposals, metric, block_elements=block_elements)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_never_holds_the_whole_matrix(metric):
    """The largest tensor made on the way is a block, not anchors x proposals."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    anchors, proposals = random_boxes(3000, 6), random_boxes(500, 7)
    with Watch():
        anchor_scores(anchors, proposals, metric, block_elements=50_000)
    assert 12_000 <= largest <= 50_000  # 12,000: the coordinates of the anchors


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_no_proposals(metric):
    scores = anchor_scores(random_boxes(5, 8), boxes(), metric)
    assert scores.tolist() == [0.0] * 5
    assert not filter_anchors(random_boxes(5, 8), boxes(), metric, 0.0).any()


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_no_anchors(metric):
    assert anchor_scores(boxes(), random_boxes(5, 9), metric).shape == (0,)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize(
    "anchor",
    [
        [3, 3, 3, 8],  # no width
        [3, 3, 8, 3],  # no height
        [3, 3, 3, 3],  # a point
        [8, 3, 3, 8],  # inverted
        [8, 8, 3, 3],  # inverted twice: the product of its sides is positive
        [NAN, 0, 10, 10],
        [0, 0, INF, 10],
        [-INF, -INF, INF, INF],
    ],
)
def test_degenerate_anchors_score_zero(metric, anchor):
    """Beside an ordinary anchor, which must not be disturbed."""
    proposals = boxes(UNIT, [3, 3, 3, 8], anchor)
    scores = anchor_scores(boxes(anchor, UNIT), proposals, metric)
    assert scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize(
    "proposal", [[5, 0, 5, 10], [8, 8, 2, 2], [NAN, 0, 10, 10], [0, 0, INF, 10]]
)
def test_degenerate_proposals_count_as_absent(metric, proposal):
    assert anchor_scores(boxes(UNIT), boxes(proposal), metric).tolist() == [0.0]


@pytest.mark.parametrize(
    ("metric", "proposal", "score"),
    [
        # half of A; 50 / 100 is exact in binary
        ("ioa", [5, 0, 15, 10], 0.5),
        # one tenth of A: 10 / 100 rounds to the float32 nearest to 0.1, which as a 64-bit number is
        # above 0.1
        ("ioa", [9, 0, 30, 10], 0.1),
        # |A ∩ p| = 40, |A ∪ p| = 100
        ("iou", [0, 0, 4, 10], 0.4),
        # |A ∩ p| = 50, |A ∪ p| = 100
        ("iou", [0, 0, 10, 5], 0.5),
    ],
)
def test_a_score_equal_to_the_threshold_is_dropped(metric, proposal, score):
    """Strictly greater: dropped at the threshold, kept at the next smaller float32."""
    anchors, proposals = boxes(UNIT), boxes(proposal)
    assert filter_anchors(anchors, proposals, metric, score).tolist() == [False]
    below = torch.nextafter(torch.tensor(score), torch.tensor(0.0)).item()
    assert filter_anchors(anchors, proposals, metric, below).tolist() == [True]


def test_threshold_zero_needs_an_overlap():
    anchors = boxes(UNIT, [20, 20, 30, 30])
    assert filter_anchors(anchors, boxes([9, 9, 12, 12]), "ioa", 0.0).tolist() == [True, False]


def test_negative_threshold_keeps_all_and_computes_nothing(monkeypatch):
    monkeypatch.setattr("msnet_d2.modeling.proposal_generator.anchor_filter.anchor_scores", None)
    anchors = boxes(UNIT, [NAN, 0, 1, 1], [3, 3, 3, 3])
    assert filter_anchors(anchors, boxes(), "ioa", -1.0).tolist() == [True] * 3


def test_no_gradient():
    anchors = random_boxes(5, 10).requires_grad_()
    proposals = random_boxes(5, 11).requires_grad_()
    assert not anchor_scores(anchors, proposals).requires_grad


@pytest.mark.parametrize("function", [anchor_scores, filter_anchors])
def test_unknown_metric(function):
    with pytest.raises(ConfigError, match=r"METRIC is 'giou'; expected one of 'ioa', 'iou'"):
        function(boxes(UNIT), boxes(UNIT), "giou")
