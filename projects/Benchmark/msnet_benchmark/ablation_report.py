"""The ablation's tables and plots."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from msnet_benchmark import plots
from msnet_benchmark.diagnostics import PARENT_CHOICES, THRESHOLDS
from msnet_benchmark.provenance import provenance_lines, write_report
from msnet_benchmark.runs import Run
from msnet_benchmark.summary import Spread, compare_methods, differences_as_json, spread_of
from msnet_benchmark.tables import (
    MAIN_METRICS,
    bold_best,
    difference_table,
    failure_lines,
    markdown_table,
    method_table,
    show_spread,
)
from msnet_d2.utils.file_io import write_text

__all__ = ["write_ablation"]

_METRICS = {"ioa": "msnet", "iou": "msnet_iou"}
_METRIC_TITLES = {"ioa": "inner intersection (II)", "iou": "IoU"}
_PAPER = {"ioa": 0.1, "iou": 0.4}
_PAPER_CHOICE = PARENT_CHOICES[0].name

Diagnoses = Mapping[str, Mapping[str, dict]]


def write_ablation(
    run: Run, parts: Sequence[str], retrain: bool, diagnoses: Diagnoses, problems: Sequence[str]
) -> None:
    """Write ablation.json, ablation.md and the plots of what is finished.

    Args:
        run: with its trials.
        parts: of :data:`msnet_benchmark.ablation.PARTS`.
        retrain: how the sweep was made.
        diagnoses: method -> split -> what :func:`msnet_benchmark.diagnostics.diagnose` found.
        problems: what went wrong, a line each.
    """
    out = run.settings.out
    compared = [trial for trial in run.trials if "@" not in trial.method.name]
    differences = compare_methods(compared, run.settings.resampling)
    titles = {method.name: method.title for method in run.methods}
    sweep = _sweep(run, retrain) if "threshold" in parts else {}
    write_report(
        out / "ablation.json",
        {
            **run.as_json(),
            "parts": list(parts),
            "retrained_sweep": retrain,
            "differences": differences_as_json(differences),
            "sweep": {
                metric: {s: {"mean": x.mean, "std": x.std} for s, x in of_metric["AP"].items()}
                for metric, of_metric in sweep.items()
            },
            "diagnostics": diagnoses,
            "problems": list(problems),
        },
    )
    lines = ["# Ablation", "", f"- data: {run.settings.dataset}", *run.notes()]
    lines += provenance_lines(run.about)
    if "modules" in parts:
        lines += _section("HRPN and SRN (paper, table 3)", _modules_table(run))
    if "size" in parts:
        methods = [m for m in run.methods if m.name in _METRICS.values()]
        metrics = [f for f in MAIN_METRICS if f not in ("AP25", "AP50")]
        table = method_table(run.trials, methods, "isbda_segm", metrics, levels=False)
        lines += _section("Metric by size, masks (paper, table 4)", table)
        plots.plot_levels(out / "sizes.png", run.trials, methods)
        lines += ["![by size](sizes.png)", ""]
    if sweep:
        how = (
            "A model was trained for every S, as in the paper."
            if retrain
            else "The model trained at the paper's S (ringed) was evaluated at the others. This is "
            "not the paper's protocol, which trains one for every S: use `--retrain`."
        )
        lines += _section("Metric and threshold, mask AP (paper, figure 6)", how)
        lines += [_sweep_table(sweep), "", "![threshold](threshold.png)", ""]
        _plot_sweep(run, sweep)
    pairs = difference_table(differences, titles, "isbda_segm", ("AP", "APs", "APm", "APl"))
    if pairs:
        lines += _section(
            f"Differences, masks: 95% intervals of paired draws of {run.settings.resampling.unit}s",
            pairs,
        )
    if diagnoses:
        lines += _diagnostics_lines(diagnoses, titles)
        _plot_diagnostics(run, diagnoses, titles)
        lines += ["![diagnostics](diagnostics.png)", ""]
    if run.failed or problems:
        missing = [*failure_lines(run.failed), *(f"- {problem}" for problem in problems)]
        lines += _section("Missing", "\n".join(missing))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    write_text(out / "ablation.md", text + "\n")


def _section(title: str, text: str) -> list[str]:
    return ["", f"## {title}", "", text or "Nothing finished.", ""]


def _modules_table(run: Run) -> str:
    columns = [("isbda_segm", f) for f in ("AP", "AP25", "AP50")]
    columns += [("isbda_bbox", f) for f in ("AP", "AP25", "AP50")]
    rows, values = [], []
    for base in ("mask_rcnn_BD", "msnet"):
        for suffix in ("", "+srn"):
            spreads = [spread_of(run.trials, base + suffix, task, f) for task, f in columns]
            if not any(spread.values for spread in spreads):
                continue
            marks = ["yes" if base == "msnet" else "", "yes" if suffix else ""]
            rows.append([*marks, *(show_spread(s.mean, s.std) for s in spreads)])
            values.append([spread.mean for spread in spreads])
    bold_best(rows, values, first=2)
    short = {"isbda_segm": "mask", "isbda_bbox": "box"}
    headers = ["HRPN", "SRN", *(f"{short[task]} {figure}" for task, figure in columns)]
    return markdown_table(rows, headers, left=2) if rows else ""


def _sweep(run: Run, retrain: bool) -> dict[str, dict[str, dict[float, Spread]]]:
    """Metric -> figure -> S -> mask AP."""
    infix = "_trained" if retrain else ""
    found: dict[str, dict[str, dict[float, Spread]]] = {}
    for metric, name in _METRICS.items():
        for figure in ("AP", "APs"):
            points = {}
            for s in THRESHOLDS:
                method = name if s == _PAPER[metric] else f"{name}{infix}@{s}"
                spread = spread_of(run.trials, method, "isbda_segm", figure)
                if spread.values:
                    points[s] = spread
            found.setdefault(metric, {})[figure] = points
    return found


def _sweep_table(sweep: Mapping[str, Mapping[str, Mapping[float, Spread]]]) -> str:
    rows = []
    for metric, of_metric in sweep.items():
        empty = Spread(math.nan, math.nan, {})
        spreads = [of_metric["AP"].get(s, empty) for s in THRESHOLDS]
        rows.append([_METRIC_TITLES[metric], *(show_spread(s.mean, s.std) for s in spreads)])
    return markdown_table(rows, ["metric", *(f"S = {s}" for s in THRESHOLDS)])


def _plot_sweep(run: Run, sweep: Mapping[str, Mapping[str, Mapping[float, Spread]]]) -> None:
    panels = {
        title: {_METRIC_TITLES[metric]: of_metric[figure] for metric, of_metric in sweep.items()}
        for figure, title in (("AP", "mask AP"), ("APs", "mask AP, small parts"))
    }
    plots.plot_sweep(
        run.settings.out / "threshold.png",
        panels,
        x="threshold S",
        marked={_METRIC_TITLES[metric]: s for metric, s in _PAPER.items()},
    )


def _diagnostics_lines(diagnoses: Diagnoses, titles: Mapping[str, str]) -> list[str]:
    lines = _section(
        "Diagnostics",
        "Means over splits, in percent, on images that were not trained on. A box is found if a "
        "proposal overlaps it by an IoU of 0.5.",
    )
    for what, title in (("part_recall", "damaged parts"), ("parent_recall", "buildings")):
        table = _recall_table(diagnoses, titles, what)
        if table:
            lines += [f"### Recall of {title} by the best proposals", "", table, ""]
    for name, of_splits in diagnoses.items():
        if not any("kept" in d for d in of_splits.values()):
            continue
        metric = next((m for m, method in _METRICS.items() if method == name), "ioa")
        lines += [
            f"### What {titles[name]} keeps, by {_METRIC_TITLES[metric]}",
            "",
            "Share of anchors kept / share of parts that a kept anchor still covers (IoU 0.5; all "
            f"anchors together cover {_show(_over(of_splits, 'covered_by_all'))}).",
            "",
            _kept_table(of_splits, metric),
            "",
        ]
    table = _calibration_table(diagnoses, titles)
    return [*lines, "### Calibration of scores, masks", "", table, ""] if table else lines


def _recall_table(diagnoses: Diagnoses, titles: Mapping[str, str], what: str) -> str:
    rows, numbers = [], []
    for name, of_splits in diagnoses.items():
        if any(what in d for d in of_splits.values()):
            numbers = list(next(d[what] for d in of_splits.values() if what in d))
            cells = [_show(_over(of_splits, what, n)) for n in numbers]
            rows.append([titles[name], *cells])
    return markdown_table(rows, ["method", *numbers]) if rows else ""


def _kept_table(of_splits: Mapping[str, dict], metric: str) -> str:
    rows = []
    for choice in PARENT_CHOICES:
        row = [choice.name, _show(_over(of_splits, "parents", choice.name))]
        for s in map(str, THRESHOLDS):
            kept, covered = (
                _over(of_splits, what, metric, choice.name, s) for what in ("kept", "covered")
            )
            row.append(f"{_show(kept)} / {_show(covered)}")
        rows.append(row)
    headers = ["parent proposals", "an image", *(f"S = {s}" for s in THRESHOLDS)]
    return markdown_table(rows, headers)


def _calibration_table(diagnoses: Diagnoses, titles: Mapping[str, str]) -> str:
    rows = []
    for name, of_splits in diagnoses.items():
        error = _over(of_splits, "calibration", "error")
        if not math.isnan(error):
            rows.append([titles[name], _show(error)])
    return markdown_table(rows, ["method", "expected calibration error"]) if rows else ""


def _plot_diagnostics(run: Run, diagnoses: Diagnoses, titles: Mapping[str, str]) -> None:
    with plots.drawing(run.settings.out / "diagnostics.png", 2, 2, (9.4, 7)) as (_, axes):
        kept, covered, recall, scores = axes.flat
        for index, (metric, name) in enumerate(_METRICS.items()):
            of_splits = diagnoses.get(name, {})
            for choice, style in ((_PAPER_CHOICE, "-"), ("objectness ≥ 0.5", ":")):
                label = f"{_METRIC_TITLES[metric]}, {choice}"
                for axis, what in ((kept, "kept"), (covered, "covered")):
                    values = [_over(of_splits, what, metric, choice, str(s)) for s in THRESHOLDS]
                    axis.plot(THRESHOLDS, values, style, color=plots.COLORS[index], label=label)
        for axis in (kept, covered):
            axis.set_ylim(-3, 103)
            axis.legend(fontsize=7, frameon=False)
        plots.tidy(kept, "anchors kept", "threshold S", "percent of all anchors", grid="both")
        plots.tidy(
            covered,
            "parts covered by a kept anchor",
            "threshold S",
            "percent of parts",
            grid="both",
        )
        for index, (name, of_splits) in enumerate(diagnoses.items()):
            color = plots.COLORS[index % len(plots.COLORS)]
            for what, style in (("part_recall", "o-"), ("parent_recall", "s:")):
                if any(what in d for d in of_splits.values()):
                    numbers = list(next(d[what] for d in of_splits.values() if what in d))
                    values = [_over(of_splits, what, n) for n in numbers]
                    kind = "parts" if what == "part_recall" else "buildings"
                    label = f"{titles[name]}, {kind}"
                    recall.plot(
                        [int(n) for n in numbers], values, style, ms=3, color=color, label=label
                    )
            _plot_reliability(scores, of_splits, titles[name], color)
        recall.set_xscale("log")
        recall.set_ylim(-3, 103)
        scores.plot([0, 1], [0, 1], color="#d5d5d5", lw=1)
        for axis in (recall, scores):
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=7, frameon=False)
        plots.tidy(recall, "recall of proposals", "best proposals", "percent found", grid="both")
        plots.tidy(scores, "what scores are worth", "score", "share that is right", grid="both")


def _plot_reliability(axis, of_splits: Mapping[str, dict], title: str, color: str) -> None:
    """Precision by score, over the detections of all splits."""
    there = [d["calibration"] for d in of_splits.values() if d.get("calibration")]
    if not there:
        return
    count = np.sum([c["count"] for c in there], axis=0)
    sums = [
        np.sum([np.array(c["count"]) * [v or 0 for v in c[key]] for c in there], axis=0)
        for key in ("score", "precision")
    ]
    shown = count >= 5  # fewer say nothing
    if shown.any():
        x, y = (total[shown] / count[shown] for total in sums)
        axis.plot(x, y, "o-", ms=3, color=color, label=title)


def _over(of_splits: Mapping[str, dict], *keys: str) -> float:
    """Mean of a number in the diagnoses over the splits that have it; NaN if none has."""
    found = []
    for value in of_splits.values():
        for key in keys:
            value = value.get(key) if value else None
        if value is not None:
            found.append(value)
    return float(np.mean(found)) if found else math.nan


def _show(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
