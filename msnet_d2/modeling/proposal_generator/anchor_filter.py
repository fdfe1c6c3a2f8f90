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

__all__ = ["METRICS", "anchor_sampling_scores", "check_metric", "sample_anchors"]

METRICS = ("ioa", "iou")

# Anchors x proposals held at a time. Two such blocks of float32 stay within a core's cache on a CPU
# (2 MiB); a GPU wants fewer, larger launches and has the memory for them.
_BLOCK_ELEMENTS_CPU = 1 << 18
_BLOCK_ELEMENTS_CUDA = 1 << 24


def check_metric(metric: str) -> None:
    """Raise ConfigError unless ``metric`` is one of :data:`METRICS`."""
    if metric not in METRICS:
        raise ConfigError(
            f"MODEL.HRPN.METRIC is {metric!r}; expected one of {', '.join(map(repr, METRICS))}"
        )


def anchor_sampling_scores(
    anchors: Boxes | torch.Tensor,
    proposals: Boxes | torch.Tensor,
    metric: str = "ioa",
    *,
    block_elements: int | None = None,
) -> torch.Tensor:
    """How well each anchor A lies in the parent proposals p.

    * "ioa", inner intersection: ``max_p |A ∩ p| / |A|``, the share of the anchor inside a parent;
    * "iou", intersection over union: ``max_p |A ∩ p| / |A ∪ p|``.

    This is the plain definition, computed in blocks of anchors: the R × P matrix is never held
        whole.

    Args:
        anchors: (R, 4).
        proposals: (P, 4). Proposals without area or with a coordinate that is not finite count as
            absent.
        metric: one of :data:`METRICS`.
        block_elements: at most so many anchor-proposal pairs are held at a time (but at least one
            anchor's); the result does not depend on it. None: what suits the device.

    Returns:
        (R,) float32 in [0, 1]. 0 if P = 0, and for anchors without area or with a coordinate that
        is not finite.

    Raises:
        ConfigError: if the metric is unknown.
    """
    check_metric(metric)
    anchors = box_tensor(anchors)
    proposals = box_tensor(proposals)
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
        # Division by a positive number keeps the order, rounding included: dividing the largest
        # intersection gives the same bits as the largest quotient.
        scores.div_(anchor_areas)
    return torch.where(anchor_areas > 0, scores, torch.zeros_like(scores))


def sample_anchors(
    anchors: Boxes | torch.Tensor,
    proposals: Boxes | torch.Tensor,
    metric: str = "ioa",
    threshold: float = 0.1,
) -> torch.Tensor:
    """Which anchors the part RPN uses: those that score strictly above the threshold.

    Args:
        anchors: (R, 4).
        proposals: (P, 4).
        metric: one of :data:`METRICS`.
        threshold: S of the paper; compared as float32, the precision of the scores, so that a score
            of exactly one tenth is not above 0.1. Below 0 all anchors are kept, whatever they are,
            and nothing is computed.

    Returns:
        (R,) bool.

    Raises:
        ConfigError: if the metric is unknown.
    """
    check_metric(metric)
    anchors = box_tensor(anchors)
    if threshold < 0:
        return torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    return anchor_sampling_scores(anchors, proposals, metric) > threshold


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
