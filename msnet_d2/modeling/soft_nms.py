"""Soft NMS by masks as the last step of any model."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from torch import nn

from msnet_d2.config.refinement import refines_scores
from msnet_d2.structures.duplicates import mask_soft_nms

__all__ = ["add_mask_soft_nms"]


def add_mask_soft_nms(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Let ``model`` end inference with :func:`.duplicates.mask_soft_nms`, as ``cfg`` says.

    The step follows Detectron2's post-processing: masks are pasted, boxes are in the resolution of
    the output. Order, boxes, classes and masks stay. Scores that are to be refined by other frames
    are left to the refiner, whose last step it is then.

    Args:
        model: takes Detectron2's inputs and returns dicts with "instances".
        cfg: ``TEST.MASK_SOFT_NMS_THRESH`` is read, and whether scores are refined.

    Returns:
        The model, whose state dict and training stay as they are.
    """
    iou_thresh = cfg.TEST.MASK_SOFT_NMS_THRESH
    if iou_thresh < 1:
        model.register_forward_hook(_SoftNMS(iou_thresh, refines_scores(cfg)))
    return model


class _SoftNMS:
    """A forward hook; a class of its own, so that models can be copied and pickled."""

    def __init__(self, iou_thresh: float, refined: bool):
        self._iou_thresh = iou_thresh
        self._refined = refined

    def __call__(self, module: nn.Module, arguments: tuple, outputs: Any) -> None:
        if module.training or not isinstance(outputs, list):
            return
        for inputs, output in zip(arguments[0], outputs):
            waits = self._refined and inputs.get("video_id") is not None
            if "instances" in output and not waits:
                instances = output["instances"]
                instances.scores = mask_soft_nms(instances, self._iou_thresh)
