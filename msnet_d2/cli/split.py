"""Split a data set by scene into training and validation, once for each seed.

Each split is a folder OUT/seed_N in ISBDA's layout that can be given wherever a data set is asked
for. Pictures are not copied: train/ and val/ are links to the folder of the original ones. No scene
is on both sides. The published results are means over three such splits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.options import add_option
from msnet_d2.utils.text import natural_key

HELP = "split a data set by scene"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet split``."""
    add_option(parser, "dataset")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--by", choices=["video"], default="video", help="what a scene is (default: %(default)s)"
    )
    parser.add_argument(
        "--ratio",
        type=float,
        default=0.8,
        help="share of the images to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        metavar="N",
        help="one split each (default: 0 1 2)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the splits and print what is in them."""
    from tabulate import tabulate

    from msnet_d2.data.isbda.splits import write_splits

    splits = write_splits(args.dataset, args.out, args.ratio, args.seeds)
    rows = [
        [
            split.folder,
            *split.images,
            f"{split.images[0] / sum(split.images):.1%}",
            *(", ".join(sorted(scenes, key=natural_key)) for scenes in split.scenes),
        ]
        for split in splits
    ]
    head = ["folder", "train images", "val images", "train share", "train videos", "val videos"]
    print(
        tabulate(rows, head, disable_numparse=True, maxcolwidths=[None, None, None, None, 40, 40])
    )
    return 0
