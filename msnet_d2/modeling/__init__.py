"""Models; importing registers them with Detectron2."""

from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_sampling_scores, sample_anchors
from msnet_d2.modeling.backbone.timm_backbone import TimmBackbone, build_timm_fpn_backbone
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import HierarchicalRPN, OverlapMatcher
from msnet_d2.modeling.losses import multi_scale_consistency_loss, spatial_similarity
from msnet_d2.modeling.meta_arch.msnet import MSNet, assign_parents, select_parents
from msnet_d2.modeling.refinable import RefinableRCNN
from msnet_d2.modeling.refined_model import RefinedModel, load_srn
from msnet_d2.modeling.roi_heads.masked_class_heads import MaskedClassROIHeads, ParentClassRCNN
from msnet_d2.modeling.score_refinement import ScoreRefiner, refine_scores
from msnet_d2.modeling.srn import ScoreRefinementNetwork

__all__ = [
    "HierarchicalRPN",
    "MSNet",
    "MaskedClassROIHeads",
    "OverlapMatcher",
    "ParentClassRCNN",
    "RefinableRCNN",
    "RefinedModel",
    "ScoreRefinementNetwork",
    "ScoreRefiner",
    "TimmBackbone",
    "anchor_sampling_scores",
    "assign_parents",
    "build_timm_fpn_backbone",
    "load_srn",
    "multi_scale_consistency_loss",
    "refine_scores",
    "sample_anchors",
    "select_parents",
    "spatial_similarity",
]
