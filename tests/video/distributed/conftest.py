"""The fixture of :mod:`helpers.flights`, and a model that detects in chunks."""

from __future__ import annotations

import pytest
from helpers.flights import flights  # noqa: F401

from msnet_d2.video.detector import DetectorSettings
from msnet_d2.video.distributed.chunks import Chunk, detect_chunk


@pytest.fixture
def model(tiny_cfg, save_model):
    """(config file, weights) of a tiny MSNet with an SRN that looks at both neighbours."""
    cfg = tiny_cfg
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 4
    cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    cfg.MODEL.SRN.DETECTOR = "MSNet"
    cfg.MODEL.SRN.FC_DIMS = [16]
    cfg.TEST.SCORE_REFINEMENT.NEIGHBORS = "both"
    cfg.TEST.SCORE_REFINEMENT.MAX_FRAME_GAP = 2
    return save_model(cfg)


@pytest.fixture
def settings(model):
    config, weights = model
    return DetectorSettings(config.read_text(), str(weights))


@pytest.fixture
def clip(flights):  # noqa: F811
    """A flight of 16 frames at 4 a second."""
    return flights.write([flights.House(-20, 40), flights.House(20, 40)])


@pytest.fixture
def one_pass(settings):
    """The results file of a pass over a whole video by one process."""
    return lambda video: detect_chunk(settings, str(video), Chunk())
