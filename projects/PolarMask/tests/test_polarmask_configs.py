"""PolarMask's configs build, train a step, and have the recipe of what they are compared with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polarmask
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from polarmask.meta_arch import PolarMask

from msnet_d2.config import get_msnet_cfg, load_config
from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement import ScoreRefiner

PROJECT = Path(polarmask.__file__).resolve().parents[1]
R50 = PROJECT / "configs" / "polarmask_R50_FPN.yaml"
QUICK = "quick/polarmask_lite0_FPN.yaml"


@pytest.mark.parametrize(
    ("config", "msnet"),
    [(QUICK, "quick/msnet_lite0_FPN.yaml"), (R50, "msnet_R50_FPN.yaml")],
    ids=["quick", "R50"],
)
def test_recipe_is_msnets(config, msnet):
    ours, theirs = get_msnet_cfg(config), get_msnet_cfg(msnet)
    for section in ("SOLVER", "INPUT", "DATASETS", "DATALOADER", "TEST"):
        assert ours[section] == theirs[section]
    for key in ("WEIGHTS", "PIXEL_MEAN", "PIXEL_STD", "TIMM"):
        assert ours.MODEL[key] == theirs.MODEL[key]
    assert ours.MODEL.RESNETS.DEPTH == theirs.MODEL.RESNETS.DEPTH
    assert ours.MODEL.FPN.OUT_CHANNELS == theirs.MODEL.FPN.OUT_CHANNELS
    assert ours.MODEL.ROI_HEADS.NUM_CLASSES == theirs.MODEL.ROI_HEADS.NUM_CLASSES
    assert ours.MODEL.POLARMASK.NMS_THRESH_TEST == theirs.MODEL.ROI_HEADS.NMS_THRESH_TEST


@pytest.mark.parametrize("config", [QUICK, R50], ids=["quick", "R50"])
def test_a_step_and_a_detection(config):
    if config == QUICK:
        pytest.importorskip("timm")
    opts = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""]
    model = build_model(get_msnet_cfg(config, opts))
    assert type(model) is PolarMask
    assert model.head.bbox_pred.out_channels == 36
    box = [20.0, 20, 90, 70]
    instances = Instances((96, 128), gt_boxes=Boxes(torch.tensor([box])))
    instances.gt_classes = torch.tensor([2])
    instances.gt_masks = PolygonMasks([[[20, 20, 90, 20, 90, 70, 20, 70]]])
    inputs = {"image": torch.zeros(3, 96, 128, dtype=torch.uint8), "height": 48, "width": 64}
    with EventStorage():
        losses = model.train()([{**inputs, "instances": instances}])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_polar_mask"] > 0, "no location was positive"
    with torch.no_grad():
        (output,) = model.eval()([inputs])
    assert output["instances"].pred_masks.shape[1:] == (48, 64)


def test_command_line_is_detectron2s():
    found = subprocess.run(
        [sys.executable, str(PROJECT / "train_net.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert "--config-file" in found.stdout
    assert "--eval-only" in found.stdout


@pytest.mark.parametrize(
    ("key", "value"), [("SCORE_THRESH_TEST", "2.0"), ("NUM_RAYS", "2"), ("NMS_THRESH_TEST", "-1.0")]
)
def test_values_that_would_blind_the_model_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"MODEL.POLARMASK.{key} is .*; expected"):
        load_config(QUICK, [f"MODEL.POLARMASK.{key}", value, "MODEL.DEVICE", "cpu"])


def test_its_scores_can_be_refined():
    """The detector in a RefinedDetector, matched by the features of its own pyramid."""
    opts = ["MODEL.META_ARCHITECTURE", "RefinedDetector", "MODEL.SRN.DETECTOR", "PolarMask"]
    opts += ["MODEL.SRN.FC_DIMS", "[]", "TEST.SCORE_REFINEMENT.SCORE_RANGE", "(0.0, 1.0)"]
    opts += ["MODEL.POLARMASK.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5]
    cfg = get_msnet_cfg(QUICK, [*opts, "MODEL.TIMM.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model, refiner = build_model(cfg).eval(), ScoreRefiner(cfg)
    image = torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8)
    with torch.no_grad():
        for _ in range(2):
            (output,) = model([{"image": image, "video_id": "flight"}])
            (output,) = refiner.update(output, video_id="flight")
    instances = output["instances"]
    assert instances.has("pred_masks")
    assert instances.match_similarity.tolist() == pytest.approx([1.0] * len(instances), abs=1e-4)
    assert len(instances) > 0
