"""The choice of :func:`.anchor_sampling.sample_anchors` on regular grids, quickly.

An anchor of a feature map is one of A shapes at one of H × W positions. For one shape, one row of
positions and one proposal, the overlap along y is a number, and the anchor passes where that along
x is at least some t (see :func:`_needed_overlap`). As a function of the column it rises, stays and
falls, so the columns that pass are one interval, whose ends follow by division. Intervals are
united by counting their beginnings and ends along the row. That is O(P · H) work for a shape in
place of O(P · H · W).

Rounding: the intervals are computed twice, once a little too narrow and once a little too wide.
What lies in the first passes for certain, what lies outside the second does not, and the few
anchors between are scored by the plain definition. So the choice is exactly that of the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Boxes

from msnet_d2.modeling.proposal_generator.anchor_filter import (
    box_areas,
    box_tensor,
    check_metric,
    sample_anchors,
)

__all__ = ["sample_anchor_grid"]

# Relative margin on the overlap needed, and margin on coordinates in pixels and relative to the
# largest of them. Float32 is good for about 1e-7 an operation; a handful follow each other.
_RELATIVE = 1e-4
_PIXELS = 1e-3
_PIXELS_RELATIVE = 1e-6

# Areas and lengths below all that matter, and a factor that makes any length exceed any frame.
_TINY = 1e-20
_TINIER = 1e-30
_HUGE = 1e30

# Pairs of a proposal and a row that are held at a time where all of them are computed.
_BLOCK_ELEMENTS = 1 << 23


def sample_anchor_grid(
    anchors: Sequence[Boxes],
    grid_sizes: Sequence[tuple[int, int]],
    proposals: Boxes | torch.Tensor,
    metric: str = "ioa",
    threshold: float = 0.1,
    *,
    dense: bool | None = None,
) -> torch.Tensor:
    """Which anchors the part RPN uses: those that score strictly above the threshold.

    Args:
        anchors: per level, the H * W * A boxes that ``DefaultAnchorGenerator`` makes: shapes vary
            fastest, then columns, then rows.
        grid_sizes: per level, (H, W).
        proposals: (P, 4).
        metric: "ioa" or "iou".
        threshold: S of the paper.
        dense: how it is computed, which the result does not depend on. False: shape by shape, and
            only the pairs of a proposal and a row that overlap, as suits a CPU. True: all pairs and
            shapes at once, as suits a GPU: few launches, after which the host waits for the device
            once. None: what suits the device.

    Returns:
        (R,) bool, over all levels together; equal to that of :func:`sample_anchors`.

    Raises:
        ConfigError: if the metric is unknown.
    """
    check_metric(metric)
    tensors = [box_tensor(level) for level in anchors]
    everything = torch.cat(tensors)
    if threshold < 0:
        return torch.ones(len(everything), dtype=torch.bool, device=everything.device)
    proposals = box_tensor(proposals)
    dense = proposals.is_cuda if dense is None else dense
    # Those without area keep nothing under either metric.
    solid = box_areas(proposals) > 0
    if dense:
        proposals = torch.where(solid[:, None], proposals, torch.zeros_like(proposals))
    else:
        proposals = proposals[solid]
    if len(proposals) == 0 or len(everything) == 0:
        return torch.zeros(len(everything), dtype=torch.bool, device=everything.device)

    grids = [level.view(*size, -1, 4) for level, size in zip(tensors, grid_sizes)]
    # The largest coordinates of a grid are in its corners.
    corners = [grid[[0, -1], [0, -1]].reshape(-1, 4) for grid in grids]
    margin = _PIXELS + _PIXELS_RELATIVE * torch.cat([proposals, *corners]).abs().amax()
    rows = _rows(grids)
    if dense:
        rows = _together(rows, max(1, _BLOCK_ELEMENTS // len(proposals)))
    # One count more a row than it has columns, for the intervals that end with it.
    bins = sum(grid[..., 0].numel() + grid[:, 0, :, 0].numel() for grid in grids)
    counts = torch.zeros(2, bins, dtype=torch.int32, device=everything.device)
    for block in rows:
        _count_intervals(counts, block, proposals, metric, threshold, margin, dense)

    # Each row's counts add up to zero, so that all rows can be summed as one.
    kept, possible = _by_anchor(counts.cumsum(dim=1, dtype=counts.dtype) > 0, grids)
    unsure = (possible & ~kept).nonzero().squeeze(1)
    kept[unsure] = sample_anchors(everything[unsure], proposals, metric, threshold)
    return kept


@dataclass(frozen=True)
class _Rows:
    """Rows of anchors of one shape each. Row i has the fields' i-th values, or their only ones.

    Attributes:
        x1, y1, x2, y2: the anchor in the first column.
        area: of an anchor.
        step: pixels from column to column.
        columns: how many there are.
        start: int64, where the row's counts begin.
    """

    x1: torch.Tensor
    y1: torch.Tensor
    x2: torch.Tensor
    y2: torch.Tensor
    area: torch.Tensor
    step: torch.Tensor
    columns: torch.Tensor
    start: torch.Tensor


def _rows(grids: Sequence[torch.Tensor]) -> Iterator[_Rows]:
    """The rows of each shape of each level, (H, W, A, 4)."""
    start = 0
    for grid in grids:
        height, width, shapes = grid.shape[:3]
        for shape in range(shapes):
            first = grid[:, 0, shape]
            step = first.new_ones(())
            if width > 1:
                step = (grid[0, -1, shape, 0] - first[0, 0]) / (width - 1)
            yield _Rows(
                x1=first[0, 0],
                y1=first[:, 1],
                x2=first[0, 2],
                y2=first[:, 3],
                area=box_areas(first[:1])[0],
                step=step,
                columns=torch.full_like(step, width),
                start=torch.arange(height, device=grid.device) * (width + 1) + start,
            )
            start += height * (width + 1)


def _together(rows: Iterator[_Rows], most: int) -> Iterator[_Rows]:
    """The same rows in blocks of ``most`` whatever their shape; every field has a value a row."""
    columns = [[value.expand(len(block.start)) for value in vars(block).values()] for block in rows]
    for parts in zip(*(torch.cat(values).split(most) for values in zip(*columns))):
        yield _Rows(*parts)


def _count_intervals(
    counts: torch.Tensor,
    rows: _Rows,
    proposals: torch.Tensor,
    metric: str,
    threshold: float,
    margin: torch.Tensor,
    dense: bool,
) -> None:
    """Count where intervals of columns that pass begin (+1) and where they are over (-1), in place.

    Nothing here asks whether a pair passes: an interval of one that does not is empty, and begins
    and is over at the same place. On a CPU such a choice costs more than all the arithmetic.

    Args:
        counts: (2, bins) int32, of anchors that pass for certain and of those that may.
        rows: M of them; unless ``dense`` of one shape.
        proposals: (P, 4), finite; empty ones keep nothing.
        metric: "ioa" or "iou".
        threshold: S.
        margin: of lengths, in pixels.
        dense: see :func:`sample_anchor_grid`.
    """
    px1, py1, px2, py2 = proposals.unsqueeze(1).unbind(dim=2)  # (P, 1) each
    start = rows.start
    overlap_y = torch.minimum(rows.y2, py2).sub_(torch.maximum(rows.y1, py1))  # (P, M)
    longest = torch.minimum(px2 - px1, rows.x2 - rows.x1)  # overlap along x that there can be
    needed = _needed_overlap(rows.area, (px2 - px1) * (py2 - py1), metric, threshold)
    if not dense:
        reachable = (overlap_y + margin) * (longest + margin) >= needed * (1 - _RELATIVE)
        # torch's nonzero takes ten times as long as numpy's on one thread.
        at = torch.from_numpy(np.flatnonzero(reachable.numpy()))
        pair = torch.repeat_interleave(reachable.sum(dim=1))
        overlap_y = overlap_y.view(-1)[at]
        start = start[at.sub_(pair * len(start))]
        needed, longest, px1, px2 = (
            x.expand(len(proposals), 1)[:, 0][pair] for x in (needed, longest, px1, px2)
        )

    for count, slack, relative in zip(counts, (-margin, margin), (_RELATIVE, -_RELATIVE)):
        # What does not overlap along y, if only by nothing, needs more than there is.
        t = (needed * (1 + relative) + _TINY) / (overlap_y + slack).clamp_(min=_TINIER)
        # If t is longer than what there can be, the interval is to be empty.
        t.add_((t - (longest + slack)).clamp_(min=0).mul_(_HUGE))
        # The overlap along x is at least t where the anchor ends no sooner than t after the
        # proposal begins, and begins no later than t before it ends; if both are as long as t.
        first = (px1 + t).sub_(rows.x2 + slack).div_(rows.step).ceil_().clamp_(min=0)
        first = torch.minimum(first, rows.columns)
        over = (px2 - t).sub_(rows.x1 - slack).div_(rows.step).floor_().add_(1)
        over = torch.maximum(torch.minimum(over, rows.columns), first)
        one = count.new_ones(()).expand(first.numel())
        count.scatter_add_(0, first.long().add_(start).view(-1), one)
        count.scatter_add_(0, over.long().add_(start).view(-1), -one)


def _needed_overlap(
    own_area: torch.Tensor, area: torch.Tensor, metric: str, threshold: float
) -> torch.Tensor:
    """Area of intersection at which the score of an anchor equals the threshold.

    Inner intersection: I / A = S at I = S · A. Intersection over union: I / (A + p − I) = S at
    I = (A + p) · S / (1 + S).
    """
    if metric == "ioa":
        return threshold * own_area
    return (own_area + area) * (threshold / (1 + threshold))


def _by_anchor(marks: torch.Tensor, grids: Sequence[torch.Tensor]) -> torch.Tensor:
    """(2, bins) by level, shape, row and column -> (2, R) in the order of the anchors."""
    result, start = [], 0
    for grid in grids:
        height, width, shapes = grid.shape[:3]
        size = shapes * height * (width + 1)
        level = marks[:, start : start + size].view(2, shapes, height, width + 1)
        result.append(level[..., :width].permute(0, 2, 3, 1).flatten(1))
        start += size
    return torch.cat(result, dim=1)
