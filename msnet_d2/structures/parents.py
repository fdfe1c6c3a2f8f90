"""Boxes of parents (the buildings that damaged parts belong to)."""

from __future__ import annotations

import torch
from detectron2.layers import nms
from detectron2.structures import Boxes, Instances
from detectron2.structures.boxes import pairwise_intersection

__all__ = ["assign_parents", "select_parents"]


def select_parents(
    proposals: Instances, *, score_thresh: float, nms_thresh: float, topk: int
) -> Instances:
    """The parents to show among the parent proposals of an image.

    Args:
        proposals: P Instances with ``proposal_boxes`` and ``objectness_logits``.
        score_thresh: proposals of a probability (sigmoid of the logit) not above this are left out.
        nms_thresh: of two proposals that overlap by a larger IoU, the better one stays.
        topk: at most so many are returned.

    Returns:
        Instances with ``pred_boxes`` and ``scores``, best first; empty if there are none.
    """
    scores = proposals.objectness_logits.float().sigmoid()
    above = scores > score_thresh
    boxes, scores = proposals.proposal_boxes[above], scores[above]
    best = nms(boxes.tensor, scores, nms_thresh)[:topk]
    return Instances(proposals.image_size, pred_boxes=boxes[best], scores=scores[best])


def assign_parents(instances: Instances, parents: Instances) -> None:
    """Give each instance the parent it lies in best, in place.

    That is the parent with the largest share of the instance's box inside it (inner intersection),
    and of several the one with the highest score. An instance that lies in none gets the box (0, 0,
    0, 0) and the score 0.

    Args:
        instances: N Instances with ``pred_boxes``. Sets ``pred_parent_boxes`` (Boxes of N) and
            ``parent_scores`` (N,).
        parents: M Instances with ``pred_boxes`` and ``scores``.
    """
    boxes = instances.pred_boxes.tensor
    # One more parent, without area, for instances that lie in none, also where there are none: a
    # traced model cannot branch.
    parent_boxes = torch.cat([parents.pred_boxes.tensor.to(boxes.dtype), boxes.new_zeros(1, 4)])
    parent_scores = torch.cat([parents.scores.to(boxes.dtype), boxes.new_zeros(1)])
    # The instance's own area is the same for all parents, so the largest intersection decides.
    overlap = pairwise_intersection(instances.pred_boxes, Boxes(parent_boxes))  # (N, M + 1)
    largest = overlap.amax(dim=1, keepdim=True)
    candidates = torch.where(overlap == largest, parent_scores, parent_scores.new_tensor(-1.0))
    score, index = candidates.max(dim=1)
    inside = largest[:, 0] > 0
    instances.pred_parent_boxes = Boxes(parent_boxes[index] * inside[:, None])
    instances.parent_scores = score * inside
