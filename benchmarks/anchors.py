"""Filtering anchors by parent proposals: the matrix of all pairs against chunks of anchors.

Three ways give the same anchors: Detectron2's matrix of all pairs, the definition in blocks, and
what a CPU uses: the near proposals of each chunk of anchors, the largest of them first.

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
from msnet_benchmark.memory import peak_mib

from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_scores, filter_anchors

STRIDES = (4, 8, 16, 32, 64)


def make_anchors(height: int, width: int) -> torch.Tensor:
    """The anchors of the paper's configuration, (R, 4)."""
    generator = DefaultAnchorGenerator(
        sizes=[[32], [64], [128], [256], [512]],
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=STRIDES,
    )
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return Boxes.cat(generator([torch.zeros(1, 1, *size) for size in sizes])).tensor


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
    return anchor_scores(anchors, proposals, metric) > threshold


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--proposals", type=int, nargs="+", default=[100, 1000])
    args = parser.parse_args()
    use_threads()
    height, width = 800, 1344
    anchors = make_anchors(height, width)
    rows = []
    for count in args.proposals:
        proposals = make_proposals(count, height, width)
        for metric, threshold in (("ioa", 0.1), ("ioa", 0.5), ("iou", 0.4)):
            given = (proposals, metric, threshold)
            pairwise = partial(all_pairs, anchors, *given)
            blocks = partial(by_definition, anchors, *given)
            chunks = partial(filter_anchors, anchors, *given)
            kept = pairwise()
            for other in (blocks(), chunks()):
                assert torch.equal(kept, other)
            against = alternate(pairwise, chunks, args.rounds, warmup=0, repeat=5)
            defined = alternate(blocks, chunks, 2, warmup=0, repeat=2)
            memory = [peak_mib(way) for way in (pairwise, chunks)]
            rows.append(
                [
                    f"{count}, {metric} > {threshold}",
                    f"{100 * kept.float().mean():.1f}%",
                    *against.cells(),
                    spread(defined.theirs),
                    f"{memory[0]:.0f} / {memory[1]:.0f} = {memory[0] / max(memory[1], 1):.0f}×",
                ]
            )
    print(f"{len(anchors)} anchors, ms")
    head = ["proposals", "kept", "all pairs", "chunks", "ratio", "blocks"]
    print_table([*head, "peak MiB"], rows)


if __name__ == "__main__":
    main()
