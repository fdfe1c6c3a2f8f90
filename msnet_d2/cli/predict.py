"""Find damage in pictures.

For each picture DIR receives a drawn one (NAME.jpg), and DIR/predictions.json all results: level,
score, box (x, y, width, height in pixels), mask (COCO's RLE) and building of each damaged part, and
the buildings themselves. Of a model that gives a class for every pixel, such as flood, they are a
mask of each class, and DIR/labels/NAME.png has the class numbers. With the config.yaml that
training wrote, the weights are the last checkpoint beside it unless others are given.

  msnet predict photo.jpg folder/ --config-file run/config.yaml --out found
"""

from __future__ import annotations

import argparse

from msnet_d2.cli.options import (
    acceleration_of,
    add_model_options,
    add_options,
    add_overrides,
)

HELP = "find damage in pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add pictures, model and output."""
    parser.add_argument("pictures", nargs="+", metavar="IMAGE", help="picture, or a folder of them")
    add_model_options(parser, required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_options(parser, "--min-score", "--no-progress")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, draw, write; 1 if a picture could not be read, or not all of it, or too small."""
    import sys
    from pathlib import Path

    from msnet_d2.checkpoint import trained_weights
    from msnet_d2.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PROBLEMS
    from msnet_d2.config import find_config, load_config
    from msnet_d2.errors import InputError
    from msnet_d2.inference.images import find_images, predict_images
    from msnet_d2.inference.predictor import Predictor
    from msnet_d2.utils.text import printable

    if not 0 <= args.min_score <= 1:
        raise InputError(f"--min-score is a probability from 0 to 1, got {args.min_score}")
    # Before the model, which takes seconds to load.
    pictures = find_images(args.pictures, leave_out=args.out)
    opts = [*args.opts, *(["MODEL.WEIGHTS", args.weights] if args.weights else [])]
    cfg = load_config(args.config_file, opts, device=args.device)
    cfg.defrost()
    cfg.MODEL.WEIGHTS = trained_weights(cfg, args.config_file, opts)
    predictor = Predictor(
        cfg,
        allow_partial_weights=args.allow_partial_weights,
        acceleration=acceleration_of(args),
    )
    summary = predict_images(
        predictor,
        pictures,
        args.out,
        min_score=args.min_score,
        progress=not args.no_progress,
        about={
            "config": find_config(args.config_file).name,
            "precision": predictor.acceleration.precision,
        },
    )
    found = sum(len(image["instances"]) for image in summary["images"])
    noun = "regions" if predictor.metadata.get("regions") else "damaged parts"
    print(f"{found} {noun} in {len(summary['images'])} pictures: {Path(args.out)}")
    for problem in summary["unreadable"]:
        line = printable(f"not read: {problem['file']}: {problem['reason']}")
        print(line, file=sys.stderr)
    for name in summary["damaged"]:
        line = printable(f"damaged: {name}: nothing is found in its missing parts")
        print(line, file=sys.stderr)
    for problem in summary["shrunk"]:
        print(
            f"too large: {problem['file']}: the network sees its objects at "
            f"{problem['scale']:.0%} of the smallest size that it was trained at, and may have "
            "missed them; cut it into smaller pictures, or set INPUT.MIN_SIZE_TEST and "
            "MAX_SIZE_TEST to the size of the picture",
            file=sys.stderr,
        )
    if summary["status"] == "interrupted":
        print("interrupted: what was done so far is written", file=sys.stderr)
        return EXIT_INTERRUPTED
    problems = summary["unreadable"] or summary["damaged"] or summary["shrunk"]
    return EXIT_PROBLEMS if problems else EXIT_OK
