"""Results as Markdown tables, in the paper's form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from msnet_benchmark.bootstrap import Difference
from msnet_benchmark.methods import Method
from msnet_benchmark.summary import spread_of
from msnet_benchmark.trials import Trial

__all__ = [
    "MAIN_METRICS",
    "TASK_TITLES",
    "bold_best",
    "difference_table",
    "failure_lines",
    "markdown_table",
    "method_table",
    "show_spread",
    "signed",
]

MAIN_METRICS = ("AP", "AP25", "AP50", "APs", "APm", "APl")
TASK_TITLES = {
    "isbda_segm": "Masks",
    "isbda_bbox": "Boxes",
    "isbda_parent": "Buildings",
}


def markdown_table(rows: Sequence[Sequence[str]], headers: Sequence[str], left: int = 1) -> str:
    """A Markdown table of text; the first ``left`` columns to the left, the others to the right."""
    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def show_spread(mean: float, std: float) -> str:
    """Mean, and standard deviation if there is one; a dash for what is undefined."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def signed(value: float) -> str:
    """With its sign, a true minus."""
    return "–" if math.isnan(value) else f"{value:+.1f}".replace("-", "−")


def bold_best(rows: list[list[str]], values: Sequence[Sequence[float]], first: int = 1) -> None:
    """Set the highest value of each column in bold, in place.

    Args:
        rows: cells as text.
        values: for each row the numbers of its columns from ``first`` on.
        first: column of the first number.
    """
    if len(rows) < 2:
        return
    for column in range(len(values[0]) if values else 0):
        there = [row[column] for row in values if not math.isnan(row[column])]
        for row, numbers in zip(rows, values):
            if there and numbers[column] == max(there) > min(there):
                row[first + column] = f"**{row[first + column]}**"


def method_table(
    trials: Sequence[Trial],
    methods: Sequence[Method],
    task: str,
    metrics: Sequence[str] = MAIN_METRICS,
    *,
    levels: bool = True,
) -> str:
    """One row a method, one column a metric: mean ± standard deviation over the splits.

    Args:
        trials: of all methods and splits.
        methods: the rows. Those without the task in any trial are left out.
        task: such as "isbda_segm".
        metrics: the columns.
        levels: whether a column for each damage level follows.

    Returns:
        Table; an empty string if there is no row.
    """
    if levels:
        there = {
            metric: None
            for trial in trials
            if trial.record is not None
            for metric in trial.record["metrics"].get(task, {})
            if metric.startswith("AP-")
        }
        metrics = [*metrics, *there]
    rows, values = [], []
    for method in methods:
        spreads = [spread_of(trials, method.name, task, metric) for metric in metrics]
        if any(spread.values for spread in spreads):
            number = max(len(spread.values) for spread in spreads)
            rows.append([method.title, *(show_spread(s.mean, s.std) for s in spreads), str(number)])
            values.append([spread.mean for spread in spreads])
    if not rows:
        return ""
    bold_best(rows, values)
    headers = ["method", *(metric.removeprefix("AP-") for metric in metrics), "splits"]
    return markdown_table(rows, headers)


def difference_table(
    differences: Mapping[tuple[str, str, str, str], Difference],
    titles: Mapping[str, str],
    task: str,
    metrics: Sequence[str] = ("AP", "AP25", "AP50"),
) -> str:
    """One row a pair of methods: difference [95% interval]; in bold where the interval excludes 0.

    Args:
        differences: see :func:`~msnet_benchmark.summary.compare_methods`.
        titles: of the methods.
        task: such as "isbda_segm".
        metrics: the columns; the last one is the share of draws in which the first is above 0.

    Returns:
        Table; an empty string if there is no pair.
    """
    pairs = dict.fromkeys((a, b) for a, b, t, _ in differences if t == task)
    rows = []
    for ours, theirs in pairs:
        found = [differences[ours, theirs, task, metric] for metric in metrics]
        share = found[0].positive
        rows.append(
            [
                f"{titles[ours]} − {titles[theirs]}",
                *map(_show_difference, found),
                "–" if math.isnan(share) else f"{100 * share:.0f}%",
            ]
        )
    if not rows:
        return ""
    return markdown_table(rows, ["difference", *metrics, f"draws with {metrics[0]} above 0"])


def failure_lines(failed: Sequence[Trial]) -> list[str]:
    """Markdown list of the trials without metrics."""
    return [f"- {trial.label}: {trial.failure or 'was not run'}" for trial in failed]


def _show_difference(difference: Difference) -> str:
    if math.isnan(difference.value):
        return "–"
    if math.isnan(difference.low):
        return signed(difference.value)
    text = f"{signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}]"
    return f"**{text}**" if difference.significant else text
