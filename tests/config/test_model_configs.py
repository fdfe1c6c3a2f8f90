"""MSNet's config files: they load, hold the paper's values, and the LazyConfig is a twin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler

from msnet_d2.config import get_msnet_cfg

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OURS = [
    "Base-MSNet.yaml",
    "msnet_R50_FPN.yaml",
    "msnet_R50_FPN_iou.yaml",
    "msnet_light_R50_FPN.yaml",
    "msnet_R101_FPN.yaml",
    "msnet_X101_FPN.yaml",
    "quick/msnet_lite0_FPN.yaml",
]


def load(name: str):
    cfg = get_msnet_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.TIMM.WEIGHTS = ""
    return cfg


@pytest.mark.parametrize("name", OURS)
def test_loads(name):
    cfg = get_msnet_cfg(name)
    assert cfg.MODEL.META_ARCHITECTURE == "MSNet"
    assert cfg.MODEL.PROPOSAL_GENERATOR.NAME == "HierarchicalRPN"
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("isbda_train",), ("isbda_val",))


def test_common_base_is_plain_detectron2():
    """Baselines stand on it that must load without this project."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / "Base-RCNN-FPN.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"


def test_recipe_of_the_paper():
    """0.003, after 10 of 100 epochs 0.001; batches of 8, 103 iterations an epoch (section 5.1)."""
    cfg = load("msnet_R50_FPN.yaml")
    assert (cfg.MODEL.HRPN.METRIC, cfg.MODEL.HRPN.THRESHOLD) == ("ioa", 0.1)
    assert cfg.SOLVER.IMS_PER_BATCH == 8
    assert cfg.SOLVER.MAX_ITER == 100 * 103
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] < 0.0001  # warm-up
    assert rates[200] == rates[1029] == pytest.approx(0.003)
    assert rates[1030] == rates[-1] == pytest.approx(0.001)
    iou = load("msnet_R50_FPN_iou.yaml")
    assert (iou.MODEL.HRPN.METRIC, iou.MODEL.HRPN.THRESHOLD) == ("iou", 0.4)


@pytest.mark.parametrize("name", ["msnet_light_R50_FPN.yaml", "quick/msnet_lite0_FPN.yaml"])
def test_builds(name):
    model = build_model(load(name))
    assert model.proposal_generator.parent_rpn is not None


def test_quick_config_is_small():
    model = build_model(load("quick/msnet_lite0_FPN.yaml"))
    assert sum(p.numel() for p in model.parameters()) < 6e6


def test_lazy_config_is_the_twin():
    """Same parameters, buffers and settings of the heads as the YAML; recipe alike."""
    lazy = LazyConfig.load(str(CONFIGS / "msnet_R50_FPN.py"))
    cfg = load("msnet_R50_FPN.yaml")
    ours, twin = instantiate(lazy.model), build_model(cfg)
    assert type(ours) is type(twin)
    shapes = {k: v.shape for k, v in twin.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == shapes

    def settings(rpn):
        return {
            **{k: v for k, v in vars(rpn).items() if not k.startswith("_")},
            "matcher": (
                type(rpn.anchor_matcher),
                list(rpn.anchor_matcher.thresholds),
                list(rpn.anchor_matcher.labels),
            ),
            "transform": vars(rpn.box2box_transform),
            "anchors": [a.tolist() for a in rpn.anchor_generator.cell_anchors],
        }

    plain = ("anchor_matcher", "box2box_transform", "loss_weight", "in_features")
    for a, b in (
        (ours.proposal_generator, twin.proposal_generator),
        (ours.proposal_generator.parent_rpn, twin.proposal_generator.parent_rpn),
    ):
        a_settings, b_settings = settings(a), settings(b)
        for key in b_settings.keys() - set(plain):
            value, expected = a_settings[key], b_settings[key]
            if key == "transform":
                value, expected = dict(value), dict(expected)
                value["weights"] = tuple(value["weights"])
                expected["weights"] = tuple(expected["weights"])
            assert value == expected, key
        assert list(a.in_features) == list(b.in_features)
        assert dict(a.loss_weight) == dict(b.loss_weight)
    for key in ("parent_score_thresh", "parent_nms_thresh", "parents_per_image", "input_format"):
        assert getattr(ours, key) == getattr(twin, key)
    assert torch.equal(ours.pixel_mean, twin.pixel_mean)
    assert torch.equal(ours.pixel_std, twin.pixel_std)

    assert lazy.optimizer.lr == cfg.SOLVER.BASE_LR
    assert lazy.optimizer.weight_decay == cfg.SOLVER.WEIGHT_DECAY
    assert lazy.train.max_iter == cfg.SOLVER.MAX_ITER
    assert lazy.train.init_checkpoint == get_msnet_cfg("msnet_R50_FPN.yaml").MODEL.WEIGHTS
    assert lazy.dataloader.train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    schedule = instantiate(lazy.lr_multiplier)
    for iteration, factor in ((200, 1), (1029, 1), (1031, 1 / 3), (10299, 1 / 3)):
        assert schedule(iteration / 10300) == pytest.approx(factor)
    assert instantiate(lazy.dataloader.train.mapper).is_train
    assert not instantiate(lazy.dataloader.test.mapper).is_train
    assert lazy.dataloader.evaluator.dataset_name == "isbda_val"
