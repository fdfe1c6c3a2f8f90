"""What the command line is tried on: a tiny data set, config and trained run."""

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def tiny_data(tmp_path):
    """Folder in ISBDA's layout: train/ with two pictures, val/ with two, 128×96."""
    folder = tmp_path / "data"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for index in range(2):
            picture = np.full((96, 128, 3), 100, np.uint8)
            x = 10 + 30 * index
            cv2.rectangle(picture, (x + 10, 22), (x + 30, 42), (20, 20, 60), -1)
            cv2.imwrite(str(folder / split / f"{index}_1.png"), picture)
            images.append(
                {"id": index + 1, "file_name": f"{index}_1.png", "width": 128, "height": 96}
            )
            annotations.append(
                {
                    "id": index,
                    "image_id": index + 1,
                    "category_id": index + 1,
                    "segmentation": [[x + 10, 22, x + 30, 22, x + 30, 42, x + 10, 42]],
                    "area": 400,
                    "iscrowd": 0,
                    "damage_bbox": [x + 10, 22, 20, 20],
                    "house_bbox": [x, 12, 60, 60],
                }
            )
        (folder / "annotations").mkdir(exist_ok=True)
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
        }
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
    return folder


@pytest.fixture
def config_file(tiny_cfg, tiny_data, tmp_path):
    """Config file that trains one step on :func:`tiny_data` into ``run``."""
    cfg = tiny_cfg
    cfg.SEED = 1
    cfg.DATASETS.TRAIN = (f"{tiny_data}:train",)
    cfg.DATASETS.TEST = (f"{tiny_data}:val",)
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.SOLVER.MAX_ITER = 1
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.BASE_LR = 0.001
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    path = tmp_path / "tiny.yaml"
    path.write_text(cfg.dump())
    return path


@pytest.fixture
def run(config_file, tmp_path):
    """Folder of a finished training."""
    from msnet_d2.cli import main

    assert main(["train", "--config-file", str(config_file)]) == 0
    return tmp_path / "run"
