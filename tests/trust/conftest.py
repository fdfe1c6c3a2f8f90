"""What the attacks are made on: a small data set, and a config that trains on it in a moment."""

from __future__ import annotations

import pytest
from helpers.isbda_folder import write_data

SIZES = [(128, 96), (96, 128), (128, 96), (128, 96), (96, 128)]  # width, height


@pytest.fixture
def data_folder(tmp_path):
    return write_data(tmp_path / "data", SIZES, step=4)


@pytest.fixture
def train_cfg(tiny_cfg, data_folder, tmp_path):
    """Four steps of two pictures, with random augmentation, momentum and a falling rate."""
    cfg = tiny_cfg
    cfg.SEED = 1
    cfg.DATASETS.TRAIN = (f"{data_folder}:train",)
    cfg.DATASETS.TEST = ()
    cfg.INPUT.MIN_SIZE_TRAIN = (80, 96)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    cfg.INPUT.COLOR_JITTER = 0.2
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.STEPS = (3,)
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.BASE_LR = 0.001
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    return cfg
