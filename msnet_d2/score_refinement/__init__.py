"""Score refinement (MSNet, sections 4.3 and 4.4): steadier confidences in adjacent frames.

Importing registers ``RefinedDetector`` with Detectron2.
"""

from msnet_d2.score_refinement.build import build_score_refiner
from msnet_d2.score_refinement.geometry_refiner import GeometryRefiner
from msnet_d2.score_refinement.losses import multi_scale_consistency_loss
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.refined_detector import RefinedDetector
from msnet_d2.score_refinement.refiner import ScoreRefiner
from msnet_d2.score_refinement.similarity import spatial_similarity

__all__ = [
    "GeometryRefiner",
    "RefinedDetector",
    "ScoreRefinementNetwork",
    "ScoreRefiner",
    "build_score_refiner",
    "multi_scale_consistency_loss",
    "spatial_similarity",
]
