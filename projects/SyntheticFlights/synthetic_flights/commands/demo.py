"""Synthesise flights, train MSNet on them, evaluate it on unseen ones, and draw what it finds.

Takes minutes on two CPU cores. What was done before, with the same settings, is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from synthetic_flights.commands.synth import parse_size

from msnet_d2.cli.options import add_option, add_overrides

HELP = "from nothing to a trained, evaluated MSNet with pictures, on a CPU in minutes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the amount of data, and overrides of the config."""
    parser.add_argument(
        "--out", type=Path, default=Path("output/demo"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--videos", type=int, help="flights in all")
    parser.add_argument("--val-videos", type=int, help="how many of them are for evaluation")
    parser.add_argument("--seconds", type=float, help="length of a flight")
    parser.add_argument("--size", type=parse_size, metavar="WxH", help="size of the frames")
    parser.add_argument(
        "--seed", type=int, help="seed of the scenes and of the trainings (default: 7)"
    )
    add_option(
        parser,
        "--num-workers",
        former="--workers",
        default=2,
        help="processes that render (default: %(default)s)",
    )
    add_option(parser, "--no-progress")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from synthetic_flights.demo import Demo, DemoSettings

    given = {
        "videos": args.videos,
        "val_videos": args.val_videos,
        "seconds": args.seconds,
        "size": args.size,
        "seed": args.seed,
        "opts": tuple(args.opts),
    }
    settings = DemoSettings(**{name: value for name, value in given.items() if value is not None})
    Demo(args.out, settings, workers=args.num_workers, progress=not args.no_progress).run()
    return 0
