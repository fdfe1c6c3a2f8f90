"""A class for every pixel as regions: an instance of each class, drawn and written as any."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import BitMasks, Instances

__all__ = ["regions_of", "with_regions"]


def regions_of(sem_seg: torch.Tensor, background: int = -1) -> Instances:
    """The region of each class that is there.

    Args:
        sem_seg: (K, H, W) logits.
        background: class without a region; -1: none.

    Returns:
        N <= K instances with ``pred_masks`` (N, H, W), ``pred_boxes`` around them, ``pred_classes``
        in rising order, and ``scores``: the mean probability of the class in its region.
    """
    probability, label = sem_seg.float().softmax(dim=0).max(dim=0)
    classes = [c for c in label.unique().tolist() if c != background]
    regions = Instances(tuple(label.shape))
    numbers = torch.tensor(classes, dtype=torch.int64, device=label.device)
    regions.pred_masks = label[None] == numbers[:, None, None]
    regions.pred_boxes = BitMasks(regions.pred_masks).get_bounding_boxes().to(label.device)
    scores = [probability[mask].mean() for mask in regions.pred_masks]
    regions.scores = torch.stack(scores) if scores else probability.new_zeros(0)
    regions.pred_classes = numbers
    return regions


def with_regions(output: dict[str, Any], background: int = -1) -> dict[str, Any]:
    """An output with :func:`regions_of` as ``instances``, if ``sem_seg`` is all that it has."""
    if "sem_seg" not in output or "instances" in output:
        return output
    return {**output, "instances": regions_of(output["sem_seg"], background)}
