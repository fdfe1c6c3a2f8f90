"""A small data set in ISBDA's layout."""

from __future__ import annotations

import json

import cv2
import numpy as np


def write_data(folder, sizes, *, step, first_id=1):
    """ISBDA's layout in ``folder``: train/ has pictures of ``sizes`` (width, height), val/ two.

    Each has a building with a part; from picture to picture they move ``step`` pixels to the right.
    ``first_id`` is that of the annotations.
    """
    rng = np.random.default_rng(0)
    for split, some in (("train", sizes), ("val", sizes[:2])):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for index, (width, height) in enumerate(some):
            name = f"{index}_1.png"
            picture = rng.integers(90, 120, (height, width, 3), dtype=np.uint8)
            x, y = 10 + step * index, 12
            cv2.rectangle(picture, (x, y), (x + 60, y + 60), (200, 200, 200), -1)
            cv2.rectangle(picture, (x + 10, y + 10), (x + 30, y + 30), (20, 20, 60), -1)
            cv2.imwrite(str(folder / split / name), picture)
            images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
            a, b, c, d = x + 10, y + 10, x + 30, y + 30
            annotations.append(
                {
                    "id": index + first_id,
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
