"""Which anchors lie in the parent proposals (paper, section 4.2).

Shape shorthand in this module:

    R: number of anchors (of one image, all feature maps together)
    P: number of parent proposals of the same image

Boxes are (x1, y1, x2, y2) in pixels, without the "+1" of older detectors: the area is (x2 - x1) *
(y2 - y1).
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes

from msnet_d2.errors import ConfigError

__all__ = ["METRICS", "anchor_scores", "canonical_metric", "filter_anchors"]

METRICS = ("ioa", "iou")
# The paper's name of intersection over the anchor's area: inner intersection.
_PAPER_NAMES = {"ii": "ioa"}

# Anchors x proposals held at a time. Two such blocks of float32 stay within a core's cache on a CPU
# (2 MiB); a GPU wants fewer, larger launches and has the memory for them.
_BLOCK_ELEMENTS_CPU = 1 << 18
_BLOCK_ELEMENTS_CUDA = 1 << 24
# Anchors filtered at a time on a CPU, and proposals (the largest) tried on all of them before the
# rest is tried on those that did not pass. Tuned with benchmarks/anchors.py.
_CHUNK = 4096
_FIRST = 16
# Proposals at a time in a traced model, in which anchors are not parted.
_TRACED_PROPOSALS = 16


def canonical_metric(metric: str) -> str:
    """The name in :data:`METRICS` of a metric, for which the paper's "ii" may stand too.

    Raises:
        ConfigError: if there is no such metric.
    """
    metric = _PAPER_NAMES.get(metric, metric)
    if metric not in METRICS:
        raise ConfigError(
            f"MODEL.HRPN.METRIC is {metric!r}; expected one of {', '.join(map(repr, METRICS))}"
        )
    return metric


def anchor_scores(
    anchors: Boxes | torch.Tensor,
    proposals: Boxes | torch.Tensor,
    metric: str = "ioa",
    *,
    block_elements: int | None = None,
) -> torch.Tensor:
    """Largest overlap of each anchor A with a parent proposal p.

    * "ioa", intersection over the anchor's area: ``max_p |A ∩ p| / |A|`` (the paper's inner
      intersection);
    * "iou", intersection over union: ``max_p |A ∩ p| / |A ∪ p|``.

    The R × P matrix is computed in blocks of anchors and never held whole.

    Args:
        anchors: (R, 4).
        proposals: (P, 4). Proposals without area or with a coordinate that is not finite count as
            absent.
        metric: one of :data:`METRICS`, or "ii" for "ioa".
        block_elements: number of anchor-proposal pairs held at a time, at least those of one
            anchor. The result does not depend on it. None: what suits the device.

    Returns:
        (R,) float32 in [0, 1]. 0 if P = 0, and for anchors without area or with a coordinate that
        is not finite.

    Raises:
        ConfigError: if the metric is unknown.
    """
    metric = canonical_metric(metric)
    anchors = box_tensor(anchors)
    proposals = box_tensor(proposals)
    if torch.jit.is_tracing():
        proposals = _without_invalid(proposals)
        return _scores_in_a_trace(anchors, proposals, metric == "iou", _TRACED_PROPOSALS)
    scores = anchors.new_zeros(len(anchors))
    # No selection by a mask here: it would make the host wait for the device. What must not count
    # is made empty.
    anchor_areas = box_areas(anchors)
    proposals = _without_invalid(proposals)
    if len(proposals) == 0 or len(anchors) == 0:
        return scores
    proposal_areas = box_areas(proposals)

    if block_elements is None:
        block_elements = _BLOCK_ELEMENTS_CUDA if anchors.is_cuda else _BLOCK_ELEMENTS_CPU
    block = max(1, block_elements // len(proposals))
    for start in range(0, len(anchors), block):
        part = slice(start, start + block)
        overlap = _intersections(anchors[part], proposals)
        if metric == "iou":
            union = anchor_areas[part, None] + proposal_areas
            overlap.div_(union.sub_(overlap))
        torch.amax(overlap, dim=1, out=scores[part])
    if metric == "ioa":
        # Dividing the largest intersection gives the same bits as the largest quotient: division by
        # a positive number keeps the order, rounding included.
        scores.div_(anchor_areas)
    return torch.where(anchor_areas > 0, scores, torch.zeros_like(scores))


@torch.jit.script_if_tracing
def _scores_in_a_trace(
    anchors: torch.Tensor, proposals: torch.Tensor, iou: bool, block: int
) -> torch.Tensor:
    """The same scores in blocks of proposals, with a loop that a trace keeps as a loop."""
    areas = (anchors[:, 2] - anchors[:, 0]).clamp(min=0) * (anchors[:, 3] - anchors[:, 1]).clamp(
        min=0
    )
    best = torch.zeros_like(areas)
    for start in range(0, proposals.shape[0], block):
        part = proposals[start : start + block]
        low = torch.maximum(anchors[:, None, :2], part[None, :, :2])
        high = torch.minimum(anchors[:, None, 2:], part[None, :, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=2)
        if iou:
            parts = (part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1])
            overlap = overlap / (areas[:, None] + parts - overlap)
        best = torch.maximum(best, overlap.amax(dim=1))
    if not iou:
        best = best / areas
    return torch.where(areas > 0, best, torch.zeros_like(best)).nan_to_num(0.0)


def filter_anchors(
    anchors: Boxes | torch.Tensor,
    proposals: Boxes | torch.Tensor,
    metric: str = "ioa",
    threshold: float = 0.1,
) -> torch.Tensor:
    """Which anchors the part RPN uses: those that score strictly above the threshold.

    Args:
        anchors: (R, 4). On a CPU the order matters for speed: anchors that follow one another
            should lie close together and be of similar size, as those of a feature map do.
        proposals: (P, 4).
        metric: one of :data:`METRICS`, or "ii" for "ioa".
        threshold: S of the paper; compared as float32, the precision of the scores, so that a score
            of exactly one tenth is not above 0.1. Below 0 all anchors are kept, whatever they are,
            and nothing is computed.

    Returns:
        (R,) bool, equal to ``anchor_scores(...) > threshold``.

    Raises:
        ConfigError: if the metric is unknown.
    """
    metric = canonical_metric(metric)
    anchors = box_tensor(anchors)
    if threshold < 0:
        return torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    if anchors.is_cuda or torch.jit.is_tracing():
        # Choosing proposals by chunk, as below, makes the host wait for the device.
        return anchor_scores(anchors, proposals, metric) > threshold
    anchors, proposals = _without_invalid(anchors), _without_invalid(box_tensor(proposals))
    # Nearly every anchor that passes does so by a large proposal.
    proposals = proposals[box_areas(proposals).argsort(descending=True)]
    kept = anchors.new_zeros(len(anchors), dtype=torch.bool)
    for chunk, passes in zip(anchors.split(_CHUNK), kept.split(_CHUNK)):
        near = proposals[_may_pass(chunk, proposals, metric, threshold)]
        passes.copy_(anchor_scores(chunk, near[:_FIRST], metric) > threshold)
        left = (~passes).nonzero().squeeze(1)
        passes[left] = anchor_scores(chunk[left], near[_FIRST:], metric) > threshold
    return kept


def _may_pass(
    anchors: torch.Tensor, proposals: torch.Tensor, metric: str, threshold: float
) -> torch.Tensor:
    """(P,) bool: whether any of the anchors may score above the threshold with a proposal.

    The intersection is at most as large as either box. So a score above S needs |p| > S |A|, and
    for "iou" also |A| > S |p|.
    """
    overlaps = (proposals[:, :2] < anchors[:, 2:].amax(dim=0)) & (
        proposals[:, 2:] > anchors[:, :2].amin(dim=0)
    )
    areas, own_areas = box_areas(proposals), box_areas(anchors)
    # A little below S, for the rounding of areas.
    threshold = 0.999 * threshold
    large_enough = areas > threshold * own_areas.amin()
    if metric == "iou":
        large_enough &= own_areas.amax() > threshold * areas
    return overlaps.all(dim=1) & large_enough


def box_tensor(boxes: Boxes | torch.Tensor) -> torch.Tensor:
    """(N, 4) float32 without gradient; mixed precision has too few bits for pixel coordinates."""
    tensor = boxes.tensor if isinstance(boxes, Boxes) else boxes
    return tensor.detach().reshape(-1, 4).to(torch.float32)


def box_areas(boxes: torch.Tensor) -> torch.Tensor:
    """(N,) areas; 0 for inverted boxes and those with a coordinate that is not finite."""
    width = (boxes[:, 2] - boxes[:, 0]).clamp_(min=0)
    height = (boxes[:, 3] - boxes[:, 1]).clamp_(min=0)
    return (width * height).nan_to_num_(nan=0.0, posinf=0.0)


def _without_invalid(boxes: torch.Tensor) -> torch.Tensor:
    """``boxes`` with the inverted and not finite ones replaced by an empty box."""
    valid = torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
    return torch.where(valid[:, None], boxes, torch.zeros_like(boxes))


def _intersections(anchors: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
    """(r, P) areas of intersection; two blocks are held."""
    width = torch.minimum(anchors[:, 2, None], proposals[:, 2])
    width.sub_(torch.maximum(anchors[:, 0, None], proposals[:, 0])).clamp_(min=0)
    height = torch.minimum(anchors[:, 3, None], proposals[:, 3])
    height.sub_(torch.maximum(anchors[:, 1, None], proposals[:, 1])).clamp_(min=0)
    return width.mul_(height)
