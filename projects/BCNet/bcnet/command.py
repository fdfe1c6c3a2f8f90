"""Keep the images of a COCO data set in which objects overlap.

The paper evaluates on COCO-OCC, the images of COCO's validation set in which the boxes of two
objects overlap by at least 0.2:

  msnet coco-occ instances_val2017.json --out occ_val2017.json
  msnet eval --config-file run/config.yaml --dataset occ_val2017.json \\
      --image-root val2017
"""

from __future__ import annotations

import argparse

HELP = "keep the images of a COCO data set in which objects overlap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("json_file", metavar="FILE.json", help="COCO's annotations")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="file to write")
    parser.add_argument(
        "--min-overlap",
        type=float,
        default=0.2,
        metavar="IOU",
        help="least IoU of the boxes of two objects (default: 0.2)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the split; 1 if no image is left."""
    from pathlib import Path

    from bcnet.coco_occ import make_split
    from msnet_d2.errors import InputError
    from msnet_d2.utils.file_io import write_json

    if not 0 < args.min_overlap <= 1:
        raise InputError(f"--min-overlap is {args.min_overlap}; expected above 0, at most 1")
    if Path(args.out).resolve() == Path(args.json_file).resolve():
        raise InputError(f"--out {args.out} is the file that is read; name another")
    split = make_split(args.json_file, args.min_overlap)
    write_json(args.out, split)
    images, annotations = len(split["images"]), len(split["annotations"])
    print(f"{args.out}: {images:,} images with {annotations:,} annotations")
    return 0 if images else 1
