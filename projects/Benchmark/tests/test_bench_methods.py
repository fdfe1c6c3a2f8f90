"""Which methods there are, and their configs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from msnet_benchmark.methods import (
    FAMILIES,
    METHODS,
    find_methods,
    make_variant,
    method_config,
    with_bases,
)
from msnet_benchmark.speed_models import TrainingSide

from msnet_d2.config import load_config
from msnet_d2.errors import ConfigError, InputError


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_config_of_the_same_budget(name, family):
    (method,) = find_methods([name])
    cfg = method_config(method, family, seed=5)
    reference = method_config(METHODS["mask_rcnn_D"], family)
    assert cfg.SEED == 5
    assert cfg.SOLVER.MAX_ITER == reference.SOLVER.MAX_ITER
    assert cfg.SOLVER.IMS_PER_BATCH == reference.SOLVER.IMS_PER_BATCH
    # How it reads masks is a method's own; pictures and their sizes are the same for all.
    own = {"MAPPER", "MASK_FORMAT"}
    pictures = {key: value for key, value in cfg.INPUT.items() if key not in own}
    assert pictures == {key: reference.INPUT[key] for key in pictures}
    assert len(pictures) == len(reference.INPUT) - len(own)


def test_metrics_of_both_families():
    for family in FAMILIES:
        ii, iou = (method_config(METHODS[n], family).MODEL.HRPN for n in ("msnet", "msnet_iou"))
        assert (ii.METRIC, ii.THRESHOLD) == ("ioa", 0.1)
        assert (iou.METRIC, iou.THRESHOLD) == ("iou", 0.4)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("msnet+srn", "MSNet"),
        ("mask_rcnn_D+srn", "GeneralizedRCNN"),
        ("mask_rcnn_BD+srn", "ParentClassRCNN"),
        ("polarmask+srn", "PolarMask"),
    ],
)
def test_refinement_on_top_of_a_detector(name, architecture):
    (method,) = find_methods([name])
    assert method.refines
    assert [m.name for m in with_bases([method])] == [name.removesuffix("+srn"), name]
    opts = ("SOLVER.MAX_ITER", "7", "MODEL.FPN.OUT_CHANNELS", "32")
    cfg = method_config(method, "quick", opts=opts, refine_opts=("MODEL.SRN.NUM_PAIRS", "3"))
    assert cfg.MODEL.META_ARCHITECTURE == "RefinedDetector"
    assert architecture == cfg.MODEL.SRN.DETECTOR
    assert cfg.MODEL.SRN.NUM_PAIRS == 3
    # The schedule is that of refinement, the model the detector's.
    assert load_config("quick/msnet_srn_lite0_FPN.yaml").SOLVER == cfg.SOLVER
    assert cfg.SOLVER.MAX_ITER > 7
    assert cfg.MODEL.FPN.OUT_CHANNELS == 32


@pytest.mark.parametrize("family", FAMILIES)
def test_both_rules_of_refinement_share_a_detector(family):
    paper, steady = find_methods(["msnet+srn", "msnet+steady"])
    assert [m.name for m in with_bases([paper, steady])] == ["msnet", "msnet+srn", "msnet+steady"]
    assert paper.title != steady.title
    kind = "quick/msnet_srn_{}lite0_FPN.yaml" if family == "quick" else "msnet_srn_{}R50_FPN.yaml"
    for method, infix in ((paper, ""), (steady, "steady_")):
        cfg, own = method_config(method, family), load_config(kind.format(infix))
        assert own.TEST.SCORE_REFINEMENT == cfg.TEST.SCORE_REFINEMENT
        assert (method is steady) == cfg.TEST.SCORE_REFINEMENT.MUTUAL_NN
        assert own.SOLVER == cfg.SOLVER


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["mask_rcnn_D", "mask_rcnn_BD", "msnet_parents"])
def test_refinement_by_geometry_trains_nothing(name, family):
    (method,) = find_methods([f"{name}+geometry"])
    assert (method.base, method.trains, method.refines) == (name, False, False)
    (base,) = find_methods([name])
    cfg, detector = method_config(method, family), method_config(base, family)
    assert cfg.MODEL.META_ARCHITECTURE == "RefinedDetector"
    assert detector.MODEL.META_ARCHITECTURE == cfg.MODEL.SRN.DETECTOR
    assert cfg.TEST.SCORE_REFINEMENT.RULE == "geometry"
    assert cfg.TEST.MASK_SOFT_NMS_THRESH == 0.25
    assert detector.MODEL.ROI_HEADS == cfg.MODEL.ROI_HEADS


def test_refined_baseline_builds_and_carries_frames(tiny_cfg):
    """The baseline with buildings as a class gives score refinement what it needs."""
    import torch
    from detectron2.modeling import build_model

    cfg = tiny_cfg
    cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    cfg.MODEL.SRN.DETECTOR = "ParentClassRCNN"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.ROI_HEADS.NAME = "MaskedClassROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.SRN.FC_DIMS = [8]
    model = build_model(cfg).eval()
    image = torch.zeros(3, 64, 96)
    with torch.no_grad():
        (output,) = model([{"image": image, "video_id": "1", "frame_index": 0}])
    assert set(output) == {"instances", "parents", "thumbnail", "gray"}
    assert output["instances"].has("embeddings")
    assert (output["instances"].pred_classes < 3).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["maskrcnn_D"], "did you mean mask_rcnn_D?"),
        (["msnet+sr"], "did you mean msnet"),
        (["polarmask+sr"], "did you mean polarmask+srn?"),
        (["SOLVER.MAX_ITER"], "config overrides go to --opts"),
        ([], "no method given"),
        (["nonsense+srn"], "there is no method 'nonsense+srn'"),
    ],
)
def test_unknown_methods(names, message):
    with pytest.raises(InputError) as error:
        find_methods(names)
    assert message in str(error.value)


def test_variants():
    key = "MODEL.HRPN.PARENT_OBJECTNESS_THRESH"
    sure = make_variant(["sure", "msnet", key, "0.5"])
    surer = make_variant(["surer", "sure", "MODEL.HRPN.THRESHOLD", "0.3"], {"sure": sure})
    variants = {"sure": sure, "surer": surer}
    (found,) = find_methods(["surer"], variants)
    hrpn = method_config(found, "quick").MODEL.HRPN
    assert (hrpn.PARENT_OBJECTNESS_THRESH, hrpn.THRESHOLD) == (0.5, 0.3)
    (refined,) = find_methods(["sure+srn"], variants)
    assert [m.name for m in with_bases([refined], variants)] == ["sure", "sure+srn"]
    assert method_config(refined, "quick").MODEL.HRPN.PARENT_OBJECTNESS_THRESH == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "msnet"], "expected NAME METHOD KEY VALUE"),
        (["x", "msnet", "A"], "expected NAME METHOD KEY VALUE"),
        (["msnet", "msnet", "A", "1"], "choose a name"),
        (["a/b", "msnet", "A", "1"], "choose a name"),
        (["x", "msnet+srn", "A", "1"], "no method with a detector of its own"),
        (["x", "nowhere", "A", "1"], "there is no method 'nowhere'"),
    ],
)
def test_variants_that_are_none(words, message):
    with pytest.raises(InputError) as error:
        make_variant(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "key", ["DATASETS.TRAIN", "OUTPUT_DIR", "SEED", "MODEL.SRN.ENABLED", "MODEL.SRN.DETECTOR"]
)
def test_what_the_benchmark_sets_itself_is_no_override(key):
    with pytest.raises(ConfigError, match=f"{key} cannot be overridden"):
        method_config(METHODS["msnet"], "quick", opts=(key, "1"))
    with pytest.raises(ConfigError, match=f"{key} cannot be overridden"):
        make_variant(["x", "msnet", key, "1"])


def test_unknown_keys_are_found_at_once():
    (refined,) = find_methods(["msnet+srn"])
    with pytest.raises(ConfigError, match="did you mean SOLVER.MAX_ITER"):
        method_config(METHODS["msnet"], "quick", opts=("SOLVER.MAXITER", "1"))
    with pytest.raises(ConfigError, match=r"did you mean MODEL\.SRN\.NUM_PAIRS"):
        method_config(refined, "quick", refine_opts=("MODEL.SRN.NUM_PAIR", "1"))


def test_timed_training_changes_nothing_and_so_cannot_diverge(tiny_cfg):
    tiny_cfg.SOLVER.BASE_LR = 1e6
    side = TrainingSide(tiny_cfg, [np.zeros((96, 128, 3), np.uint8)], batch=1)
    before = {k: v.clone() for k, v in side.model.state_dict().items()}
    assert [side.step() > 0 for _ in range(3)] == [True] * 3
    after = side.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
