"""Models; importing registers them with Detectron2."""

from .anchor_sampling import anchor_sampling_scores, sample_anchors
from .backbone import TimmBackbone, build_timm_fpn_backbone
from .hrpn import HierarchicalRPN, OverlapMatcher
from .msnet import MSNet, assign_parents, select_parents
from .roi_heads import MaskedClassROIHeads, ParentClassRCNN

__all__ = [
    "HierarchicalRPN",
    "MSNet",
    "MaskedClassROIHeads",
    "OverlapMatcher",
    "ParentClassRCNN",
    "TimmBackbone",
    "anchor_sampling_scores",
    "assign_parents",
    "build_timm_fpn_backbone",
    "sample_anchors",
    "select_parents",
]
