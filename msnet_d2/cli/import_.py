"""Write a folder of pictures with masks (a CSV of Image and Mask) as a
semantic data set: DIR/train, DIR/val, DIR/semantic, DIR/annotations.

What is wrong with the files is handled and told: names that lie about the
format, EXIF turns, swapped masks, masks of another size, pictures that are
there twice. Data in COCO's panoptic format or YouTube-VIS's need no import:
name them as panoptic@FILE.json and tracks@FILE.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a folder of pictures and masks as a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet import``."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with one .csv of Image, Mask")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--foreground",
        default="flood",
        metavar="NAME",
        help="what masks are white at (default: %(default)s)",
    )
    parser.add_argument(
        "--ignore-gray",
        action="store_true",
        help="ignore mask values from 10 to 245 (default: a threshold of 128)",
    )
    parser.add_argument(
        "--ratio",
        type=float,
        default=0.8,
        help="share of the pictures to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Import and tell; 2 if the data cannot be used, nothing being written."""
    from msnet_d2.cli import EXIT_OK
    from msnet_d2.data.importers.mask_folder import import_mask_folder
    from msnet_d2.errors import DatasetError, InputError

    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: expected 0 or more")
    done = import_mask_folder(
        args.folder,
        args.out,
        foreground=args.foreground,
        ignore_gray=args.ignore_gray,
        val_share=1 - args.ratio,
        seed=args.seed,
    )
    for issue in done.issues:
        print(f"{issue.severity}: {issue.kind}: {issue}")
    fatal = sum(issue.fatal for issue in done.issues)
    if fatal:
        raise DatasetError(f"{args.folder} has {fatal} fatal issues (above): nothing was written")
    for names in done.groups:
        print(f"the same picture: {', '.join(names)}; kept in one split")
    print(f"train: {done.counts['train']} pictures, val: {done.counts['val']}")
    share = 100 * done.background_share
    print(
        f"calling all of val background has a pixel accuracy of {share:.1f} and a mean IU of "
        f"{share / 2:.1f}; figures of a model mean something above these"
    )
    print(f"written to {args.out}; use it as semantic@{args.out}:train")
    return EXIT_OK
