"""RoIAlign of maps that are known at some positions alone, and which positions those must be.

RoIAlign here is aligned, with adaptive sampling, as Detectron2's ROIAlignV2 with sampling ratio 0.
Shape letters: B images, D channels, H × W positions of a map, N boxes, M known positions, R cells
of a box per side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

__all__ = ["pixels_read_by_roi_align", "pool_by_map", "pool_by_rows"]

# A sample point this close to a pixel border may fall on either side of it, as RoIAlign computes in
# float32.
_ROUNDING = 1e-2


def pixels_read_by_roi_align(
    boxes: Tensor, image: Tensor, shape: tuple[int, int, int], resolution: int
) -> Tensor:
    """Which pixels of a map RoIAlign gives a weight other than zero.

    Along either axis a box [a, b] is divided into ``resolution`` cells and each cell is sampled at
    ceil(cell size) equidistant points. They are at most one pixel apart, so the two pixels on
    either side of each point are together one run, from the pixel before the first point to the
    pixel after the last; and what the box reads is the product of its two runs. A point within one
    pixel outside the map reads the pixel at the border, one further outside reads none. An empty
    box has no points.

    Args:
        boxes: (N, 4) (x0, y0, x1, y1) in pixels of the map.
        image: (N,) int64, on which image of the batch each box is.
        shape: (B, H, W) of the map.
        resolution: R.

    Returns:
        (B, H, W) bool. All pixels that are read are set, and by rounding perhaps a few on the
        border of a box that are not.
    """
    batch, height, width = shape
    x0, x1, any_x = _run(boxes[:, 0], boxes[:, 2], width, resolution)
    y0, y1, any_y = _run(boxes[:, 1], boxes[:, 3], height, resolution)
    keep = any_x & any_y
    x0, x1, y0, y1, image = (v[keep] for v in (x0, x1, y0, y1, image))
    # The union of the rectangles, by the summed differences at their corners.
    counts = torch.zeros((batch, height + 1, width + 1), dtype=torch.int32, device=boxes.device)
    one = torch.ones_like(image, dtype=torch.int32)
    for y, x, sign in ((y0, x0, 1), (y0, x1 + 1, -1), (y1 + 1, x0, -1), (y1 + 1, x1 + 1, 1)):
        counts.index_put_((image, y, x), sign * one, accumulate=True)
    return counts.cumsum(1).cumsum(2)[:, :height, :width] > 0


def pool_by_map(
    rows: Tensor, read: Tensor, boxes: Tensor, image: Tensor, resolution: int
) -> Tensor:
    """RoIAlign of a whole map that is zero where it is not known: few calls, as suits a GPU.

    Args:
        rows: (M, D) float32, the map where ``read`` is set, row by row.
        read: (B, H, W) bool, of :func:`pixels_read_by_roi_align`.
        boxes: (N, 4) in pixels of the map, none of them empty.
        image: (N,) int64.
        resolution: R.

    Returns:
        (N, D, R, R).
    """
    at = read.flatten().nonzero().squeeze(1)
    # Scattered with the channels first: half the time of channels last.
    sparse = rows.new_zeros((rows.shape[1], read.numel())).index_copy_(1, at, rows.T)
    sparse = sparse.unflatten(1, read.shape).transpose(0, 1)
    rois = torch.cat([image[:, None].to(boxes), boxes], dim=1)
    return roi_align(sparse, rois, resolution, aligned=True)


def pool_by_rows(
    rows: Tensor, read: Tensor, boxes: Tensor, image: Tensor, resolution: int
) -> Tensor:
    """The same box by box, without a map: on a CPU, clearing one takes longer than all the rest.

    The bilinear weights of RoIAlign are products of weights along the axes, so that a box is
    W_y · patch · W_xᵀ for each channel, where the patch is the rectangle that the box reads.

    Args, returns: of :func:`pool_by_map`; equal up to the order of summation.
    """
    height, width = read.shape[1:]
    number = torch.full(read.shape, -1, dtype=torch.int64, device=rows.device)
    number[read] = torch.arange(len(rows), device=rows.device)
    weights_x, x0, x1 = _weights(boxes[:, 0], boxes[:, 2], width, resolution)
    weights_y, y0, y1 = _weights(boxes[:, 1], boxes[:, 3], height, resolution)
    x0, x1, y0, y1, image = (v.tolist() for v in (x0, x1, y0, y1, image))
    pooled = []
    for n in range(len(boxes)):
        across, down = x1[n] - x0[n] + 1, y1[n] - y0[n] + 1
        if across <= 0 or down <= 0:
            pooled.append(rows.new_zeros((resolution, resolution, rows.shape[1])))
            continue
        own = number[image[n], y0[n] : y1[n] + 1, x0[n] : x1[n] + 1].flatten()
        patch = rows.index_select(0, own).view(down, -1)
        lines = (weights_y[n, :, :down] @ patch).view(resolution, across, -1)
        pooled.append(weights_x[n, :, :across] @ lines)
    return torch.stack(pooled).permute(0, 3, 1, 2)


def _run(a: Tensor, b: Tensor, size: int, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """First and last pixel that boxes [a, b] read along an axis of ``size`` pixels, and whether
    they read any."""
    a, b = a.double() - 0.5, b.double() - 0.5
    cell = (b - a) / resolution
    # Where rounding could make a point more or less it is taken as more: then they reach further
    # out.
    points = torch.ceil(cell + _ROUNDING).clamp(min=1)
    first = a + cell / points / 2 - _ROUNDING
    last = b - cell / points / 2 + _ROUNDING
    reads = (b > a) & (last >= -1) & (first <= size)
    low = first.floor().clamp(0, size - 1).long()
    high = (last.floor() + 1).clamp(0, size - 1).long()
    return low, high, reads


def _weights(a: Tensor, b: Tensor, size: int, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each pixel along an axis weighs in each cell of boxes [a, b].

    Computed in the steps and in the precision of RoIAlign, so that points fall where it puts them.

    Returns:
        (N, R, L) weights of the pixels from the box's first on, the first pixel, and the last; the
        last is the one before the first where nothing is read.
    """
    low, high, reads = _run(a, b, size, resolution)
    high = torch.where(reads, high, low - 1)
    longest = int((high - low).max()) + 1 if len(a) else 0
    start, cell = a - 0.5, ((b - 0.5) - (a - 0.5)) / resolution
    points = cell.ceil()  # none where a box is so thin that its sides are equal after rounding
    step = torch.arange(int(points.max()) if len(a) else 0, device=a.device)
    first = start[:, None] + torch.arange(resolution, device=a.device) * cell[:, None]
    within = (step + 0.5) * cell[:, None] / points[:, None].clamp(min=1)
    place = first[:, :, None] + within[:, None, :]
    counts = (step < points[:, None])[:, None, :] & (place >= -1) & (place <= size)
    place = place.clamp(0, size - 1)  # beyond the last pixel's centre it is that pixel's alone
    before = place.floor()
    share = place - before
    weights = a.new_zeros((len(a), resolution, max(longest, 0) + 1))
    for pixel, weight in ((before, 1 - share), (before + 1, share)):
        at = (pixel.long() - low[:, None, None]).clamp(0, weights.shape[2] - 1)
        weight = torch.where(counts, weight / points[:, None, None].clamp(min=1), 0.0)
        weights.scatter_add_(2, at, weight)
    return weights, low, high
