"""Choosing the anchors inside parent proposals: the matrix of all pairs against the grid's way.

Four ways give the same anchors: Detectron2's matrix of all pairs, the definition in blocks (what
tests compare with), intervals of pairs that overlap (what a CPU uses), intervals of all pairs (what
a GPU uses, here on the CPU).

  python benchmarks/anchors.py --rounds 3
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from alternation import alternate, print_table, spread, use_threads
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes
from detectron2.structures.boxes import pairwise_intersection, pairwise_iou
from memory import peak_mib

from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_sampling_scores
from msnet_d2.modeling.proposal_generator.anchor_grid import sample_anchor_grid

STRIDES = (4, 8, 16, 32, 64)


def make_anchors(height: int, width: int) -> tuple:
    """The anchors of the paper's configuration, and the sizes of their grids."""
    generator = DefaultAnchorGenerator(
        sizes=[[32], [64], [128], [256], [512]],
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=STRIDES,
    )
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return generator([torch.zeros(1, 1, *size) for size in sizes]), sizes


def make_proposals(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Boxes of 2 to 50% of the frame's height, clipped to the frame."""
    generator = torch.Generator().manual_seed(seed)
    sides = height * torch.exp(torch.empty(count, 2).uniform_(-3.9, -0.7, generator=generator))
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([centers - sides / 2, centers + sides / 2], dim=1)
    return boxes.clamp_(min=0).minimum(torch.tensor([width, height, width, height]))


def all_pairs(anchors, proposals, metric, threshold) -> torch.Tensor:
    """The way of the paper's code: a matrix by Detectron2, of which the largest of each row."""
    if metric == "iou":
        scores = pairwise_iou(Boxes(anchors), Boxes(proposals))
    else:
        boxes = Boxes(anchors)
        scores = pairwise_intersection(boxes, Boxes(proposals)) / boxes.area()[:, None]
    return scores.amax(dim=1) > threshold


def by_definition(anchors, proposals, metric, threshold) -> torch.Tensor:
    """The same in blocks that fit a core's cache."""
    return anchor_sampling_scores(anchors, proposals, metric) > threshold


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--proposals", type=int, nargs="+", default=[100, 1000])
    args = parser.parse_args()
    use_threads()
    height, width = 800, 1344
    anchors, sizes = make_anchors(height, width)
    everything = torch.cat([level.tensor for level in anchors])
    rows = []
    for count in args.proposals:
        proposals = make_proposals(count, height, width)
        for metric, threshold in (("ioa", 0.1), ("ioa", 0.5), ("iou", 0.4)):
            given = (proposals, metric, threshold)
            pairwise = partial(all_pairs, everything, *given)
            blocks = partial(by_definition, everything, *given)
            grid = partial(sample_anchor_grid, anchors, sizes, *given, dense=False)
            dense = partial(sample_anchor_grid, anchors, sizes, *given, dense=True)
            kept = pairwise()
            for other in (blocks(), grid(), dense()):
                assert torch.equal(kept, other)
            against = alternate(pairwise, grid, args.rounds, warmup=0, repeat=5)
            others = alternate(blocks, dense, 2, warmup=0, repeat=2)
            memory = [peak_mib(way) for way in (pairwise, grid)]
            rows.append(
                [
                    f"{count}, {metric} > {threshold}",
                    f"{100 * kept.float().mean():.1f}%",
                    *against.cells(),
                    *(spread(x) for x in (others.theirs, others.ours)),
                    f"{memory[0]:.0f} / {memory[1]:.0f} = {memory[0] / max(memory[1], 1):.0f}×",
                ]
            )
    print(f"{len(everything)} anchors, ms")
    head = ["proposals", "kept", "all pairs", "intervals", "ratio", "blocks", "dense intervals"]
    print_table([*head, "peak MiB"], rows)


if __name__ == "__main__":
    main()
