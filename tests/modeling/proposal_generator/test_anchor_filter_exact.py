"""Filtering by chunks and large proposals equals the plain definition, ties included."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.proposal_generator import anchor_filter
from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_scores, filter_anchors

STRIDES = [4, 8, 16, 32, 64]
THRESHOLDS = [0.0, 0.1, 0.25, 1 / 3, 0.4, 0.5, 0.9, 1.0, 2.0]
NAN, INF = float("nan"), float("inf")


def make_anchors(height=96, width=128, *, offset=0.0, sizes=(16, 32, 64, 128, 256), ratios=None):
    generator = DefaultAnchorGenerator(
        sizes=[[s] for s in sizes],
        aspect_ratios=[ratios or [0.5, 1.0, 2.0]],
        strides=STRIDES,
        offset=offset,
    )
    grid_sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return generator([torch.zeros(1, 1, *size) for size in grid_sizes])


def random_proposals(n, seed, *, height=96, width=128, step=None):
    """Boxes in the frame and beyond it, of all sizes; on a grid of ``step`` pixels if given."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.rand(n, 4, generator=generator)
    box[:, :2] = box[:, :2] * torch.tensor([1.4 * width, 1.4 * height]) - 0.2 * width
    box[:, 2:] = box[:, :2] + box[:, 2:] ** 2 * torch.tensor([width, height])
    return (box / step).round() * step if step else box


@pytest.fixture(autouse=True, params=[97, 4096])
def chunk(request, monkeypatch):
    """Anchors filtered at a time; few proposals first, so that both steps have work."""
    monkeypatch.setattr(anchor_filter, "_CHUNK", request.param)
    monkeypatch.setattr(anchor_filter, "_FIRST", 3)


def assert_equal_choice(anchors, proposals, metric, threshold):
    anchors = torch.cat([a.tensor for a in anchors])
    plain = anchor_scores(anchors, proposals, metric) > threshold
    quick = filter_anchors(anchors, proposals, metric, threshold)
    assert torch.equal(quick, plain), f"{int((quick != plain).sum())} differ at {threshold}"
    return plain


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_random_proposals(metric, offset, n):
    anchors = make_anchors(offset=offset)
    shares = []
    for threshold in THRESHOLDS:
        proposals = random_proposals(n, seed=n)
        kept = assert_equal_choice(anchors, proposals, metric, threshold)
        shares.append(kept.float().mean().item())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert shares[-1] == 0


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("step", [1, 4, 8, 16])
def test_ties(metric, step):
    """Proposals on the lattice of the anchors' centres and edges: many scores hit S exactly."""
    # Ratios of 1/4, 1 and 4 make all sides whole numbers, powers of two.
    anchors = make_anchors(ratios=[0.25, 1.0, 4.0])
    for threshold in THRESHOLDS:
        proposals = random_proposals(60, seed=step, step=step)
        assert_equal_choice(anchors, proposals, metric, threshold)


def test_there_are_ties_in_the_test_above():
    """Anchors that score exactly S: kept at the float below S and not at S."""
    anchors = make_anchors(ratios=[0.25, 1.0, 4.0])
    proposals = random_proposals(60, seed=8, step=8)
    below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()
    at = assert_equal_choice(anchors, proposals, "ioa", 0.5)
    just_below = assert_equal_choice(anchors, proposals, "ioa", below)
    assert (just_below & ~at).sum() > 10


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_proposals_that_are_anchors(metric):
    """Scores of 1 exactly, and sides that are equal to the bit."""
    anchors = make_anchors()
    proposals = torch.cat([a.tensor for a in anchors])[::37]
    for threshold in THRESHOLDS:
        assert_equal_choice(anchors, proposals, metric, threshold)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_odd_proposals(metric):
    """Empty, inverted and not finite ones count as absent; slivers and giants are ordinary."""
    anchors = make_anchors()
    odd = torch.tensor(
        [
            [10, 10, 10, 50],
            [50, 50, 20, 20],
            [NAN, 0, 10, 10],
            [0, 0, INF, 10],
            [20, 0, 20.001, 96],
            [0, 30, 128, 30.0005],
            [-1e4, -1e4, 1e4, 1e4],
            [126, 94, 128, 96],
            [500, 500, 600, 600],
        ]
    )
    for threshold in THRESHOLDS:
        for proposals in (odd[:4], odd[4:6], odd[6:7], odd[7:], odd):
            kept = assert_equal_choice(anchors, proposals, metric, threshold)
            if len(proposals) == 4:
                assert not kept.any()


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_large_frames(metric):
    """Coordinates of ten thousand have fewer bits after the point."""
    anchors = make_anchors(64, 12000)
    proposals = random_proposals(50, seed=3, height=64, width=12000)
    for threshold in (0.0, 0.1, 0.5):
        assert_equal_choice(anchors, proposals, metric, threshold)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_levels_of_one_row_or_column(metric):
    for height, width in ((64, 256), (256, 64), (3, 3)):
        anchors = make_anchors(height, width)
        proposals = random_proposals(40, seed=4, height=height, width=width)
        for threshold in (0.0, 0.1, 0.5):
            assert_equal_choice(anchors, proposals, metric, threshold)


def test_nothing_there():
    anchors = torch.cat([a.tensor for a in make_anchors()])
    nothing = torch.zeros(0, 4)
    assert filter_anchors(anchors, nothing, "ioa", 0.0).tolist() == [False] * len(anchors)
    assert filter_anchors(anchors, nothing, "ioa", -1.0).all()
    with pytest.raises(ConfigError, match="METRIC is 'dice'"):
        filter_anchors(anchors, nothing, "dice")


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_an_anchor_that_is_no_number_does_not_disturb_its_chunk(metric):
    anchors = torch.cat([a.tensor for a in make_anchors()])
    anchors[::50] = torch.tensor([NAN, 0, INF, 10])
    proposals = random_proposals(40, seed=7)
    for threshold in (0.0, 0.3):
        plain = anchor_scores(anchors, proposals, metric) > threshold
        assert torch.equal(filter_anchors(anchors, proposals, metric, threshold), plain)
        assert plain.any()


def test_few_pairs_are_scored(monkeypatch):
    """Otherwise it would be exact for the wrong reason, and slow."""
    pairs = []

    def count(anchors, proposals, metric):
        pairs.append(len(anchors) * len(proposals))
        return anchor_scores(anchors, proposals, metric)

    monkeypatch.setattr(anchor_filter, "anchor_scores", count)
    monkeypatch.setattr(anchor_filter, "_CHUNK", 500)
    anchors = torch.cat([a.tensor for a in make_anchors(288, 512)])
    proposals = random_proposals(300, seed=5, height=288, width=512)
    for metric, threshold in (("ioa", 0.1), ("iou", 0.4)):
        pairs.clear()
        filter_anchors(anchors, proposals, metric, threshold)
        assert sum(pairs) < 0.25 * len(anchors) * len(proposals)
