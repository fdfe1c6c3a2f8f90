"""Losses of a class for every pixel, and the head that all networks here share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import nn

from msnet_d2.errors import ConfigError

__all__ = ["LOSSES", "PixelHead", "dice_loss", "segmentation_loss"]

LOSSES = ("cross_entropy", "dice", "cross_entropy+dice", "cross_entropy_sum")
# The authors' largest is 1e-10; with a mean loss, 1e-4 is usual. Between them lies a mistake.
_LARGEST_LR_OF_SUM = 1e-6


def dice_loss(logits: torch.Tensor, targets: torch.Tensor, ignored: int = 255) -> torch.Tensor:
    """Soft Dice, 1 − 2 Σ p·t / (Σ p + Σ t) over the pixels of a batch, mean of its classes.

    Args:
        logits: (N, K, H, W).
        targets: (N, H, W) int64 classes; ``ignored`` counts in no sum.
        ignored: label without a class.

    Returns:
        A scalar from 0 to 1. Classes that ``targets`` lack are left out of the mean; with none at
        all it is 0.
    """
    counted = targets != ignored
    probability = logits.float().softmax(dim=1) * counted[:, None]
    one_hot = F.one_hot(targets.where(counted, 0), logits.shape[1]).movedim(-1, 1)
    truth = (one_hot * counted[:, None]).to(probability.dtype)
    over = (0, 2, 3)
    common, total = (probability * truth).sum(over), (probability + truth).sum(over)
    present = truth.sum(over) > 0
    if not present.any():
        return logits.sum() * 0
    return (1 - 2 * common / total.clamp(min=1e-6))[present].mean()


def segmentation_loss(
    name: str, logits: torch.Tensor, targets: torch.Tensor, ignored: int = 255
) -> torch.Tensor:
    """One of :data:`LOSSES`; 0 where every pixel is ignored.

    Args:
        name: which.
        logits: (N, K, H, W).
        targets: (N, H, W) int64.
        ignored: label without a class.
    """
    if not (targets != ignored).any():
        return logits.sum() * 0  # the mean of nothing is NaN
    loss = logits.new_zeros((), dtype=torch.float32)
    if name.startswith("cross_entropy"):
        reduction = "sum" if name.endswith("_sum") else "mean"
        loss = loss + F.cross_entropy(
            logits.float(), targets, ignore_index=ignored, reduction=reduction
        )
    if name.endswith("dice"):
        loss = loss + dice_loss(logits, targets, ignored)
    return loss


class PixelHead(nn.Module):
    """A head of Detectron2's ``SemanticSegmentor``; subclasses compute :meth:`logits`."""

    def __init__(self, cfg: CfgNode):
        """Read number of classes and loss.

        Raises:
            ConfigError: if there is no such loss, or a summed one with the rate of a mean.
        """
        super().__init__()
        self.num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        self.ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        self.loss_weight = cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT
        self.loss = cfg.MODEL.SEGMENTOR.LOSS
        if self.loss not in LOSSES:
            raise ConfigError(
                f"MODEL.SEGMENTOR.LOSS is {self.loss!r}; there are: {', '.join(LOSSES)}"
            )
        if self.loss == "cross_entropy_sum" and cfg.SOLVER.BASE_LR > _LARGEST_LR_OF_SUM:
            raise ConfigError(
                f"SOLVER.BASE_LR is {cfg.SOLVER.BASE_LR:g} with MODEL.SEGMENTOR.LOSS "
                "cross_entropy_sum, which is summed over all pixels: set 1e-10, or the loss "
                "cross_entropy"
            )

    def logits(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H, W) in the resolution of the picture."""
        raise NotImplementedError

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Return the losses in training, the logits else.

        Args:
            features: of the backbone.
            targets: (N, H, W) int64, in training.
        """
        logits = self.logits(features)
        if not self.training:
            return logits, {}
        assert targets is not None, "training needs labels"
        loss = segmentation_loss(self.loss, logits, targets, self.ignore_value)
        return None, {"loss_sem_seg": loss * self.loss_weight}
