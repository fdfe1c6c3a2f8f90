"""The network f of score refinement: dense maps and RoIAlign, against f where RoIAlign reads.

python benchmarks/refined_boxes.py --rounds 3
"""

from __future__ import annotations

import argparse

import torch
from alternation import alternate, print_table, use_threads
from anchors import make_proposals
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes

from msnet_d2.score_refinement.network import ScoreRefinementNetwork


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    use_threads()
    torch.manual_seed(0)
    height, width, strides = 800, 1344, [4, 8, 16, 32]
    names = [f"p{i}" for i in range(2, 6)]
    f = ScoreRefinementNetwork(in_features=names, in_channels=256, strides=strides).eval()
    features = {
        name: torch.randn(1, 256, height // s, width // s) for name, s in zip(names, strides)
    }
    pooler = ROIPooler(7, [1 / s for s in strides], 0, "ROIAlignV2")
    rows = []
    for count in (100, 20):
        boxes = [Boxes(make_proposals(count, height, width))]

        def dense(boxes=boxes):
            return pooler(list(f(features).values()), boxes)

        def sparse(boxes=boxes):
            return f.embed_boxes(features, boxes)

        with torch.no_grad():
            error = (dense() - sparse()).abs().max().item()
            assert error < 1e-4
            taken = alternate(dense, sparse, args.rounds, warmup=0)
        rows.append([f"{count} boxes", *taken.cells(0), f"{error:.0e}"])
    print_table([f"{width}×{height}, ms", "dense", "ours", "ratio", "largest error"], rows)


if __name__ == "__main__":
    main()
