"""``msnet bench ablation``: the paper's tables 3 and 4 and its figure 6, and what explains them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from msnet_benchmark.ablation_report import write_ablation
from msnet_benchmark.diagnostics import THRESHOLDS, calibration, diagnose
from msnet_benchmark.matches import match_file
from msnet_benchmark.methods import Method
from msnet_benchmark.provenance import write_report
from msnet_benchmark.runs import Run, RunSettings
from msnet_benchmark.trials import Launch, Trial
from msnet_d2.data import resolve_dataset
from msnet_d2.errors import InputError
from msnet_d2.evaluation import load_ground_truth

__all__ = ["PARTS", "AblationSettings", "ablation_methods", "run_ablation"]

logger = logging.getLogger(__name__)

PARTS = ("modules", "threshold", "size", "diagnostics")
# Table 3: the rows, from nothing to everything.
MODULES = ("mask_rcnn_BD", "mask_rcnn_BD+srn", "msnet", "msnet+srn")
# Figure 6 and table 4: method of each metric, and the S its config has, which is the paper's.
OF_METRIC = {"ioa": ("msnet", 0.1), "iou": ("msnet_iou", 0.4)}


@dataclass(frozen=True)
class AblationSettings:
    """What the ablation does.

    Attributes:
        parts: out of :data:`PARTS`.
        retrain: train a model for every S, as the paper does; otherwise the model that was trained
            at the paper's S is evaluated at the others, which is cheap, and not the same: it tells
            what S does to a given model, not what it does to training.
        images: at most so many images are diagnosed.
    """

    parts: tuple[str, ...] = PARTS
    retrain: bool = False
    images: int | None = 100

    def __post_init__(self):
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise InputError(f"--parts {' '.join(unknown)}: expected some of {', '.join(PARTS)}")


def sweep_method(
    metric: str, threshold: float, methods: dict[str, Method], retrain: bool
) -> Method:
    """The method that stands for a metric and an S in the sweep."""
    name, own = OF_METRIC[metric]
    method = methods[name]
    if threshold == own:
        return method
    return replace(
        method,
        name=f"{name}{'_trained' if retrain else ''}@{threshold}",
        title=f"{method.title}, S = {threshold}",
        opts=(*method.opts, "MODEL.HRPN.THRESHOLD", str(threshold)),
        base=None if retrain else name,
        trains=retrain,
    )


def ablation_methods(settings: RunSettings, what: AblationSettings) -> list[Method]:
    """All methods that the parts need, each once."""
    wanted = list(settings.methods(MODULES)) if "modules" in what.parts else []
    of_metrics = settings.methods([name for name, _ in OF_METRIC.values()])
    if {"threshold", "size", "diagnostics"} & set(what.parts):
        wanted += of_metrics
    if "threshold" in what.parts:
        by_name = {method.name: method for method in of_metrics}
        wanted += [
            sweep_method(metric, s, by_name, what.retrain)
            for metric in OF_METRIC
            for s in THRESHOLDS
        ]
    return list({method.name: method for method in wanted}.values())


def run_ablation(
    settings: RunSettings, what: AblationSettings, launch: Launch | None = None
) -> tuple[Run, list[str]]:
    """Run the ablation; write ablation.json, ablation.md and plots.

    Args:
        settings: see the class.
        what: see the class.
        launch: how trials are run; None: as ``settings`` say.

    Returns:
        The run, and what went wrong apart from its trials, a line each.

    Raises:
        MSNetError: if something is wrong that can be told before training.
    """
    run = Run.prepare(settings, ablation_methods(settings, what))
    problems: list[str] = []
    diagnoses: dict[str, dict[str, dict]] = {}
    try:
        run.run(launch)
        if "diagnostics" in what.parts:
            diagnoses, problems = _diagnose(run, what)
    finally:
        if any(trial.record for trial in run.trials):
            write_ablation(run, what.parts, what.retrain, diagnoses, problems)
    return run, problems


def _diagnose(run: Run, what: AblationSettings) -> tuple[dict[str, dict[str, dict]], list[str]]:
    """Method -> split -> diagnosis of the trained detectors, and what went wrong."""
    found: dict[str, dict[str, dict]] = {}
    problems = []
    for trial in run.trials:
        if trial.record is None or not trial.method.trains or "_trained@" in trial.method.name:
            continue
        try:
            with _few_words():
                diagnosis = _diagnosis_of(trial, what)
        except Exception as error:
            logger.exception("no diagnosis of %s", trial.label)
            problems.append(f"no diagnosis of {trial.label}: {' '.join(str(error).split())[:300]}")
            continue
        found.setdefault(trial.method.name, {})[trial.split.name] = diagnosis
    return found, problems


@contextmanager
def _few_words() -> Iterator[None]:
    """Without the lists of loaded weights of every model, unless the log is to be verbose."""
    loggers = [logging.getLogger(name) for name in ("msnet_d2", "detectron2", "fvcore")]
    levels = [each.level for each in loggers]
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        for each in loggers:
            each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels):
            each.setLevel(level)


def _diagnosis_of(trial: Trial, what: AblationSettings) -> dict:
    """From the trial's folder if it was made before, on as many images."""
    path = trial.folder / "diagnostics.json"
    wanted = {"signature": trial.record["signature"], "at_most": what.images}
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if {key: there.get(key) for key in wanted} == wanted:
            return there
    # Refinement changes scores, not proposals.
    diagnosis = {} if trial.method.refinement is not None else diagnose(trial, images=what.images)
    truth = load_ground_truth(resolve_dataset(trial.split.val)[0])
    if truth.has_masks:
        diagnosis["calibration"] = calibration(match_file(trial.predictions, truth, "segm"))
    write_report(path, {**wanted, **diagnosis})
    return json.loads(path.read_text(encoding="utf-8"))
