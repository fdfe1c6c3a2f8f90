"""Render drone flights over damaged neighbourhoods and write them in ISBDA's layout.

The data set goes to DIR/train, DIR/val, DIR/annotations, DIR/videos (.mp4 and DJI-style .srt) and
DIR/ground_truth.json (buildings in world coordinates, camera poses). The same seed gives the same
bytes.

More truth of the annotated frames, each with its DIR/annotations/KIND_SIDE.json:

  --panoptic    DIR/semantic/SIDE/V_I.png, DIR/panoptic/SIDE/V_I.png (COCO's)
  --amodal      amodal_SIDE.json alone
  --flow-gaps   DIR/flow/SIDE/V_I_K.npz, from frame I to frame K
  --clean       DIR/clean/SIDE/V_I.jpg and V_I_cover.png, without a JSON
  --tracks      tracks_SIDE.json alone (YouTube-VIS)
"""

from __future__ import annotations

import argparse
import re

from msnet_d2.cli.options import add_option, add_options

HELP = "render an aerial data set in ISBDA's layout"


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "960x540"."""
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; expected WIDTHxHEIGHT, as in 960x540"
        )
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet synth``."""
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="folder of the data set")
    add(
        "--videos",
        type=int,
        default=10,
        metavar="N",
        help="number of flights (default: %(default)s)",
    )
    add(
        "--seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="length of a flight (default: %(default)s)",
    )
    add(
        "--fps",
        type=float,
        default=25.0,
        metavar="F",
        help="frames per second (default: %(default)s)",
    )
    add(
        "--size",
        type=parse_size,
        default=(960, 540),
        metavar="WxH",
        help="size of the frames (default: 960x540)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="K",
        help="seed of the data set (default: %(default)s)",
    )
    add(
        "--val-videos",
        type=int,
        metavar="N",
        help="flights for validation (default: a fifth, at least one of two)",
    )
    add(
        "--every",
        type=int,
        default=10,
        metavar="N",
        help="annotate one frame of N (default: %(default)s, as ISBDA)",
    )
    add(
        "--trees",
        type=float,
        default=1.0,
        metavar="F",
        help="so many times as many trees; houses, damage and camera stay as they are (default: 1)",
    )
    add(
        "--flood",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the ground under brown water, 0 to 0.9 (default: 0)",
    )
    add(
        "--panoptic",
        action="store_true",
        help="also write semantic and panoptic pictures of the annotated frames",
    )
    add(
        "--amodal",
        action="store_true",
        help="also write whole masks of all buildings and parts, and what hides them",
    )
    add(
        "--flow-gaps",
        type=int,
        nargs="+",
        default=[],
        metavar="GAP",
        help="also write exact optical flow from each annotated frame to the one GAP frames before "
        "it (below 0: behind it)",
    )
    add(
        "--clean",
        action="store_true",
        help="also write the annotated frames without trees, and the trees' opacity",
    )
    add(
        "--tracks",
        action="store_true",
        help="also write the masks of buildings and parts over the annotated frames (YouTube-VIS)",
    )
    add(
        "--no-video",
        action="store_true",
        help="write no videos and telemetry; render the annotated frames only",
    )
    add_option(
        parser,
        "--num-workers",
        former="--workers",
        default=1,
        help="processes (default: %(default)s); changes no byte",
    )
    add_options(parser, "--no-progress", "--overwrite")


def run(args: argparse.Namespace) -> int:
    """Write the data set and print a summary."""
    from pathlib import Path

    from synthetic_flights.config import SceneConfig
    from synthetic_flights.truth_files import TruthOptions
    from synthetic_flights.writer import DatasetPlan, write_dataset
    from tqdm import tqdm

    width, height = args.size
    scene = SceneConfig(
        width=width,
        height=height,
        fps=args.fps,
        seconds=args.seconds,
        seed=args.seed,
        trees=args.trees,
        flood=args.flood,
    )
    truth = TruthOptions(
        panoptic=args.panoptic,
        amodal=args.amodal,
        flow_gaps=tuple(args.flow_gaps),
        clean=args.clean,
        tracks=args.tracks,
    )
    plan = DatasetPlan(
        Path(args.out),
        scene,
        args.videos,
        val_videos=args.val_videos,
        every=args.every,
        write_videos=not args.no_video,
        workers=args.num_workers,
        overwrite=args.overwrite,
        truth=truth,
    )
    total = args.videos * scene.num_frames
    with tqdm(total=total, unit="frame", desc="rendering", disable=args.no_progress) as bar:
        summary = write_dataset(plan, bar.update)
    for side in ("train", "val"):
        s = summary[side]
        slight, severe, debris = s["levels"]
        print(
            f"{side}: {s['videos']} videos, {s['images']} pictures, "
            f"{s['annotations']} damaged parts (Slight {slight}, Severe {severe}, Debris {debris})"
        )
    if summary["codec"] == "mp4v":
        print("videos are MPEG-4 part 2: install the package av for H.264")
    print(f"written to {plan.out}")
    return 0
