"""A second stage for parents: ROI heads of one class on the parent proposals. Beyond the paper.

In the paper parents are proposals of an RPN, which is enough to choose anchors by. As detections,
to be shown or mapped, they are rough: an RPN's boxes are regressed once, and its scores know
nothing of what is in a box but its centre.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROIHeads, build_roi_heads
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage

__all__ = [
    "build_parent_roi_heads",
    "detect_parents",
    "parent_roi_losses",
    "parent_roi_sources",
]


def build_parent_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> ROIHeads | None:
    """Build the heads that MODEL.HRPN.PARENT_ROI_HEADS names; None if it is empty.

    They are configured as the parts' (MODEL.ROI_BOX_HEAD …), but for one class, without masks and
    keypoints, with thresholds of their own.
    """
    if not cfg.MODEL.HRPN.PARENT_ROI_HEADS:
        return None
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    heads, parents = cfg.MODEL.ROI_HEADS, cfg.MODEL.HRPN
    heads.NAME = parents.PARENT_ROI_HEADS
    heads.NUM_CLASSES = 1
    heads.PARENT_CLASS = -1
    heads.BATCH_SIZE_PER_IMAGE = parents.PARENT_BATCH_SIZE_PER_IMAGE
    heads.SCORE_THRESH_TEST = parents.PARENT_SCORE_THRESH_TEST
    heads.NMS_THRESH_TEST = parents.PARENT_NMS_THRESH_TEST
    cfg.TEST.DETECTIONS_PER_IMAGE = parents.PARENT_DETECTIONS_PER_IMAGE
    cfg.freeze()
    return build_roi_heads(cfg, input_shape)


def parent_roi_losses(
    heads: ROIHeads,
    images: ImageList,
    features: dict[str, torch.Tensor],
    proposals: list[Instances],
    gt_parents: list[Instances],
    weight: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Losses of the heads in training.

    Args:
        heads: as built above.
        images: N images.
        features: feature maps by name.
        proposals: N Instances of the parent RPN.
        gt_parents: N Instances with ``gt_boxes``, each parent once.
        weight: factor of the losses.

    Returns:
        Detectron2's losses, ``loss_cls`` as ``loss_parent_cls`` and so on.
    """
    targets = []
    for gt in gt_parents:
        gt = Instances(gt.image_size, gt_boxes=gt.gt_boxes)
        gt.gt_classes = torch.zeros(len(gt), dtype=torch.int64, device=gt.gt_boxes.device)
        targets.append(gt)
    with get_event_storage().name_scope("parent"):
        _, losses = heads(images, features, proposals, targets)
    return {name.replace("loss_", "loss_parent_", 1): x * weight for name, x in losses.items()}


def detect_parents(
    heads: ROIHeads,
    images: ImageList,
    features: dict[str, torch.Tensor],
    proposals: list[Instances],
) -> list[Instances]:
    """Detected parents of N images, in inference.

    Returns:
        N Instances with ``pred_boxes`` and ``scores``, best first.
    """
    detections, _ = heads(images, features, proposals)
    return [
        Instances(x.image_size, pred_boxes=x.pred_boxes, scores=x.scores)[
            x.scores.argsort(descending=True, stable=True)
        ]
        for x in detections
    ]


def parent_roi_sources(state_dict: Mapping[str, object], prefix: str) -> dict[str, str]:
    """What to set the heads' box head from if a checkpoint has but the parts' heads.

    Args:
        state_dict: tensors by name.
        prefix: the name of these heads in it, with a dot at its end.

    Returns:
        Names of the parents' tensors -> names of the parts' in ``state_dict``. Empty if it has some
        of the parents already.
    """
    if any(name.startswith(prefix) for name in state_dict):
        return {}
    part = "roi_heads.box_head."
    names = [name for name in state_dict if name.startswith(part)]
    return {f"{prefix}box_head.{name[len(part) :]}": name for name in names}
