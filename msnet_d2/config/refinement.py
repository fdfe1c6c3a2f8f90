"""What a config says of score refinement: which detector there is, and whether it is refined."""

from __future__ import annotations

from detectron2.config import CfgNode

from msnet_d2.errors import ConfigError

__all__ = [
    "RULES",
    "detector_name",
    "is_refined",
    "refinement_rule",
    "refines_scores",
    "trains_embedding_alone",
]

RULES = ("appearance", "geometry")


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


def refinement_rule(cfg: CfgNode) -> str:
    """The rule that scores are refined by, one of :data:`RULES`.

    Raises:
        ConfigError: if there is no such rule.
    """
    rule = cfg.TEST.SCORE_REFINEMENT.RULE
    if rule not in RULES:
        raise ConfigError(f"TEST.SCORE_REFINEMENT.RULE is {rule!r}; there are: {', '.join(RULES)}")
    return rule
