"""Score refinement (MSNet, sections 4.3 and 4.4): steadier confidences in adjacent frames.

Importing registers ``RefinableRCNN`` with Detectron2.
"""

from msnet_d2.score_refinement.losses import multi_scale_consistency_loss, spatial_similarity
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.refinable import RefinableRCNN
from msnet_d2.score_refinement.refined_model import RefinedModel, load_srn
from msnet_d2.score_refinement.refiner import ScoreRefiner, refine_scores

__all__ = [
    "RefinableRCNN",
    "RefinedModel",
    "ScoreRefinementNetwork",
    "ScoreRefiner",
    "load_srn",
    "multi_scale_consistency_loss",
    "refine_scores",
    "spatial_similarity",
]
