"""Metrics as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tabulate import tabulate

__all__ = ["results_table"]

_FIRST = ("AP", "AP25", "AP50", "AP75", "APs", "APm", "APl")


def results_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table with one row per task and one column per metric.

    Args:
        results: task -> metric -> percent, as :class:`~msnet_d2.evaluation.ISBDAEvaluator` returns.

    Returns:
        Table; "nan" is a metric that is undefined for want of ground truth, an empty cell one that
        the task does not have. An empty ``results`` gives an empty string.
    """
    if not results:
        return ""
    there = dict.fromkeys(metric for row in results.values() for metric in row)
    columns = [name for name in _FIRST if name in there] + [n for n in there if n not in _FIRST]
    rows = [
        [task, *(_cell(metrics.get(column)) for column in columns)]
        for task, metrics in results.items()
    ]
    headers = ["task", *(column.removeprefix("AP-") for column in columns)]
    align = ("left", *["right"] * len(columns))
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return "nan" if math.isnan(value) else f"{value:.2f}"
