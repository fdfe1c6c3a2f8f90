"""What a config says of score refinement: which detector there is, and whether it is refined."""

from __future__ import annotations

from detectron2.config import CfgNode

__all__ = ["detector_name", "is_refined", "refines_scores", "trains_embedding_alone"]


def is_refined(cfg: CfgNode) -> bool:
    """Whether the model is a RefinedDetector."""
    return cfg.MODEL.META_ARCHITECTURE == "RefinedDetector"


def refines_scores(cfg: CfgNode) -> bool:
    """Whether scores are refined: those of a RefinedDetector, unless TEST.SCORE_REFINEMENT.ENABLED
    is False."""
    return is_refined(cfg) and bool(cfg.TEST.SCORE_REFINEMENT.ENABLED)


def trains_embedding_alone(cfg: CfgNode) -> bool:
    """Whether training leaves the detector of a RefinedDetector as it is."""
    return is_refined(cfg) and bool(cfg.MODEL.SRN.FREEZE_DETECTOR)


def detector_name(cfg: CfgNode) -> str:
    """The meta-architecture that detects: the one in a RefinedDetector, or the model's own."""
    return cfg.MODEL.SRN.DETECTOR if is_refined(cfg) else cfg.MODEL.META_ARCHITECTURE
