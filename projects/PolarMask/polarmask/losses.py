"""What PolarMask is trained on: polar IoU and polar centerness. Tensors in, tensors out."""

from __future__ import annotations

import torch

__all__ = ["polar_centerness", "polar_iou_loss"]


def polar_iou_loss(lengths: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Polar IoU loss of each row (paper, section 3.4): the log of sum max(d, d*) / sum min(d, d*).

    It is 0 where all rays have their targets' lengths, and grows with what is between the two
    contours.

    Args:
        lengths: (Q, R) predicted lengths, positive.
        targets: (Q, R) true lengths, positive.

    Returns:
        (Q,); empty for Q = 0.
    """
    larger = torch.maximum(lengths, targets).sum(dim=1)
    smaller = torch.minimum(lengths, targets).sum(dim=1)
    return torch.log(larger / smaller)


def polar_centerness(lengths: torch.Tensor) -> torch.Tensor:
    """Polar centerness (paper, section 3.3): the root of the shortest ray's length by the
    longest's.

    Args:
        lengths: (Q, R), positive.

    Returns:
        (Q,) in (0, 1]: 1 in the middle of a circle, near 0 beside the contour.
    """
    return torch.sqrt(lengths.amin(dim=1) / lengths.amax(dim=1))
