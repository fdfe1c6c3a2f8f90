"""Find damage in a video: an annotated video, and a file of what is in each frame.

INPUT is a video (mp4, mov, mkv, webm, avi, ts), a folder of frames in the order of their names, or
the number of a camera. With a model that has a Score Refinement Network, scores are refined by the
adjacent frames.

  msnet video flight.mp4 --config-file output/run/config.yaml --out marked.mp4 \\
      --results found.json

Ctrl-C ends the video early and finishes both files. The exit code is 1 if the input was damaged,
cut off or has gaps; all of it that is sound is in the output, and the message says what is missing.
"""

from __future__ import annotations

import argparse

from msnet_d2.cli.options import (
    acceleration_of,
    add_model_options,
    add_option,
    add_options,
    add_overrides,
)

HELP = "find damage in a video and write it annotated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("input", metavar="INPUT", help="video, folder of frames, or camera number")
    add_model_options(parser)
    parser.add_argument("--out", metavar="FILE", help="annotated video (mp4, mov, mkv, avi, ts)")
    parser.add_argument("--results", metavar="FILE", help="what is in each frame, JSON")
    add_option(parser, "--min-score")
    parser.add_argument(
        "--results-min-score",
        type=float,
        default=0.0,
        metavar="S",
        help="keep in the results what scores at least this (default: all that the model gives)",
    )
    parser.add_argument(
        "--neighbor",
        "--neighbour",
        choices=("previous", "next", "both", "off"),
        help="the frames that refine scores (default: the config's)",
    )
    add_options(parser, "--overwrite", "--batch-size", "--stride", "--no-progress")
    parser.add_argument("--max-frames", type=int, metavar="N", help="end after N frames")
    parser.add_argument(
        "--fps", type=float, metavar="F", help="frames a second of a folder (default: 25)"
    )
    parser.add_argument(
        "--keep-damaged",
        action="store_true",
        help="process frames decoded from corrupt data too, marked in the results",
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Process the video and say what became of it."""
    _check(args)
    from contextlib import ExitStack

    from msnet_d2.utils.locks import hold
    from msnet_d2.video.reader import VideoReader

    with ExitStack() as stack:
        # Before the model is built: a wrong file name is the likelier mistake, and found at once.
        reader = stack.enter_context(
            VideoReader(
                args.input,
                fps=args.fps,
                stride=args.stride,
                keep_damaged=args.keep_damaged,
                depth=_depth(args),
            )
        )
        for path in (args.out, args.results):
            if path is not None:
                stack.enter_context(hold(path, "results of a video"))
        _check_replaced(args)
        return _process(args, reader)


def _depth(args: argparse.Namespace) -> str:
    """``INPUT.DEPTH``, which matters for folders of pictures alone."""
    from pathlib import Path

    from msnet_d2.config import load_config
    from msnet_d2.utils.image_layout import checked_depth

    if not Path(args.input).is_dir():
        return "refuse"
    return checked_depth(load_config(args.config_file, args.opts))


def _check(args: argparse.Namespace) -> None:
    from pathlib import Path

    from msnet_d2.errors import InputError
    from msnet_d2.video.writer import CONTAINERS

    if args.out is None and args.results is None:
        raise InputError("nothing to write: give --out FILE.mp4, --results FILE.json, or both")
    if args.out is not None and Path(args.out).suffix.lower() not in CONTAINERS:
        raise InputError(
            f"cannot write a video to {args.out}: the suffix must be one of "
            f"{', '.join(sorted(CONTAINERS))}"
        )
    for path in (args.out, args.results):
        if path is not None and not Path(path).parent.is_dir():
            raise InputError(f"the folder {Path(path).parent} for {Path(path).name} does not exist")
    for option in ("min_score", "results_min_score"):
        if not 0 <= getattr(args, option) <= 1:
            name = option.replace("_", "-")
            raise InputError(f"--{name} is a score from 0 to 1, got {getattr(args, option)}")
    for option in ("batch_size", "stride", "max_frames"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option.replace('_', '-')} must be at least 1, got {value}")


def _check_replaced(args: argparse.Namespace) -> None:
    """See that nothing is lost: files of earlier runs alone are replaced, and never the input."""
    import os
    from pathlib import Path

    from msnet_d2.errors import InputError
    from msnet_d2.video.results import is_results_file
    from msnet_d2.video.writer import was_written_here

    for path, is_ours in ((args.out, was_written_here), (args.results, is_results_file)):
        if path is None or not os.path.lexists(path):
            continue
        if Path(args.input).exists() and os.path.realpath(path) == os.path.realpath(args.input):
            raise InputError(f"{path} is the input, and would be replaced; give another name")
        if Path(path).is_dir():
            raise InputError(f"{path} is a folder; give the name of a file")
        if not args.overwrite and not (Path(path).is_file() and is_ours(path)):
            raise InputError(
                f"{path} exists, and is not known to be written by msnet video; give another name, "
                "or --overwrite to replace it"
            )


def _process(args: argparse.Namespace, reader) -> int:
    from msnet_d2.checkpoint import trained_weights
    from msnet_d2.config import load_config
    from msnet_d2.video.detector import VideoDetector

    cfg = load_config(args.config_file, args.opts, device=args.device)
    detector = VideoDetector.from_config(
        cfg,
        args.weights or trained_weights(cfg, args.config_file, args.opts),
        neighbor=args.neighbor,
        batch_size=args.batch_size,
        stride=args.stride,
        allow_partial_weights=args.allow_partial_weights,
        acceleration=acceleration_of(args),
    )
    summary = detector.detect(
        reader,
        out=args.out,
        results=args.results,
        min_score=args.min_score,
        results_min_score=args.results_min_score,
        max_frames=args.max_frames,
        progress=not args.no_progress,
    )
    return _tell(args, reader, summary)


def _tell(args: argparse.Namespace, reader, summary) -> int:
    import sys

    from msnet_d2.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PROBLEMS
    from msnet_d2.utils.text import printable

    count = summary.frames_processed
    rate = count / summary.seconds if summary.seconds else 0.0
    found = ", ".join(f"{name} {number}" for name, number in summary.instances.items())
    print(f"{reader.info.name}: {count} frames, {rate:.1f} frames/s; in all of them: {found}")
    if count:
        print("Wrote " + " and ".join(str(p) for p in (args.out, args.results) if p))
    for line in summary.report.notes():
        print(f"Note: {line}")
    for line in summary.report.problems():
        print(f"Incomplete: {printable(line)}", file=sys.stderr)
    if summary.status == "interrupted":
        print("Interrupted: what was done so far is written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK if summary.report.is_complete else EXIT_PROBLEMS
