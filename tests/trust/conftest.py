"""What the attacks are made on: a small data set, and a config that trains on it in a moment."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

SIZES = [(128, 96), (96, 128), (128, 96), (128, 96), (96, 128)]  # width, height


def write_data(folder, sizes=SIZES):
    """ISBDA's layout in ``folder``: train/ with pictures of ``sizes``, val/ with two."""
    rng = np.random.default_rng(0)
    for split, some in (("train", sizes), ("val", sizes[:2])):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for index, (width, height) in enumerate(some):
            name = f"{index}_1.png"
            picture = rng.integers(90, 120, (height, width, 3), dtype=np.uint8)
            x, y = 10 + 4 * index, 12
            cv2.rectangle(picture, (x, y), (x + 60, y + 60), (200, 200, 200), -1)
            cv2.rectangle(picture, (x + 10, y + 10), (x + 30, y + 30), (20, 20, 60), -1)
            cv2.imwrite(str(folder / split / name), picture)
            images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
            a, b, c, d = x + 10, y + 10, x + 30, y + 30
            annotations.append(
                {
                    "id": index + 1,
                    "image_id": index + 1,
                    "category_id": index % 3 + 1,
                    "segmentation": [[a, b, c, b, c, d, a, d]],
                    "area": 400,
                    "iscrowd": 0,
                    "damage_bbox": [a, b, 20, 20],
                    "house_bbox": [x, y, 60, 60],
                }
            )
        (folder / "annotations").mkdir(exist_ok=True)
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def data_folder(tmp_path):
    return write_data(tmp_path / "data")


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
