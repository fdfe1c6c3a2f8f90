"""Which refiner a config asks for."""

from __future__ import annotations

from detectron2.config import CfgNode

from msnet_d2.config.refinement import refinement_rule, refines_scores
from msnet_d2.score_refinement.geometry_refiner import GeometryRefiner
from msnet_d2.score_refinement.refiner import ScoreRefiner

__all__ = ["build_score_refiner"]


def build_score_refiner(cfg: CfgNode) -> ScoreRefiner | None:
    """The refiner of this config's model; None if its scores are not refined.

    Raises:
        ConfigError: if TEST.SCORE_REFINEMENT.RULE is none, or a value is out of range.
    """
    if not refines_scores(cfg):
        return None
    return GeometryRefiner(cfg) if refinement_rule(cfg) == "geometry" else ScoreRefiner(cfg)
