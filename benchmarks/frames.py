"""A frame: stock Mask R-CNN, MSNet with score refinement, MSNet light, as Detectron2 computes and
as our predictor does. All take turns on the same made-up flight, with random weights and ten
detections each.

  python benchmarks/frames.py --size 1333x800 --rounds 3
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from alternation import print_table, spread, use_threads
from msnet_benchmark.speed_models import InferenceSide, make_pictures

from msnet_d2.config import load_config
from msnet_d2.inference.acceleration import InferenceOptions

REFINED = ("MODEL.META_ARCHITECTURE", "RefinedDetector", "MODEL.SRN.DETECTOR", "MSNet")
STOCK = ("mask_rcnn_D_R50_FPN.yaml", ())
MSNET = ("msnet_srn_R50_FPN.yaml", ())
LIGHT = ("msnet_light_R50_FPN.yaml", REFINED)
WAYS = {
    "stock Mask R-CNN": (STOCK, None),
    "MSNet with refinement": (MSNET, None),
    "MSNet light with refinement": (LIGHT, None),
    "stock, float32 folded, channels last": (STOCK, InferenceOptions.fast("float32")),
    "stock, our predictor": (STOCK, InferenceOptions.fast()),
    "MSNet with refinement, our predictor": (MSNET, InferenceOptions.fast()),
    "MSNet light with refinement, our predictor": (LIGHT, InferenceOptions.fast()),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="1333x800")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    use_threads(args.threads)
    pictures = make_pictures(*map(int, args.size.split("x")))
    sides = {}
    for name, ((config, opts), how) in WAYS.items():
        cfg = load_config(config, ["MODEL.WEIGHTS", "", *opts], device="cpu")
        sides[name] = InferenceSide(cfg, pictures, 10, how, time.process_time)
    frames = {name: [] for name in sides}
    stages = {name: [] for name in sides}
    for number in range(args.rounds + 1):
        names = list(sides) if number % 2 else list(sides)[::-1]
        for name in names:
            taken = sides[name].frame_by_stage()
            if number:
                frames[name].append(sum(taken.values()))
                stages[name].append(taken)
    found = sorted({stage for rounds in stages.values() for taken in rounds for stage in taken})
    stock = np.asarray(frames["stock Mask R-CNN"])
    rows = []
    for name, taken in frames.items():
        ratio = np.asarray(taken) / stock
        medians = [np.median([r.get(stage, 0.0) for r in stages[name]]) for stage in found]
        rows.append([name, spread(taken, 0), spread(ratio, 3), *(f"{m:.0f}" for m in medians)])
    print(f"frames of {args.size}, ms of processor time, median of {args.rounds} turns")
    print_table(["", "frame", "/ stock", *found], rows)


if __name__ == "__main__":
    main()
