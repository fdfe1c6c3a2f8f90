"""Mapping a training image: Detectron2's DatasetMapper against ISBDADatasetMapper.

A frame of 1080p with buildings and polygons is read, resized, flipped and turned into tensors. Ours
looks for damage in the file and carries the buildings as well.

  python benchmarks/mapper.py --rounds 15
"""

from __future__ import annotations

import argparse
import copy
import tempfile

import cv2
import numpy as np
from alternation import alternate, print_table, use_threads
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from msnet_benchmark.speed_models import make_pictures

from msnet_d2.config import load_config
from msnet_d2.data import ISBDADatasetMapper


def make_record(path: str, count: int = 20) -> dict:
    """Polygons of 12 corners, two in each building."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    annotations = []
    for i in range(count):
        x, y = rng.uniform(100, 1700), rng.uniform(100, 900)
        points = np.stack([x + 60 * np.cos(angles), y + 40 * np.sin(angles)], axis=1)
        annotations.append(
            {
                "bbox": [x - 60, y - 40, 120, 80],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": i % 3,
                "segmentation": [points.ravel().tolist()],
                "iscrowd": 0,
                "parent_bbox": [x - 90, y - 80, 200, 160],
                "parent_id": i // 2,
            }
        )
    size = {"height": 1080, "width": 1920}
    return {"file_name": path, "image_id": 1, **size, "annotations": annotations}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    use_threads()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/frame.jpg"
        cv2.imwrite(path, make_pictures(1920, 1080, 1)[0], [cv2.IMWRITE_JPEG_QUALITY, 92])
        record = make_record(path)
        for masks in ("polygon", "bitmask"):
            cfg = load_config("msnet_R50_FPN.yaml", ["INPUT.MASK_FORMAT", masks], device="cpu")
            mappers = DatasetMapper(cfg, True), ISBDADatasetMapper(cfg, True)

            def map_by(mapper, record=record):
                seed_all_rng(0)
                return mapper(copy.deepcopy(record))

            theirs, ours = map(map_by, mappers)
            difference = (theirs["image"].int() - ours["image"].int()).abs()
            same = theirs["instances"].gt_boxes.tensor == ours["instances"].gt_boxes.tensor
            assert difference.max() <= 1
            assert same.all()
            taken = alternate(
                lambda mappers=mappers, f=map_by: f(mappers[0]),
                lambda mappers=mappers, f=map_by: f(mappers[1]),
                args.rounds,
            )
            share = 100 * (difference > 0).float().mean()
            rows.append([masks, *taken.cells(), f"{share:.2f}% by one"])
    header = ["masks", "DatasetMapper, ms", "ISBDADatasetMapper, ms", "ratio", "values that differ"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
