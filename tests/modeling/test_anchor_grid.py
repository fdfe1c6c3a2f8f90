"""The quick choice of anchors on grids equals the plain definition, ties included."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.proposal_generator import anchor_grid
from msnet_d2.modeling.proposal_generator.anchor_filter import sample_anchors
from msnet_d2.modeling.proposal_generator.anchor_grid import sample_anchor_grid

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
    return generator([torch.zeros(1, 1, *size) for size in grid_sizes]), grid_sizes


def random_proposals(n, seed, *, height=96, width=128, step=None):
    """Boxes in the frame and beyond it, of all sizes; on a grid of ``step`` pixels if given."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.rand(n, 4, generator=generator)
    box[:, :2] = box[:, :2] * torch.tensor([1.4 * width, 1.4 * height]) - 0.2 * width
    box[:, 2:] = box[:, :2] + box[:, 2:] ** 2 * torch.tensor([width, height])
    return (box / step).round() * step if step else box


def assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold):
    plain = sample_anchors(torch.cat([a.tensor for a in anchors]), proposals, metric, threshold)
    for dense in (False, True):  # as on a CPU, and as on a GPU
        quick = sample_anchor_grid(anchors, grid_sizes, proposals, metric, threshold, dense=dense)
        assert torch.equal(quick, plain), f"{int((quick != plain).sum())} differ at {threshold}"
    return plain


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_random_proposals(metric, offset, n):
    anchors, grid_sizes = make_anchors(offset=offset)
    shares = []
    for threshold in THRESHOLDS:
        proposals = random_proposals(n, seed=n)
        kept = assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)
        shares.append(kept.float().mean().item())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert shares[-1] == 0


@pytest.mark.parametrize("metric", ["ioa", "iou"])
@pytest.mark.parametrize("step", [1, 4, 8, 16])
def test_ties(metric, step):
    """Proposals on the lattice of the anchors' centres and edges: many scores hit S exactly."""
    # Ratios of 1/4, 1 and 4 make all sides whole numbers, powers of two.
    anchors, grid_sizes = make_anchors(ratios=[0.25, 1.0, 4.0])
    for threshold in THRESHOLDS:
        proposals = random_proposals(60, seed=step, step=step)
        assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)


def test_there_are_ties_in_the_test_above():
    """Anchors that score exactly S: kept at the float below S and not at S."""
    anchors, grid_sizes = make_anchors(ratios=[0.25, 1.0, 4.0])
    proposals = random_proposals(60, seed=8, step=8)
    below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()
    at = assert_equal_choice(anchors, grid_sizes, proposals, "ioa", 0.5)
    just_below = assert_equal_choice(anchors, grid_sizes, proposals, "ioa", below)
    assert (just_below & ~at).sum() > 10


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_proposals_that_are_anchors(metric):
    """Scores of 1 exactly, and sides that are equal to the bit."""
    anchors, grid_sizes = make_anchors()
    proposals = torch.cat([a.tensor for a in anchors])[::37]
    for threshold in THRESHOLDS:
        assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_odd_proposals(metric):
    """Empty, inverted and not finite ones count as absent; slivers and giants are ordinary."""
    anchors, grid_sizes = make_anchors()
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
            kept = assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)
            if len(proposals) == 4:
                assert not kept.any()


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_large_frames(metric):
    """Coordinates of ten thousand have fewer bits after the point."""
    anchors, grid_sizes = make_anchors(64, 12000)
    proposals = random_proposals(50, seed=3, height=64, width=12000)
    for threshold in (0.0, 0.1, 0.5):
        assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_levels_of_one_row_or_column(metric):
    for height, width in ((64, 256), (256, 64), (3, 3)):
        anchors, grid_sizes = make_anchors(height, width)
        proposals = random_proposals(40, seed=4, height=height, width=width)
        for threshold in (0.0, 0.1, 0.5):
            assert_equal_choice(anchors, grid_sizes, proposals, metric, threshold)


def test_nothing_there():
    anchors, grid_sizes = make_anchors()
    total = sum(map(len, anchors))
    nothing = torch.zeros(0, 4)
    assert sample_anchor_grid(anchors, grid_sizes, nothing, "ioa", 0.0).tolist() == [False] * total
    assert sample_anchor_grid(anchors, grid_sizes, nothing, "ioa", -1.0).all()
    with pytest.raises(ConfigError, match="METRIC is 'dice'"):
        sample_anchor_grid(anchors, grid_sizes, nothing, "dice")


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_rows_in_blocks(metric, monkeypatch):
    """So many proposals that not all pairs are held at a time: here 64 of them with one row."""
    monkeypatch.setattr(anchor_grid, "_BLOCK_ELEMENTS", 64)
    anchors, grid_sizes = make_anchors()
    assert_equal_choice(anchors, grid_sizes, random_proposals(64, seed=6), metric, 0.25)


@pytest.mark.parametrize("metric", ["ioa", "iou"])
def test_few_anchors_need_the_definition(metric, monkeypatch):
    """Otherwise it would be exact for the wrong reason, and slow."""
    scored = []

    def count(anchors, *arguments):
        scored.append(len(anchors))
        return sample_anchors(anchors, *arguments)

    monkeypatch.setattr(anchor_grid, "sample_anchors", count)
    anchors, grid_sizes = make_anchors(288, 512)
    proposals = random_proposals(300, seed=5, height=288, width=512)
    sample_anchor_grid(anchors, grid_sizes, proposals, metric, 0.4)
    assert sum(scored) < 0.01 * sum(map(len, anchors))
