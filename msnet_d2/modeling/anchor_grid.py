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

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes

from .anchor_sampling import box_areas, box_tensor, check_metric, sample_anchors

__all__ = ["sample_anchor_grid"]

# Relative margin on the overlap needed, and margin on coordinates in pixels and relative to the
# largest of them. Float32 is good for about 1e-7 an operation; a handful follow each other.
_RELATIVE = 1e-4
_PIXELS = 1e-3
_PIXELS_RELATIVE = 1e-6


def sample_anchor_grid(
    anchors: Sequence[Boxes],
    grid_sizes: Sequence[tuple[int, int]],
    proposals: Boxes | torch.Tensor,
    metric: str = "ii",
    threshold: float = 0.1,
) -> torch.Tensor:
    """Which anchors the part RPN uses: those that score strictly above the threshold.

    Args:
        anchors: per level, the H * W * A boxes that ``DefaultAnchorGenerator`` makes: shapes vary
            fastest, then columns, then rows.
        grid_sizes: per level, (H, W).
        proposals: (P, 4).
        metric: "ii" or "iou".
        threshold: S of the paper.

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
    # Those without area keep nothing under either metric.
    proposals = proposals[box_areas(proposals) > 0]
    if len(proposals) == 0 or len(everything) == 0:
        return torch.zeros(len(everything), dtype=torch.bool, device=everything.device)

    largest = max(float(everything.abs().amax()), float(proposals.abs().amax()))
    margin = _PIXELS + _PIXELS_RELATIVE * largest
    certain, possible = [], []
    for level, (height, width) in zip(tensors, grid_sizes):
        grid = level.view(height, width, -1, 4)
        shapes = [
            _passing(grid[:, :, a], proposals, metric, threshold, margin)
            for a in range(grid.shape[2])
        ]
        for of_all, masks in zip((certain, possible), zip(*shapes)):
            of_all.append(torch.stack(masks, dim=-1).flatten())
    kept = torch.cat(certain)
    unsure = (torch.cat(possible) & ~kept).nonzero().squeeze(1)
    kept[unsure] = sample_anchors(everything[unsure], proposals, metric, threshold)
    return kept


def _passing(
    grid: torch.Tensor, proposals: torch.Tensor, metric: str, threshold: float, margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions at which the anchors of one shape pass for certain, and those at which they may.

    Args:
        grid: (H, W, 4) the anchors.
        proposals: (P, 4), none empty.
        metric: "ii" or "iou".
        threshold: S.
        margin: of lengths, in pixels.

    Returns:
        Two (H, W) bool.
    """
    height, width = grid.shape[:2]
    x1, _, x2, _ = grid[0, 0].tolist()
    step = (grid[0, -1, 0].item() - x1) / max(width - 1, 1) or 1.0
    needed = _needed_overlap(grid[0, 0], proposals, metric, threshold)

    # Pairs of a proposal and a row of anchors that overlap along y; the rest is of these alone.
    overlap_y = torch.minimum(grid[:, 0, 3], proposals[:, 3, None])
    overlap_y.sub_(torch.maximum(grid[:, 0, 1], proposals[:, 1, None]))
    pair, row = (overlap_y > -margin).nonzero(as_tuple=True)
    overlap_y, needed = overlap_y[pair, row], needed[pair]
    px1, px2 = proposals[pair, 0], proposals[pair, 2]
    longest = torch.clamp(px2 - px1, max=x2 - x1)  # overlap along x that there can be

    masks = []
    for slack, relative in ((-margin, _RELATIVE), (margin, -_RELATIVE)):
        t = needed * (1 + relative) / (overlap_y + slack)
        # The overlap along x is at least t where the anchor ends no sooner than t after the
        # proposal begins, and begins no later than t before it ends; if both are as long as t.
        first = (px1 + t).sub_(x2 + slack).div_(step).ceil_().clamp_(0, width)
        last = (px2 - t).sub_(x1 - slack).div_(step).floor_().clamp_(-1, width - 1)
        valid = (overlap_y + slack > 0) & (t <= longest + slack) & (first <= last)
        start = row[valid] * (width + 1)
        bins = height * (width + 1)
        begun = torch.bincount(start + first[valid].long(), minlength=bins)
        ended = torch.bincount(start + last[valid].long() + 1, minlength=bins)
        open_intervals = begun.sub_(ended).view(height, width + 1).cumsum(dim=1)
        masks.append(open_intervals[:, :width] > 0)
    return masks[0], masks[1]


def _needed_overlap(
    anchor: torch.Tensor, proposals: torch.Tensor, metric: str, threshold: float
) -> torch.Tensor:
    """(P,) area of intersection at which the score of an anchor equals the threshold.

    Inner intersection: I / A = S at I = S · A. Intersection over union: I / (A + p − I) = S at
    I = (A + p) · S / (1 + S).
    """
    area = box_areas(anchor[None])
    if metric == "ii":
        return (threshold * area).expand(len(proposals))
    return (area + box_areas(proposals)) * (threshold / (1 + threshold))
