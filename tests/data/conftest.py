"""A small data set in ISBDA's layout, sound as it is, for the tests to spoil."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


def rectangle(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def make_annotation(number, image_id, category_id, box, house):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": 0,
        "area": box[2] * box[3],
        "segmentation": [rectangle(*box)],
        "damage_bbox": list(box),
        "house_bbox": list(house),
    }


@pytest.fixture
def isbda_content():
    """Content of a JSON: two frames of video 5, 100 pixels wide and 80 high, with three parts."""
    return {
        "images": [
            {"id": 1, "file_name": "5_100.png", "width": 100, "height": 80},
            {"id": 2, "file_name": "5_110.png", "width": 100, "height": 80},
        ],
        "annotations": [
            make_annotation(1, 1, 1, [10, 10, 20, 20], [5, 5, 40, 40]),
            make_annotation(2, 1, 2, [50, 20, 40, 40], [45, 10, 50, 60]),
            make_annotation(3, 2, 3, [10, 10, 20, 20], [5, 5, 40, 40]),
        ],
        "categories": [{"id": i, "name": str(i)} for i in (1, 2, 3)],
    }


@pytest.fixture
def write_isbda(tmp_path):
    """Write a JSON, and by default its pictures too, in ISBDA's layout; returns JSON and folder."""

    def write(content, split="train", folder="data", pictures=True):
        root = tmp_path / folder / split
        root.mkdir(parents=True, exist_ok=True)
        json_file = tmp_path / folder / "annotations" / f"instances_{split}.json"
        json_file.parent.mkdir(exist_ok=True)
        json_file.write_text(json.dumps(content))
        if pictures:
            generator = np.random.default_rng(0)
            for image in content["images"]:
                shape = (image["height"], image["width"], 3)
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                path = root / image["file_name"]
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        return json_file, root

    return write
