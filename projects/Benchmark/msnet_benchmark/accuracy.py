"""``msnet bench accuracy``: the paper's table 2 on one's own data."""

from __future__ import annotations

from collections.abc import Sequence

from msnet_benchmark import plots
from msnet_benchmark.bootstrap import Difference
from msnet_benchmark.provenance import provenance_lines, write_report
from msnet_benchmark.runs import Run, RunSettings
from msnet_benchmark.summary import compare_methods, differences_as_json, spread_of
from msnet_benchmark.tables import (
    TASK_TITLES,
    difference_table,
    failure_lines,
    markdown_table,
    method_table,
)
from msnet_benchmark.trials import Launch
from msnet_d2.utils.file_io import write_text

__all__ = ["DEFAULT_METHODS", "run_accuracy"]

DEFAULT_METHODS = ("polarmask", "mask_rcnn_D", "mask_rcnn_BD", "msnet")


def run_accuracy(
    settings: RunSettings, names: Sequence[str] = DEFAULT_METHODS, launch: Launch | None = None
) -> Run:
    """Train and evaluate methods on every split; write results.json, table.md and plots.

    Args:
        settings: see the class.
        names: of the methods.
        launch: how trials are run; None: as ``settings`` say.

    Returns:
        The run; :attr:`Run.failed` says what is missing.

    Raises:
        MSNetError: if something is wrong that can be told before training.
    """
    run = Run.prepare(settings, settings.methods(names))
    try:
        run.run(launch)
    finally:
        # After an interruption too: what is finished can be read.
        if any(trial.record for trial in run.trials):
            write_accuracy(run)
    return run


def write_accuracy(run: Run) -> None:
    """Write what is finished into the run's folder."""
    out = run.settings.out
    differences = compare_methods(run.trials, run.settings.resampling)
    content = {**run.as_json(), "means": _means(run)}
    content["differences"] = differences_as_json(differences)
    write_report(out / "results.json", content)
    write_text(out / "table.md", accuracy_markdown(run, differences))
    titles = {method.name: method.title for method in run.methods}
    plots.plot_accuracy(out / "accuracy.png", run.trials, run.methods)
    plots.plot_levels(out / "levels.png", run.trials, run.methods)
    if differences:
        plots.plot_differences(out / "differences.png", differences, titles)


def accuracy_markdown(run: Run, differences: dict[tuple[str, str, str, str], Difference]) -> str:
    """The content of table.md."""
    titles = {method.name: method.title for method in run.methods}
    settings, images = run.settings, run.splits[0].images
    lines = [
        "# Accuracy",
        "",
        f"Percent by ISBDA's protocol (AP: mean over IoU 0.25 to 0.50), mean ± standard deviation "
        f"over {len(run.splits)} split{'s' * (len(run.splits) > 1)}.",
        "",
        f"- data: {settings.dataset}, {images[0]} images to train on and {images[1]} to evaluate "
        f"on in {run.splits[0].name}",
        f"- configs: {settings.family}",
        *run.notes(),
        *provenance_lines(run.about),
    ]
    for task, title in TASK_TITLES.items():
        parents = task == "isbda_parent"
        table = method_table(run.trials, run.methods, task, levels=not parents)
        if table:
            lines += ["", f"## {title}", "", table]
    unit = settings.resampling.unit
    for task, title in (("isbda_segm", "masks"), ("isbda_bbox", "boxes")):
        table = difference_table(differences, titles, task)
        if table:
            lines += [
                "",
                f"## Differences, {title}",
                "",
                f"Percentage points [95% interval of {settings.resampling.samples} paired draws of "
                f"{unit}s]; bold where the interval excludes 0. The intervals tell of the luck of "
                "the evaluated images, not of training.",
                "",
                table,
            ]
    lines += ["", "## Time", "", _time_table(run)]
    if run.failed:
        lines += ["", "## Missing", "", *failure_lines(run.failed)]
    lines += ["", "![accuracy](accuracy.png)", "", "![levels](levels.png)"]
    if differences:
        lines += ["", "![differences](differences.png)"]
    return "\n".join(lines) + "\n"


def _time_table(run: Run) -> str:
    rows = []
    for method in run.methods:
        records = [trial.record for trial in run.of_methods([method.name]) if trial.record]
        if not records:
            continue
        cells = []
        for phase in ("train", "evaluate"):
            known = [r["seconds"][phase] for r in records if r["seconds"].get(phase) is not None]
            cells.append(f"{sum(known) / len(known):.0f}" if known else "–")
        rows.append([method.title, *cells])
    return markdown_table(rows, ["method", "training, s", "evaluation, s"])


def _means(run: Run) -> dict:
    means: dict = {}
    for method in run.methods:
        trials = [trial for trial in run.of_methods([method.name]) if trial.record]
        tasks = dict.fromkeys(task for trial in trials for task in trial.record["metrics"])
        for task in tasks:
            metrics = dict.fromkeys(f for c in trials for f in c.record["metrics"].get(task, {}))
            for metric in metrics:
                spread = spread_of(trials, method.name, task, metric)
                row = means.setdefault(method.name, {}).setdefault(task, {})
                row[metric] = {"mean": spread.mean, "std": spread.std}
    return means
