"""Models; importing registers them with Detectron2."""

from .anchor_sampling import anchor_sampling_scores, sample_anchors
from .backbone import TimmBackbone, build_timm_fpn_backbone
from .hrpn import HierarchicalRPN, OverlapMatcher
from .losses import multi_scale_consistency_loss, spatial_similarity
from .msnet import MSNet, assign_parents, select_parents
from .refinable import RefinableRCNN
from .refined_model import RefinedModel, load_srn
from .roi_heads import MaskedClassROIHeads, ParentClassRCNN
from .score_refinement import ScoreRefiner, refine_scores
from .srn import ScoreRefinementNetwork

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
