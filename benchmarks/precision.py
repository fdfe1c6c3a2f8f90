"""A trained detector as Detectron2 computes it, and as our predictor does: AP and time.

All ways see the same pictures of a labelled data set by turns.

  python benchmarks/precision.py --config-file output/demo/model/config.yaml \
      --weights output/demo/model/model_final.pth --dataset output/demo/data:val --images 60
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time

import cv2
import numpy as np
from alternation import print_table, spread, use_threads
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor

from msnet_d2.config import load_config
from msnet_d2.data import resolve_dataset
from msnet_d2.evaluation import ISBDAEvaluator
from msnet_d2.inference.acceleration import InferenceOptions
from msnet_d2.inference.predictor import Predictor

PILLOW = {"fuse_bn": True, "channels_last": True}
WAYS = {
    "our predictor, plain": None,
    "float32, resized by Pillow": InferenceOptions(**PILLOW),
    "bfloat16, resized by Pillow": InferenceOptions(**PILLOW, precision="bfloat16"),
    "our predictor, float32": InferenceOptions.fast("float32"),
    "our predictor, bfloat16": InferenceOptions.fast("bfloat16"),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY")
    args = parser.parse_args()
    use_threads()
    cfg = load_config(args.config_file, ["MODEL.WEIGHTS", args.weights], device="cpu")
    (name,) = resolve_dataset(args.dataset)
    records = DatasetCatalog.get(name)
    records = records[:: max(len(records) // args.images, 1)][: args.images]
    ways = {"DefaultPredictor": DefaultPredictor(cfg)}
    ways |= {key: Predictor(cfg, acceleration=how) for key, how in WAYS.items() if key in args.ways}
    evaluators = {key: ISBDAEvaluator(name, distributed=False) for key in ways}
    times = {key: [] for key in ways}
    for number, record in enumerate(records):
        picture = cv2.imread(record["file_name"])
        for key in list(ways) if number % 2 else list(ways)[::-1]:
            start = time.process_time()
            output = ways[key](picture)
            times[key].append(1e3 * (time.process_time() - start))
            evaluators[key].process([record], [output])
    rows = []
    for key, evaluator in evaluators.items():
        with contextlib.redirect_stdout(io.StringIO()):
            figures = evaluator.evaluate([record["image_id"] for record in records])
        aps = [f"{figures[t]['AP']:.2f}" for t in ("bbox", "segm", "isbda_bbox", "isbda_segm")]
        ratio = np.asarray(times["DefaultPredictor"]) / np.asarray(times[key])
        rows.append([key, spread(times[key]), f"{spread(ratio, 2)}×", *aps])
    print(f"{len(records)} pictures, ms of processor time")
    head = ["", "picture", "DefaultPredictor / it", "box AP", "mask AP", "ISBDA box", "ISBDA mask"]
    print_table(head, rows)


if __name__ == "__main__":
    main()
