"""Results as pictures (PNG), drawn without a display."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msnet_benchmark.bootstrap import Difference
from msnet_benchmark.methods import Method
from msnet_benchmark.summary import Spread, spread_of
from msnet_benchmark.trials import Trial
from msnet_d2.utils.file_io import write_bytes

__all__ = [
    "COLORS",
    "drawing",
    "plot_accuracy",
    "plot_differences",
    "plot_levels",
    "plot_metrics",
    "plot_sweep",
    "tidy",
]

# Of different lightness too; the first is for what the eye should find.
COLORS = ("#1f5fa8", "#d9730d", "#5a8f3c", "#8a4f9e", "#7a7a7a", "#b0383d", "#2a9d9d", "#c9a227")
_INK, _FAINT = "#222222", "#d5d5d5"
_SHOWN_TASKS = {"isbda_segm": "mask AP", "isbda_bbox": "box AP"}


@contextmanager
def drawing(
    path: Path, rows: int, columns: int, size: tuple[float, float], **options
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure and its axes (rows, columns), written to ``path`` at the end; ``size`` in inches."""
    # Not pyplot: it keeps figures, and asks for a display.
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure, figure.subplots(rows, columns, squeeze=False, **options)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    write_bytes(path, buffer.getvalue())


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "", grid: str = "x") -> None:
    """Give axes a title, labels and a faint grid, and take the frame away."""
    axes.set_title(title, fontsize=10, loc="left", color=_INK)
    axes.set_xlabel(x, fontsize=9, color=_INK)
    axes.set_ylabel(y, fontsize=9, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, length=2)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)


def plot_accuracy(path: Path, trials: Sequence[Trial], methods: Sequence[Method]) -> None:
    """Mask and box AP of each method: mean, standard deviation, and every split."""
    plot_metrics(
        path,
        {
            title: {m.title: spread_of(trials, m.name, task, "AP") for m in methods}
            for task, title in _SHOWN_TASKS.items()
        },
    )


def plot_metrics(path: Path, panels: Mapping[str, Mapping[str, Spread]]) -> None:
    """One panel a metric, one row a method: mean ± standard deviation, and every split as a dot."""
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    height = 1.0 + 0.42 * len(names)
    with drawing(path, 1, len(panels), (3.6 * len(panels) + 1, height), sharey=True) as (_, axes):
        for axis, (title, rows) in zip(axes[0], panels.items()):
            for position, name in enumerate(names):
                _draw_spread(axis, position, rows.get(name), COLORS[0])
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.margins(x=0.16)
            tidy(axis, title, "percent")


def plot_levels(path: Path, trials: Sequence[Trial], methods: Sequence[Method]) -> None:
    """Mask AP by damage level and by size, the methods side by side."""
    named = {"APs": "small", "APm": "medium", "APl": "large"}
    for trial in trials:
        for metric in trial.record["metrics"].get("isbda_segm", {}) if trial.record else ():
            if metric.startswith("AP-"):
                named.setdefault(metric, metric.removeprefix("AP-"))
    groups = sorted(named, key=lambda metric: not metric.startswith("AP-"))
    spreads = {
        (method.name, group): spread_of(trials, method.name, "isbda_segm", group)
        for method in methods
        for group in groups
    }
    groups = [g for g in groups if not all(math.isnan(spreads[m.name, g].mean) for m in methods)]
    step = 0.8 / max(len(methods), 1)
    with drawing(path, 1, 1, (8.2, 3.6)) as (figure, axes):
        axis = axes[0, 0]
        top = 0.0
        for index, method in enumerate(methods):
            x = np.arange(len(groups)) - 0.4 + (index + 0.5) * step
            means = np.array([spreads[method.name, group].mean for group in groups])
            errors = np.nan_to_num([spreads[method.name, group].std for group in groups])
            axis.bar(x, means, step * 0.9, color=_color(index), label=method.title)
            axis.errorbar(x, means, errors, fmt="none", ecolor=_INK, elinewidth=0.8)
            for position, mean, end in zip(x, means, means + errors):
                if not math.isnan(mean):
                    top = max(top, end)
                    if len(methods) <= 4:
                        _label(axis, f"{mean:.0f}", (position, end), 2)
        axis.set_ylim(0, max(top * 1.15, 1))
        axis.set_xticks(range(len(groups)), [named[group] for group in groups])
        tidy(axis, "mask AP by level and by size", y="percent", grid="y")
        _legend(figure, axis)


def plot_differences(
    path: Path,
    differences: Mapping[tuple[str, str, str, str], Difference],
    titles: Mapping[str, str],
) -> None:
    """AP of each pair of methods, first minus second, with the interval; dark where it is clear."""
    pairs = list(dict.fromkeys((a, b) for a, b, _, _ in differences))
    names = [f"{titles[a]} − {titles[b]}" for a, b in pairs]
    size = (9.2, 1.0 + 0.32 * len(pairs))
    with drawing(path, 1, len(_SHOWN_TASKS), size, sharey=True) as (_, axes):
        for axis, (task, title) in zip(axes[0], _SHOWN_TASKS.items()):
            axis.axvline(0, color=_INK, linewidth=0.8)
            for position, (ours, theirs) in enumerate(pairs):
                found = differences.get((ours, theirs, task, "AP"))
                if found is None or math.isnan(found.value):
                    continue
                color = COLORS[0] if found.significant else "#9a9a9a"
                if not math.isnan(found.low):
                    axis.plot([found.low, found.high], [position] * 2, color=color, linewidth=2)
                axis.plot(found.value, position, "o", color=color, markersize=5)
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            tidy(axis, f"difference in {title}", "percentage points, 95% interval")


def plot_sweep(
    path: Path,
    panels: Mapping[str, Mapping[str, Mapping[float, Spread]]],
    *,
    x: str,
    y: str = "percent",
    marked: Mapping[str, float] | None = None,
) -> None:
    """Lines with a band of one standard deviation.

    Args:
        path: of the PNG.
        panels: title -> line -> x -> metric.
        x: label.
        y: label.
        marked: line -> x that is marked by a ring, such as the paper's setting.
    """
    with drawing(path, 1, len(panels), (4.2 * len(panels) + 0.6, 3.2)) as (figure, axes):
        for axis, (title, lines) in zip(axes[0], panels.items()):
            for index, (name, points) in enumerate(lines.items()):
                xs = sorted(points)
                means = np.array([points[value].mean for value in xs])
                spread = np.nan_to_num([points[value].std for value in xs])
                color = _color(index)
                axis.fill_between(xs, means - spread, means + spread, color=color, alpha=0.15, lw=0)
                axis.plot(xs, means, "o-", color=color, markersize=4, linewidth=1.6, label=name)
                ring = (marked or {}).get(name)
                if ring in points:
                    axis.plot(ring, points[ring].mean, "o", mfc="none", mec=_INK, ms=10, mew=1.2)
            tidy(axis, title, x, y, grid="y")
        _legend(figure, axes[0, 0])


def _draw_spread(axis: Axes, position: int, spread: Spread | None, color: str) -> None:
    if spread is None or math.isnan(spread.mean):
        return
    dots = [value for value in spread.values.values() if not math.isnan(value)]
    if not math.isnan(spread.std):
        ends = [spread.mean - spread.std, spread.mean + spread.std]
        axis.plot(ends, [position] * 2, color=color, linewidth=2.4, solid_capstyle="butt")
        axis.plot(dots, [position] * len(dots), "o", color=color, markersize=3, alpha=0.45)
    axis.plot(spread.mean, position, "o", color=color, markersize=7)
    _label(axis, f"{spread.mean:.1f}", (spread.mean, position), 6)


def _label(axis: Axes, text: str, place: tuple[float, float], above: float) -> None:
    """A number so many points above a place."""
    axis.annotate(
        text,
        place,
        xytext=(0, above),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=_INK,
    )


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), 4),
            fontsize=8,
            frameon=False,
        )


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]
