"""Split a data set by scene into training and validation, once for each seed.

Each split is a folder OUT/seed_N in ISBDA's layout that can be given wherever a data set is asked
for. Pictures are not copied: train/ and val/ are links to the folder of the original ones. No scene
is on both sides. The published results are means over three such splits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.options import add_options
from msnet_d2.utils.text import natural_key

HELP = "split a data set by scene"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet split``."""
    add_options(parser, "dataset", "--image-root")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--by",
        choices=["video", "folder", "pattern"],
        default="video",
        help="what a scene is (default: %(default)s)",
    )
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="its first group is the scene in a file name, such as '(ortho[A-Z])_'",
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
    """Write the splits and print what is in them; 1 if the scenes are doubtful."""
    import sys

    from tabulate import tabulate

    from msnet_d2.cli import EXIT_OK, EXIT_PROBLEMS
    from msnet_d2.data.isbda.splits import write_splits

    splits = write_splits(
        args.dataset,
        args.out,
        args.ratio,
        args.seeds,
        image_root=args.image_root,
        by=args.by,
        pattern=args.pattern,
    )
    rows = [
        [
            split.folder,
            *split.images,
            f"{split.images[0] / sum(split.images):.1%}",
            *(", ".join(sorted(scenes, key=natural_key)) for scenes in split.scenes),
        ]
        for split in splits
    ]
    head = ["folder", "train images", "val images", "train share", "train scenes", "val scenes"]
    print(
        tabulate(rows, head, disable_numparse=True, maxcolwidths=[None, None, None, None, 40, 40])
    )
    doubt = splits[0].doubt
    if doubt:
        print(f"doubtful: {doubt}", file=sys.stderr)
    return EXIT_PROBLEMS if doubt else EXIT_OK
