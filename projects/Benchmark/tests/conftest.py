"""Scenes small enough to train on, and a runner that only pretends to train."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest
from helpers.fixtures import forget_datasets, tiny_cfg  # noqa: F401
from msnet_benchmark.runs import RunSettings
from msnet_benchmark.summary import Resampling

BUILDING, PART = 60, 20


def write_scenes(folder, *, videos=3, frames=(0, 10), houses=True):
    """Data set in ISBDA's layout: 128×96 frames of several videos, all in train/, a part each."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for video in range(1, videos + 1):
        for frame, index in enumerate(frames):
            number = len(images) + 1
            name = f"{video}_{index}.png"
            picture = rng.integers(90, 120, (96, 128, 3), dtype=np.uint8)
            x, y = 4 + 8 * frame + 10 * video, 12
            cv2.rectangle(picture, (x, y), (x + BUILDING, y + BUILDING), (200, 200, 200), -1)
            a, b = x + 10, y + 10
            cv2.rectangle(picture, (a, b), (a + PART, b + PART), (20, 20, 60), -1)
            cv2.imwrite(str(folder / "train" / name), picture)
            images.append({"id": number, "file_name": name, "width": 128, "height": 96})
            c, d = a + PART, b + PART
            annotation = {
                "id": number,
                "image_id": number,
                "category_id": number % 3 + 1,
                "segmentation": [[a, b, c, b, c, d, a, d]],
                "area": PART * PART,
                "iscrowd": 0,
                "damage_bbox": [a, b, PART, PART],
            }
            if houses:
                annotation["house_bbox"] = [x, y, BUILDING, BUILDING]
            annotations.append(annotation)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
    }
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "scenes")


@pytest.fixture
def scenes_at():
    """:func:`write_scenes`."""
    return write_scenes


@pytest.fixture
def settings(scenes, tmp_path):
    """Two splits of :func:`scenes`."""
    return RunSettings(
        dataset=str(scenes),
        out=tmp_path / "bench",
        splits=("0", "1"),
        ratio=0.6,
        resampling=Resampling(samples=20),
    )


class FakeRunner:
    """Finds every part, the better the higher the method's quality; notes what it was asked for."""

    def __init__(self, quality=None, fails=()):
        self.quality = quality or {}
        self.fails = set(fails)
        self.ran = []

    def __call__(self, trial, how):
        self.ran.append(trial.label)
        if trial.label in self.fails:
            raise RuntimeError("out of\nmemory")
        content = json.loads(
            (trial.folder.parents[2] / "splits" / trial.split.name.replace("split", "seed"))
            .joinpath("annotations", "instances_val.json")
            .read_text()
        )
        results = []
        for annotation in content["annotations"]:
            x, y, w, h = annotation["damage_bbox"]
            x += self.quality.get(trial.method.name, 0)
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": [x, y, w, h],
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    "score": 0.9,
                }
            )
        trial.predictions.parent.mkdir(parents=True, exist_ok=True)
        trial.predictions.write_text(json.dumps(results))
        ap = 50.0 - self.quality.get(trial.method.name, 0) + trial.split.number
        row = {"AP": ap, "AP25": ap, "AP50": ap, "APs": ap, "APm": None, "APl": None}
        row |= {"AP-Slight": ap, "AP-Severe": None, "AP-Debris": ap}
        metrics = {"isbda_segm": row, "isbda_bbox": row}
        (trial.folder / "inference" / "figures.json").write_text(json.dumps(metrics))
        return {"seconds": {"train": 2.0, "evaluate": 1.0}, "resumed": False}


@pytest.fixture
def fake():
    return FakeRunner


@pytest.fixture(autouse=True)
def forget_log_handlers():
    """Training logs into folders that are gone after the test."""
    yield
    for name in ("fvcore", "detectron2", "msnet_d2"):
        logging.getLogger(name).handlers.clear()
