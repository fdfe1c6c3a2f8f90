"""Soft NMS by masks at the end of any model: where it takes place, and where it waits."""

from __future__ import annotations

import pickle

import pytest
import torch
from detectron2.modeling import build_model

from msnet_d2.config.ranges import check_ranges
from msnet_d2.engine.trainer import MSNetTrainer
from msnet_d2.errors import ConfigError
from msnet_d2.modeling.soft_nms import add_mask_soft_nms
from msnet_d2.score_refinement import ScoreRefiner
from msnet_d2.structures.duplicates import mask_soft_nms

FRAME = {"height": 80, "width": 110}


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return [{"image": torch.randint(0, 256, (3, 64, 88), dtype=torch.uint8), **FRAME}]


@pytest.fixture
def cfg(tiny_cfg):
    # Random weights find hundreds of boxes with scores about alike.
    tiny_cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0])
    tiny_cfg.merge_from_list(["TEST.DETECTIONS_PER_IMAGE", 20])
    return tiny_cfg


def both_models(cfg):
    """The plain model of ``cfg``, and one with the same weights and soft NMS."""
    plain = build_model(cfg).eval()
    cfg.TEST.MASK_SOFT_NMS_THRESH = 0.25
    damped = MSNetTrainer.build_model(cfg).eval()
    damped.load_state_dict(plain.state_dict())
    return plain, damped


@pytest.mark.parametrize("name", ["MSNet", "GeneralizedRCNN"])
def test_any_model_ends_with_it_and_changes_nothing_but_scores(cfg, inputs, name):
    cfg.MODEL.META_ARCHITECTURE = name
    plain, damped = both_models(cfg)
    with torch.no_grad():
        before, after = (model(inputs)[0]["instances"] for model in (plain, damped))
    assert torch.equal(after.scores, mask_soft_nms(before, 0.25))
    assert (after.scores < before.scores).any()
    assert torch.equal(after.pred_boxes.tensor, before.pred_boxes.tensor)
    assert torch.equal(after.pred_masks, before.pred_masks)
    assert torch.equal(after.pred_classes, before.pred_classes)
    pickle.loads(pickle.dumps(damped))


def test_frames_to_be_refined_wait_for_the_refiner(cfg, inputs):
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "RefinedDetector"])
    cfg.merge_from_list(["MODEL.SRN.DETECTOR", "MSNet", "MODEL.SRN.FC_DIMS", []])
    plain, damped = both_models(cfg)
    with torch.no_grad():
        raw = plain(inputs)[0]["instances"].scores
        picture = damped(inputs)[0]
        frame = damped([{**inputs[0], "video_id": "a"}])[0]
    assert torch.equal(frame["instances"].scores, raw)  # the refiner's part to damp
    assert (picture["instances"].scores < raw).any()

    refiner = ScoreRefiner(cfg)
    (done,) = refiner.update(frame, video_id="a", frame_index=0)
    assert torch.equal(done["instances"].scores, picture["instances"].scores)
    assert torch.equal(done["instances"].scores_raw, raw)
    (done,) = refiner.update(picture)  # a picture was damped by the model, once
    assert torch.equal(done["instances"].scores, picture["instances"].scores)

    cfg.TEST.SCORE_REFINEMENT.ENABLED = False
    unrefined = add_mask_soft_nms(plain, cfg)
    with torch.no_grad():
        frame = unrefined([{**inputs[0], "video_id": "a"}])[0]
    assert torch.equal(frame["instances"].scores, picture["instances"].scores)


def test_it_is_off_by_default(cfg):
    assert cfg.TEST.MASK_SOFT_NMS_THRESH == 1
    assert not MSNetTrainer.build_model(cfg)._forward_hooks


def test_a_threshold_that_is_no_overlap_is_refused(cfg):
    cfg.TEST.MASK_SOFT_NMS_THRESH = 1.5
    with pytest.raises(ConfigError, match="TEST.MASK_SOFT_NMS_THRESH is 1.5; expected 0 to 1"):
        check_ranges(cfg)
