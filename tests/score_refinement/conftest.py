"""A config of a refined detector that is small."""

from __future__ import annotations

import pytest


@pytest.fixture
def srn_cfg(tiny_cfg):
    """A RefinedDetector around the tiny MSNet."""
    tiny_cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    tiny_cfg.MODEL.SRN.DETECTOR = "MSNet"
    tiny_cfg.MODEL.SRN.FC_DIMS = [24, 16]
    tiny_cfg.TEST.SCORE_REFINEMENT.SHOT_CHANGE_THRESH = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 20
    # Untrained heads find nothing above 0.05 but by chance; lower thresholds give boxes to refine.
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    return tiny_cfg
