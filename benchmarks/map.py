"""Measure the damage map on rendered flights whose geometry is known; benchmarks/map.md holds runs.

  python benchmarks/map.py perfect --flights 24
  python benchmarks/map.py detected --demo output/demo

``perfect`` gives the map what a faultless detector would find in flights near 60 m, with exact logs
and with logs that are off by as much as their noise says. ``detected`` maps the demo's clips with
the demo's detector and compares with ``ground_truth.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from msnet_benchmark.provenance import describe_run, provenance_lines
from synthetic_flights.config import Appearance, SceneConfig, scene_rng
from synthetic_flights.simulation import MapScore, score_map, simulate, truth_in_view
from tabulate import tabulate
from tqdm import tqdm

from msnet_d2.damage_map.buildings.assessment import find_buildings
from msnet_d2.damage_map.buildings.association import link
from msnet_d2.damage_map.buildings.observations import observations_of
from msnet_d2.damage_map.buildings.placement import place
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.pipeline import make_map
from msnet_d2.damage_map.videos import open_video

HEIGHT_M, AROUND_M = 60.0, 5.0
HEAD = ("", "in view", "on the map", "missed", "twice", "false", "right level",
        "seen whole", "within 2 m", "median", "95%", "radius holds")  # fmt: skip


def row(name: str, score: MapScore) -> tuple:
    """A line of the table."""
    errors = np.array(score.errors_m)
    return (
        name, score.true, score.matched, score.missed, score.duplicates, score.false,
        score.levels_right, len(errors), f"{np.mean(errors <= 2):.1%}",
        f"{np.median(errors):.2f} m", f"{np.quantile(errors, 0.95):.2f} m",
        f"{np.mean(score.covered):.1%}",
    )  # fmt: skip


def perfect(flights: int) -> list[tuple]:
    """Perfect detections on flights whose mean height is near 60 m."""
    configs, seed = [], 1000
    while len(configs) < flights:
        config = SceneConfig(width=960, height=540, seconds=12, fps=5, seed=seed)
        seed += 1
        if abs(Appearance.draw(scene_rng(config, 1)).altitude - HEIGHT_M) <= AROUND_M:
            configs.append(config)
    exact, off = MapScore(), MapScore()
    for k, config in enumerate(tqdm(configs, unit="flight")):
        exact += simulate(config)
        off += simulate(config, np.random.default_rng(k))
    return [row("exact logs", exact), row("logs off by their noise", off)]


def detected(demo: Path, results: Path | None) -> tuple[list[tuple], list[str]]:
    """The demo's detector on the demo's clips: scores, and times beyond detection."""
    from msnet_d2.cli import main

    truth = json.loads((demo / "flights" / "ground_truth.json").read_text())["videos"]
    everything, assessed = MapScore(), MapScore()
    seconds = cpu = length = 0.0
    steps: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for entry in truth:
            clip = demo / "flights" / "videos" / f"{entry['video_id']}.mp4"
            found = (results or Path(folder)) / f"{clip.stem}.json"
            if not found.is_file():
                model = demo / "model_srn"
                main(["video", str(clip), "--config-file", str(model / "config.yaml"),
                      "--weights", str(model / "model_final.pth"), "--results", str(found),
                      "--no-progress"])  # fmt: skip
            video = open_video(clip, found, clip.with_suffix(".srt"), order=0)
            enu = EnuFrame(*video.flight.telemetry.home)
            buildings = find_buildings(link(place(observations_of(video), enu)), enu)
            seen = truth_in_view(entry)
            everything += score_map(buildings, seen, enu)
            assessed += score_map([b for b in buildings if b.level.number], seen, enu)
            start = time.perf_counter(), time.process_time()
            made = make_map([clip], Path(folder) / f"map{clip.stem}", results=[found])
            seconds += time.perf_counter() - start[0]
            cpu += time.process_time() - start[1]
            for step, value in made.seconds.items():
                steps[step] = steps.get(step, 0.0) + value
            length += video.results.duration_s
    rows = [row("all buildings", everything), row("assessed ones", assessed)]
    per = 60 / length
    parts = ", ".join(f"{step} {value * per:.1f}" for step, value in steps.items())
    return rows, [
        f"beyond detection, for a minute of video: {seconds * per:.1f} s, {cpu * per:.1f} s of "
        f"processor time ({parts})"
    ]


def main() -> None:
    """Print a table, and what it was made on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("perfect", "detected"))
    parser.add_argument("--flights", type=int, default=24)
    parser.add_argument("--demo", type=Path, default=Path("output/demo"))
    parser.add_argument("--results", type=Path, help="folder of results to use again")
    args = parser.parse_args()
    if args.what == "perfect":
        rows, notes = perfect(args.flights), []
    else:
        rows, notes = detected(args.demo, args.results)
    print(tabulate(rows, HEAD, tablefmt="github"))
    print("\n" + "\n".join([*notes, *provenance_lines(describe_run())]))


if __name__ == "__main__":
    main()
