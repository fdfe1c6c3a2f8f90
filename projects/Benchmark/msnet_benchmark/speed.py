"""``msnet bench speed``: two configs on the same images in the same process, taking turns."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from tqdm import tqdm

from msnet_benchmark import plots
from msnet_benchmark.provenance import describe_run, provenance_lines, write_report
from msnet_benchmark.speed_models import (
    InferenceSide,
    TrainingSide,
    make_pictures,
    measure_peak,
    read_pictures,
)
from msnet_benchmark.stages import STAGES
from msnet_benchmark.tables import markdown_table
from msnet_d2.config import find_config, load_config
from msnet_d2.errors import InputError
from msnet_d2.inference.acceleration import InferenceOptions
from msnet_d2.utils.file_io import write_text

__all__ = ["Row", "SpeedSettings", "Stat", "measure", "run_speed", "speed_markdown"]

_DEFAULT_DETECTIONS = 10


@dataclass(frozen=True)
class SpeedSettings:
    """What is compared, and on what; see the options of the command."""

    config_a: str
    config_b: str
    weights_a: str | None = None
    weights_b: str | None = None
    opts_a: tuple[str, ...] = ()
    opts_b: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    size: str = "1333x800"
    detections: int | None = None
    rounds: int = 11
    warmup: int = 2
    device: str | None = None
    threads: int | None = None
    training: bool = True
    batch: int = 1
    accelerate: str = "none"  # "a", "b", "both": which side predicts as `msnet predict` does
    precision: str = "auto"
    clock: str = "wall"  # "cpu": the processor time of all threads

    def __post_init__(self):
        for name, value, least in (
            ("--rounds", self.rounds, 1),
            ("--warmup", self.warmup, 0),
            ("--batch", self.batch, 1),
            ("--threads", 1 if self.threads is None else self.threads, 1),
            ("--detections", 0 if self.detections is None else self.detections, 0),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; expected {least} or more")
        for name, opts in (("A", self.opts_a), ("B", self.opts_b)):
            if len(opts) % 2:
                raise InputError(f"overrides of {name} are pairs KEY VALUE, got {' '.join(opts)}")

    def acceleration(self, side: str) -> InferenceOptions | None:
        """Of side "a" or "b"."""
        return InferenceOptions.fast(self.precision) if self.accelerate in (side, "both") else None

    @property
    def timer(self) -> Callable[[], float]:
        """Gives seconds."""
        return time.process_time if self.clock == "cpu" else time.perf_counter

    @property
    def fixed_detections(self) -> int | None:
        """How many boxes take the place of what is found; None: none do."""
        if self.detections is None and self.weights_a and self.weights_b:
            return None
        return _DEFAULT_DETECTIONS if self.detections is None else self.detections

    def pictures(self) -> list[np.ndarray]:
        """BGR arrays."""
        if self.images:
            return read_pictures(self.images)
        match = re.fullmatch(r"(\d+)[xX×](\d+)", self.size)
        if not match or min(int(match[1]), int(match[2])) < 32:
            raise InputError(
                f"--size {self.size}: expected WIDTHxHEIGHT of 32 pixels and more, as in 1333x800"
            )
        return make_pictures(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class Stat:
    """Median and the range from the 10th to the 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Stat:
        """Of one value or more."""
        low, median, high = np.percentile(np.asarray(values, dtype=float), [10, 50, 90])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Row:
    """A measurement of both sides; ``ratio`` is of the pairs taken one after the other."""

    name: str
    unit: str
    a: Stat
    b: Stat
    ratio: Stat | None

    @classmethod
    def of(cls, name: str, unit: str, a: Sequence[float], b: Sequence[float]) -> Row:
        """Of as many measurements of A as of B; no ratio where B has nothing to compare with."""
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        usable = (b > 0) & (a > 0)
        return cls(
            name,
            unit,
            Stat.of(a),
            Stat.of(b),
            Stat.of(a[usable] / b[usable]) if usable.all() else None,
        )


def measure(
    actions: Sequence[Callable[[], object]], rounds: int, warmup: int, label: str
) -> list[list]:
    """Results of both actions, round by round; who goes first changes from round to round."""
    results: list[list] = [[], []]
    for number in tqdm(range(-warmup, rounds), desc=label, unit="round", disable=None):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for side in order:
            result = actions[side]()
            if number >= 0:
                results[side].append(result)
    return results


def run_speed(settings: SpeedSettings, out: Path | None = None) -> str:
    """Measure, write speed.json, speed.md and speed.png into ``out`` if given; return the Markdown.

    Raises:
        MSNetError: if a config, its weights or the pictures cannot be used.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder or a new name")
    pictures = settings.pictures()
    configs = [
        _config(settings, settings.config_a, settings.weights_a, settings.opts_a),
        _config(settings, settings.config_b, settings.weights_b, settings.opts_b),
    ]
    threads = torch.get_num_threads()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        rows, facts = _measure_inference(settings, configs, pictures)
        if settings.training:
            gc.collect()
            rows += _measure_training(settings, configs, pictures)
        about = describe_run()
    finally:
        torch.set_num_threads(threads)
    facts["device"] = configs[0].MODEL.DEVICE
    text = speed_markdown(settings, rows, facts, about)
    if out is not None:
        write_report(
            out / "speed.json",
            {**about, "settings": asdict(settings), **facts, "rows": [asdict(r) for r in rows]},
        )
        write_text(out / "speed.md", text + "\n![stages](speed.png)\n")
        _plot(out / "speed.png", settings, rows)
    return text


def speed_markdown(settings: SpeedSettings, rows: Sequence[Row], facts: dict, about: dict) -> str:
    """Table of all rows, and how it was measured."""
    a, b = facts["a"], facts["b"]
    lines = [
        "# Speed",
        "",
        f"- A: {_describe(settings.config_a, settings.opts_a, settings.weights_a, a)}",
        f"- B: {_describe(settings.config_b, settings.opts_b, settings.weights_b, b)}",
        f"- device: {facts['device']}; {'processor' if settings.clock == 'cpu' else 'wall'} time",
        *_accelerated(settings),
        f"- median of {settings.rounds} alternations [10th to 90th percentile]; the ratio is the "
        "median of each round's",
        *provenance_lines(about),
        "",
        markdown_table(
            [
                [
                    f"{row.name}, {row.unit}",
                    _show(row.a),
                    _show(row.b),
                    "–" if row.ratio is None else _show(row.ratio, digits=2),
                ]
                for row in rows
            ],
            ["", "A", "B", "A / B"],
        ),
    ]
    return "\n".join(lines) + "\n"


def _accelerated(settings: SpeedSettings) -> list[str]:
    if settings.accelerate == "none":
        return []
    which = "A and B" if settings.accelerate == "both" else settings.accelerate.upper()
    return [f"- {which}: folded norms, channels last, precision {settings.precision}"]


def _config(
    settings: SpeedSettings, name: str, weights: str | None, opts: Sequence[str]
) -> CfgNode:
    path = find_config(name)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return load_config(path, [*opts, "MODEL.WEIGHTS", weights or ""], device=device)


def _measure_inference(
    settings: SpeedSettings, configs: Sequence[CfgNode], pictures: Sequence[np.ndarray]
) -> tuple[list[Row], dict]:
    sides = [
        InferenceSide(
            cfg, pictures, settings.fixed_detections, settings.acceleration(side), settings.timer
        )
        for cfg, side in zip(configs, "ab")
    ]
    rounds, warmup = settings.rounds, settings.warmup
    frames = measure([side.frame for side in sides], rounds, warmup, "frames")
    by_stage = measure([side.frame_by_stage for side in sides], rounds, min(warmup, 1), "stages")
    rows = [
        Row.of("images", "1/s", *([1000 / ms for ms in of_side] for of_side in frames)),
        Row.of("frame", "ms", *frames),
    ]
    for stage in STAGES:
        values = [[taken.get(stage, 0.0) for taken in of_side] for of_side in by_stage]
        if any(map(any, values)):
            rows.append(Row.of(stage, "ms", *values))
    rows += _peak_row("peak memory of a frame", sides, [side.frame for side in sides])
    facts = {
        key: {
            "million_parameters": sum(p.numel() for p in side.model.parameters()) / 1e6,
            "detections": side.found,
        }
        for key, side in zip("ab", sides)
    }
    return rows, facts


def _measure_training(
    settings: SpeedSettings, configs: Sequence[CfgNode], pictures: Sequence[np.ndarray]
) -> list[Row]:
    sides = [TrainingSide(cfg, pictures, settings.batch, settings.timer) for cfg in configs]
    actions = [side.step for side in sides]
    steps = measure(actions, settings.rounds, min(settings.warmup, 1), "training steps")
    rows = [Row.of(f"training step of {settings.batch}", "ms", *steps)]
    return rows + _peak_row("peak memory of a training step", sides, actions)


def _peak_row(name: str, sides: Sequence, actions: Sequence[Callable[[], object]]) -> list[Row]:
    peaks = [measure_peak(side, action) for side, action in zip(sides, actions)]
    if None in peaks:
        return []
    return [Row.of(name, "MiB", *([peak] for peak in peaks))]


def _describe(config: str, opts: Sequence[str], weights: str | None, facts: dict) -> str:
    changed = f" {' '.join(map(str, opts))}" if opts else ""
    return (
        f"`{config}{changed}`, {weights or 'random weights'}, "
        f"{facts['million_parameters']:.1f} million parameters, {facts['detections']} detections"
    )


def _show(stat: Stat, digits: int | None = None) -> str:
    def text(value: float) -> str:
        if digits is not None:
            return f"{value:.{digits}f}"
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

    if stat.low == stat.high:
        return text(stat.median)
    return f"{text(stat.median)} [{text(stat.low)}, {text(stat.high)}]"


def _plot(path: Path, settings: SpeedSettings, rows: Sequence[Row]) -> None:
    stages = [row for row in rows if row.name in STAGES]
    names = [f"A  {Path(settings.config_a).stem}", f"B  {Path(settings.config_b).stem}"]
    with plots.drawing(path, 1, 1, (9, 2.9)) as (figure, axes):
        axis, left = axes[0, 0], np.zeros(2)
        total = max(sum(row.a.median for row in stages), sum(row.b.median for row in stages))
        for index, row in enumerate(stages):
            widths = np.array([row.a.median, row.b.median])
            color = (*plots.COLORS, "#c8c8c8")[index % (len(plots.COLORS) + 1)]
            bars = axis.barh(
                names, widths, left=left, height=0.6, color=color, label=row.name, ec="white"
            )
            labels = [f"{w:.0f}" if w > 0.04 * total else "" for w in widths]
            axis.bar_label(bars, labels, label_type="center", fontsize=8, color="white")
            left += widths
        axis.invert_yaxis()
        plots.tidy(axis, "a frame by stage, medians", "milliseconds")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False
        )
