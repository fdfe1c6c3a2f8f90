"""How time and memory grow: with buildings, detections, the size of frames, the length of a video,
and the number of videos. Draws growth.png and prints the same figures.

Doubling what there is should at most double the time, and leave the memory of a video as it is. The
detector is the quick one with random weights; where the video grows a stand-in takes its place.

  python benchmarks/growth.py --out benchmarks/growth.png
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from alternation import print_table, use_threads
from anchors import make_anchors, make_proposals
from drawing import make_frame, our_way
from msnet_benchmark.memory import peak_mib, resident_mib
from msnet_benchmark.plots import COLORS, drawing, tidy
from msnet_benchmark.speed_models import InferenceSide, make_pictures
from video_memory import FPS, HEIGHT, WIDTH, StandIn

from msnet_d2.config import load_config
from msnet_d2.evaluation.results import instances_to_results
from msnet_d2.inference.acceleration import InferenceOptions
from msnet_d2.modeling.proposal_generator.anchor_filter import filter_anchors
from msnet_d2.video.detections import StreamDetector
from msnet_d2.video.pipeline import process_video
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.writer import VideoWriter

METADATA = SimpleNamespace(
    thing_classes=["Slight", "Severe", "Debris"],
    thing_colors=[(60, 180, 75), (255, 165, 0), (220, 20, 60)],
)


def measured(action: Callable[[], object], rounds: int = 3) -> tuple[float, float]:
    """Milliseconds of processor time (median), and MiB by which memory rises at most."""
    action()
    memory = peak_mib(action)
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        taken.append(1e3 * (time.process_time() - start))
    return float(np.median(taken)), memory


def by_buildings(_: Path) -> dict:
    """Filtering anchors by the proposals of an 800 × 1344 frame."""
    anchors = make_anchors(800, 1344)
    found = {}
    for count in (125, 250, 500, 1000, 2000, 4000):
        proposals = make_proposals(count, 800, 1344)
        found[count] = measured(lambda p=proposals: filter_anchors(anchors, p))
    return found


def by_detections(_: Path) -> dict:
    """Drawing a 960 × 540 frame and making its entries of the results file."""
    found = {}
    for count in (12, 25, 50, 100, 200, 400):
        frame, instances = make_frame(540, 960, count)

        def action(frame=frame, instances=instances):
            our_way(frame, instances)
            instances_to_results(instances, 1, [0, 1, 2])

        found[count] = measured(action)
    return found


def by_pixels(_: Path) -> dict:
    """Detecting in frames of more and more pixels, each as large in the network as it is."""
    found = {}
    for height in (180, 270, 360, 540, 720, 1080):
        width = height * 16 // 9
        sizes = ["INPUT.MIN_SIZE_TEST", str(height), "INPUT.MAX_SIZE_TEST", "4000"]
        opts = ["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", *sizes]
        cfg = load_config("quick/msnet_srn_lite0_FPN.yaml", opts, device="cpu")
        side = InferenceSide(cfg, make_pictures(width, height, 2), 10, InferenceOptions.fast())
        side.frame()
        found[width * height / 1e6] = measured(side.frame, rounds=2)
    return found


def by_frames(folder: Path) -> dict:
    """A longer and longer video through decoding, drawing, encoding and the results file."""
    found = {}
    for count in (250, 500, 1000, 2000, 4000):
        source = write_video(folder / f"{count}.mp4", count)
        found[count] = process([source], folder)
    return found


def by_videos(folder: Path) -> dict:
    """More and more videos of 50 frames, one after another."""
    sources = [write_video(folder / f"video{i}.mp4", 50) for i in range(64)]
    return {count: process(sources[:count], folder) for count in (1, 4, 16, 64)}


def write_video(path: Path, count: int) -> Path:
    """A video of a ground that changes every second."""
    grounds = np.random.default_rng(0).integers(0, 255, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=FPS) as writer:
        for i in range(count):
            writer.write(grounds[i // FPS % 8])
    return path


def process(sources: list[Path], folder: Path) -> tuple[float, float]:
    """Milliseconds of processor time and the memory held at most while frames go through."""
    start, held = time.process_time(), 0.0
    for source in sources:
        detector = StandIn(50)
        with VideoReader(str(source)) as reader:
            out = {"out": folder / "out.mp4", "results": folder / "out.json"}
            process_video(reader, StreamDetector(detector), metadata=METADATA, **out)
        held = max(held, *detector.resident)
    return 1e3 * (time.process_time() - start), held


def slope(found: dict) -> float:
    """The power of x that time grows with, from the upper half of the figures."""
    x = np.log(np.asarray(list(found)))
    y = np.log([max(milliseconds, 1e-3) for milliseconds, _ in found.values()])
    half = len(x) // 2 - 1
    return float(np.polyfit(x[half:], y[half:], 1)[0])


def main() -> None:
    """Measure, print a table and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("growth.png"))
    parser.add_argument("--keep", type=Path, help="JSON: what is in it is not measured again")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    use_threads()
    torch.manual_seed(0)
    ways = {
        "frames of a video": by_frames,
        "videos": by_videos,
        "building proposals": by_buildings,
        "detections in a frame": by_detections,
        "megapixels": by_pixels,
    }
    growth = {}
    if args.keep and args.keep.is_file():
        kept = json.loads(args.keep.read_text())
        growth = {
            what: {float(n): figures for n, figures in kept[what].items()}
            for what in ways
            if what in kept
        }
    held = resident_mib()
    with tempfile.TemporaryDirectory() as name:
        for what, way in ways.items():
            if what not in growth:
                growth[what] = way(Path(name))
    growth = {what: growth[what] for what in ways}
    if args.keep:
        args.keep.write_text(json.dumps(growth, indent=1))
    rows = []
    with drawing(args.out, 2, len(growth), (15, 5.6)) as (_, axes):
        for (what, found), (upper, lower) in zip(growth.items(), axes.T):
            x, figures = list(found), np.asarray(list(found.values()))
            is_video = what in ("frames of a video", "videos")
            upper.loglog(x, figures[:, 0], "o-", color=COLORS[0], markersize=4)
            linear = figures[-1, 0] * np.asarray(x) / x[-1]
            upper.loglog(x, linear, "--", color=COLORS[4], linewidth=1)
            tidy(upper, f"{what}: time ∝ n^{slope(found):.2f}", grid="both")
            lower.semilogx(x, figures[:, 1], "o-", color=COLORS[1], markersize=4)
            lower.set_ylim(0, 1.25 * max(figures[:, 1].max(), 1))
            tidy(lower, x=what, grid="both")
            for axis in (upper, lower):
                axis.set_xticks(
                    x,
                    [f"{n:.2g}" if n < 1 else f"{n:.3g}" if n < 10 else f"{n:.0f}" for n in x],
                    fontsize=7,
                )
                axis.minorticks_off()
            memory = f"{figures[0, 1]:.0f} → {figures[-1, 1]:.0f}"
            kind = "held by the process" if is_video else "rise"
            counts = f"{x[0]:.4g} → {x[-1]:.4g}"
            taken = f"{figures[0, 0]:.1f} → {figures[-1, 0]:.1f}"
            rows.append([what, counts, taken, f"{slope(found):.2f}", f"{memory} ({kind})"])
        axes[0, 0].set_ylabel("ms of processor time (dashed: linear)", fontsize=9)
        axes[1, 0].set_ylabel("peak MiB (videos: the process)", fontsize=9)
    print(f"the process held {held:.0f} MiB at first")
    print_table(["n", "from → to", "ms", "time ∝ n^", "peak MiB"], rows)


if __name__ == "__main__":
    main()
