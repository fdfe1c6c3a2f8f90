"""Targets and losses of regions: boundaries, and which regions train the occluder layer."""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["binary_loss", "boundaries", "occluder_rows"]

# The four neighbors of a cell and itself.
_CROSS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


def boundaries(masks: torch.Tensor) -> torch.Tensor:
    """Boundaries of masks, two cells wide: one inside, one outside.

    They are where dilation and erosion by a cross of four neighbors differ. What is out of the
    region is as the cell at its edge, so that an object that goes on beyond it has no boundary
    there.

    Args:
        masks: (B, H, W) bool.

    Returns:
        (B, H, W) bool.
    """
    height, width = masks.shape[1:]
    padded = F.pad(masks[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0] > 0.5
    shifted = torch.stack(
        [padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in _CROSS]
    )
    return shifted.any(0) & ~shifted.all(0)


def binary_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of logits (B, H, W) and targets (B, H, W) bool; 0 if B is 0."""
    if len(logits) == 0:
        return logits.float().sum() * 0
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float())


def occluder_rows(occluders: torch.Tensor) -> torch.Tensor:
    """Which regions train the occluder layer: those with occluders, and at most as many others.

    The others are drawn by torch's generator. The authors' code takes the first of the batch.

    Args:
        occluders: (B, H, W) bool.

    Returns:
        Indices (K,) int64; none if no region has occluders.
    """
    there = occluders.flatten(1).any(1)
    with_occluder, without = there.nonzero()[:, 0], (~there).nonzero()[:, 0]
    drawn = torch.randperm(len(without), device=without.device)[: len(with_occluder)]
    return torch.cat([with_occluder, without[drawn]])
