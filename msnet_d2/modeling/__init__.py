"""Models; importing registers them with Detectron2."""

from msnet_d2.modeling.backbone.timm_backbone import TimmBackbone, build_timm_fpn_backbone
from msnet_d2.modeling.meta_arch.msnet import MSNet
from msnet_d2.modeling.meta_arch.parent_class_rcnn import ParentClassRCNN
from msnet_d2.modeling.proposal_generator.anchor_filter import (
    anchor_scores,
    filter_anchors,
)
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import HierarchicalRPN, OverlapMatcher
from msnet_d2.modeling.roi_heads.masked_class_heads import MaskedClassROIHeads

__all__ = [
    "HierarchicalRPN",
    "MSNet",
    "MaskedClassROIHeads",
    "OverlapMatcher",
    "ParentClassRCNN",
    "TimmBackbone",
    "anchor_scores",
    "build_timm_fpn_backbone",
    "filter_anchors",
]
