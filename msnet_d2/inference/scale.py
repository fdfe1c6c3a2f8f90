"""How large objects are for the network, compared with those that it was trained on."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["LEAST_SCALE", "relative_scale"]

# Below a quarter of the trained size an object of 32 pixels has 8, half a cell of the ROI heads.
LEAST_SCALE = 0.25


def relative_scale(cfg: CfgNode, height: int, width: int) -> float:
    """Scale at which the network sees a picture, over the smallest one that it was trained at.

    A pixel is taken to cover as much ground as in training. The scale of training follows from
    ``INPUT.TRAIN_IMAGE_SIZE``; where that is not known, it is taken to be 1.

    Args:
        cfg: of the model.
        height, width: of the picture, in pixels.
    """
    trained = 1.0
    if len(cfg.INPUT.TRAIN_IMAGE_SIZE) == 2:
        smallest = min(cfg.INPUT.MIN_SIZE_TRAIN)
        trained = _scale(smallest, cfg.INPUT.MAX_SIZE_TRAIN, *cfg.INPUT.TRAIN_IMAGE_SIZE)
    return _scale(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, height, width) / trained


def _scale(shortest: int, longest: int, height: int, width: int) -> float:
    """Factor of Detectron2's ``ResizeShortestEdge``; a shortest edge of 0 means no resizing."""
    if shortest == 0:
        return 1.0
    return min(shortest / min(height, width), longest / max(height, width))
