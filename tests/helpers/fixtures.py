"""Fixtures of all tests, also those of projects."""

from __future__ import annotations

import os

# Two test processes share two cores; more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads this when it is imported, which another test may do first.
os.environ.setdefault("RAY_AUTH_MODE", "token")

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from helpers.isbda_folder import write_data

torch.set_num_threads(1)


@pytest.fixture
def tiny_cfg():
    """An MSNet that builds and runs in well under a second: ResNet-18, FPN of 32 channels, CPU."""
    from msnet_d2.config import get_msnet_cfg

    cfg = get_msnet_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.META_ARCHITECTURE = "MSNet"
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "HierarchicalRPN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 200
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 100
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 100
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 64
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 32
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    cfg.INPUT.MIN_SIZE_TEST = 96
    cfg.INPUT.MAX_SIZE_TEST = 256
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


@pytest.fixture(autouse=True)
def forget_datasets():
    """Take back what a test registers: names would depend on the tests that ran before."""
    before, metadata_before = set(DatasetCatalog), set(MetadataCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog) - metadata_before:
        MetadataCatalog.remove(name)


@pytest.fixture
def save_model(tmp_path):
    """(config) -> (config file, weights) of a model of it, random but always the same."""
    from detectron2.modeling import build_model

    def save(cfg):
        config, weights = tmp_path / "tiny.yaml", tmp_path / "weights.pth"
        config.write_text(cfg.dump())
        torch.manual_seed(0)
        torch.save({"model": build_model(cfg).state_dict()}, weights)
        return config, weights

    return save


@pytest.fixture
def tiny_data(tmp_path):
    """Folder in ISBDA's layout: train/ with three pictures, val/ with two, 128×96."""
    return write_data(tmp_path / "data", [(128, 96)] * 3, step=8, first_id=0)


@pytest.fixture
def train_cfg(tiny_cfg, tiny_data, tmp_path):
    """Two steps on :func:`tiny_data`, with evaluation."""
    cfg = tiny_cfg
    cfg.SEED = 1
    cfg.DATASETS.TRAIN = (f"{tiny_data}:train",)
    cfg.DATASETS.TEST = (f"{tiny_data}:val",)
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.SOLVER.MAX_ITER = 2
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.BASE_LR = 0.001
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg
