"""From finished trials to means over splits and differences between methods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from msnet_benchmark.bootstrap import Difference, draw_weights, paired_difference
from msnet_benchmark.matches import match_results, metrics_of_choices
from msnet_benchmark.trials import Trial
from msnet_d2.data import resolve_dataset
from msnet_d2.evaluation import load_ground_truth
from msnet_d2.evaluation.results import read_results

__all__ = ["Resampling", "Spread", "compare_methods", "differences_as_json", "spread_of"]

# The tasks whose differences are tested, and how their predictions are matched.
COMPARED = {"isbda_segm": "segm", "isbda_bbox": "bbox"}


@dataclass(frozen=True)
class Spread:
    """A metric over the splits, in percent.

    Attributes:
        mean: over the splits where it is defined; NaN if that is nowhere.
        std: sample standard deviation; NaN for fewer than two splits.
        values: split -> metric; NaN where it is undefined.
    """

    mean: float
    std: float
    values: dict[str, float]


@dataclass(frozen=True)
class Resampling:
    """How differences are tested: number of draws, their seed, and what is drawn."""

    samples: int = 1000
    seed: int = 0
    unit: str = "image"  # or "video"


def spread_of(trials: Sequence[Trial], method: str, task: str, metric: str) -> Spread:
    """Mean and spread of a method's metric over its finished trials."""
    values = {}
    for trial in trials:
        record = trial.record if trial.method.name == method else None
        if record is not None and task in record["metrics"]:
            value = record["metrics"][task].get(metric)
            values[trial.split.name] = math.nan if value is None else float(value)
    defined = [value for value in values.values() if not math.isnan(value)]
    return Spread(
        mean=float(np.mean(defined)) if defined else math.nan,
        std=float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan,
        values=values,
    )


def compare_methods(
    trials: Sequence[Trial], how: Resampling
) -> dict[tuple[str, str, str, str], Difference]:
    """Differences of each two methods, over the splits that both have finished.

    Args:
        trials: of any number of methods and splits; those without metrics are left out.
        how: see the class.

    Returns:
        (method, method before it, task, metric) -> difference of the first from the second. Methods
        are in the order in which ``trials`` first has them.
    """
    drawn: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    finished = [
        trial for trial in trials if trial.record is not None and trial.predictions.is_file()
    ]
    truths = {}
    for trial in tqdm(finished, desc="resampling", unit="trial", disable=None):
        if trial.split.val not in truths:
            truths[trial.split.val] = load_ground_truth(resolve_dataset(trial.split.val)[0])
        truth = truths[trial.split.val]
        results = read_results(trial.predictions, truth)
        for task, iou_type in COMPARED.items():
            if task not in trial.record["metrics"]:
                continue
            matches = match_results(results, truth, iou_type)
            videos = [trial.split.video_of.get(i) or i for i in matches.image_ids]
            weights = draw_weights(
                len(matches.image_ids),
                how.samples,
                (how.seed, trial.split.number),
                videos if how.unit == "video" else None,
            )
            key = (trial.method.name, trial.split.name, task)
            drawn[key] = metrics_of_choices(matches, weights)

    methods = list(dict.fromkeys(trial.method.name for trial in finished))
    splits = list(dict.fromkeys(trial.split.name for trial in finished))
    differences = {}
    for (theirs, ours), task in itertools.product(itertools.combinations(methods, 2), COMPARED):
        common = [s for s in splits if (ours, s, task) in drawn and (theirs, s, task) in drawn]
        if not common:
            continue
        a = [drawn[ours, split, task] for split in common]
        b = [drawn[theirs, split, task] for split in common]
        for metric in a[0]:
            differences[ours, theirs, task, metric] = paired_difference(a, b, metric)
    return differences


def differences_as_json(
    differences: dict[tuple[str, str, str, str], Difference],
) -> list[dict]:
    """Rows for results.json."""
    return [
        {"method": ours, "against": theirs, "task": task, "metric": metric, **asdict(difference)}
        for (ours, theirs, task, metric), difference in differences.items()
    ]
