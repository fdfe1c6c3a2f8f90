"""From detections to COCO's JSON, and their evaluation: Detectron2's ways against ours.

The run-length encodings must be equal to the byte, and box and mask AP equal to 1e-9. Ours scores
ISBDA's protocol besides.

  python benchmarks/results.py --rounds 5 --images 100
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import tempfile
from pathlib import Path

import cv2
import numpy as np
from alternation import alternate, print_table, use_threads
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from drawing import make_frame

from msnet_d2.data import register_isbda_instances
from msnet_d2.evaluation import ISBDAEvaluator
from msnet_d2.evaluation.results import instances_to_results


def compare_encoding(size: tuple[int, int], count: int, rounds: int) -> list:
    """A row: JSON entries of one image."""
    _, found = make_frame(*size, count)

    def theirs():
        return instances_to_coco_json(found, 1)

    def ours():
        return instances_to_results(found, 1, [0, 1, 2])

    for one, other in zip(theirs(), ours(), strict=True):
        assert {key: one[key] for key in ("segmentation", "score", "category_id")} == {
            key: other[key] for key in ("segmentation", "score", "category_id")
        }
    cells = alternate(theirs, ours, rounds).cells()
    return [f"JSON, {size[1]}×{size[0]}, {count} detections", *cells]


def write_truth(folder: Path, images: int, size: tuple[int, int], count: int) -> list:
    """A data set whose labels are every fifth of the detections, as polygons; returns these by
    image. A few frames' detections recur, as a thousand frames' masks would fill the memory."""
    height, width = size
    frames = [make_frame(*size, count, seed=i)[1] for i in range(min(images, 5))]
    found = [frames[i % len(frames)] for i in range(images)]
    labels = []
    for of_image in frames:
        entries = instances_to_results(of_image[::5], 0, [1, 2, 3])
        masks = of_image.pred_masks[::5].numpy().astype(np.uint8)
        for entry, mask in zip(entries, masks):
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            polygons = [x.ravel().tolist() for x in outlines if len(x) > 2]
            area = entry["bbox"][2] * entry["bbox"][3]
            entry |= {"segmentation": polygons, "area": area, "iscrowd": 0}
            del entry["score"]
        labels.append([entry for entry in entries if entry["segmentation"]])
    annotations = [
        {**entry, "image_id": i + 1} for i in range(images) for entry in labels[i % len(frames)]
    ]
    truth = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.jpg", "height": height, "width": width}
            for i in range(images)
        ],
        "annotations": [{**entry, "id": i + 1} for i, entry in enumerate(annotations)],
        "categories": [{"id": i + 1, "name": f"level {i}"} for i in range(3)],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return found


def compare_evaluation(images: int, size: tuple[int, int], count: int, rounds: int) -> list:
    """A row: process and evaluate, as after inference."""
    height, width = size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = write_truth(folder, images, size, count)
        coco, isbda = f"by_coco_{height}", f"by_isbda_{height}"
        register_coco_instances(coco, {}, str(folder / "truth.json"), name)
        DatasetCatalog.get(coco)  # only then does Detectron2 know the categories' ids
        register_isbda_instances(isbda, str(folder / "truth.json"), name)
        results = {}

        def run(evaluator, key):
            evaluator.reset()
            with contextlib.redirect_stdout(io.StringIO()):
                for i, of_image in enumerate(found):
                    evaluator.process(
                        [{"image_id": i + 1, "file_name": f"{i}.jpg"}], [{"instances": of_image}]
                    )
                results[key] = evaluator.evaluate()

        theirs = COCOEvaluator(coco, ("bbox", "segm"), False, output_dir=f"{name}/theirs")
        ours = ISBDAEvaluator(isbda, distributed=False, output_dir=f"{name}/ours")
        taken = alternate(lambda: run(theirs, 0), lambda: run(ours, 1), rounds, warmup=0)
    for task in ("bbox", "segm"):
        assert abs(results[0][task]["AP"] - results[1][task]["AP"]) < 1e-9
    label = f"evaluation, {images} images of {width}×{height}, {count} detections each"
    return [f"{label}; {len(results[0])} / {len(results[1])} protocols", *taken.cells(0)]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    use_threads()
    rows = [
        compare_encoding(size, 100, args.rounds) for size in ((540, 960), (720, 1280), (1080, 1920))
    ]
    for size in ((540, 960), (1080, 1920)):
        rows.append(compare_evaluation(args.images, size, 100, max(args.rounds // 3, 1)))
    print_table(["ms", "Detectron2", "ours", "ratio"], rows)


if __name__ == "__main__":
    main()
