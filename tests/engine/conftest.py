"""A data set of three small pictures in ISBDA's layout, and a config that trains on it."""

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def tiny_data(tmp_path):
    """Folder in ISBDA's layout: train/ with three pictures, val/ with two, 128×96."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            name = f"{index}_1.png"
            picture = rng.integers(90, 120, (96, 128, 3), dtype=np.uint8)
            x, y = 10 + 8 * index, 12
            cv2.rectangle(picture, (x, y), (x + 60, y + 60), (200, 200, 200), -1)
            cv2.rectangle(picture, (x + 10, y + 10), (x + 30, y + 30), (20, 20, 60), -1)
            cv2.imwrite(str(folder / split / name), picture)
            images.append({"id": index + 1, "file_name": name, "width": 128, "height": 96})
            a, b, c, d = x + 10, y + 10, x + 30, y + 30
            annotations.append(
                {
                    "id": index,
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
        (folder / "annotations" / f"instances_{split}.json").write_text(
            json.dumps(
                {
                    "images": images,
                    "annotations": annotations,
                    "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
                }
            )
        )
    return folder


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
