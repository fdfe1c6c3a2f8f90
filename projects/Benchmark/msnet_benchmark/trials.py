"""Trials: one method on one split, trained and evaluated once, whatever happens in between.

A finished trial is a file, ``OUT/trials/SPLIT/METHOD/trial.json``; the next run does not repeat it.
Interrupted training goes on from its last checkpoint. A trial that fails leaves ``error.txt``, the
others go on, and the next run tries it again.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import launch as launch_processes
from torch.multiprocessing import ProcessRaisedException

from msnet_benchmark.data import SplitData
from msnet_benchmark.methods import Method
from msnet_d2.checkpoint import last_checkpoint
from msnet_d2.config.refinement import is_refined
from msnet_d2.errors import InputError
from msnet_d2.evaluation.results import RESULTS_FILE
from msnet_d2.evaluation.scoring import read_metrics
from msnet_d2.utils.file_io import write_json, write_text
from msnet_d2.utils.worker_errors import error_of_worker

__all__ = ["Launch", "Trial", "check_trials", "holds_work", "run_trials", "train_and_evaluate"]

logger = logging.getLogger(__name__)

_RECORD, _ERROR, _SETTINGS = "trial.json", "error.txt", "settings.yaml"
_FINAL = "model_final.pth"


@dataclass
class Trial:
    """One method on one split.

    Attributes:
        method: what is trained.
        split: on which data.
        cfg: of :func:`msnet_benchmark.methods.method_config`.
        folder: of this trial; everything about it is in here.
        base: the trial whose detector this one starts from.
        failure: why it has no metrics: one line; None while it has none or has not run.
    """

    method: Method
    split: SplitData
    cfg: CfgNode
    folder: Path
    base: Trial | None = None
    failure: str | None = None

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.method.name}, {self.split.name}"

    @property
    def weights(self) -> Path:
        """Where its trained model is: its own folder, or the base's if it trains nothing."""
        return self.folder / _FINAL if self.method.trains else self.base.weights

    @property
    def predictions(self) -> Path:
        """COCO results file of its predictions."""
        return self.folder / "inference" / RESULTS_FILE

    @property
    def record(self) -> dict[str, Any] | None:
        """What is known of the finished trial; None if it is not finished.

        ``metrics`` (task -> metric -> percent or None), ``seconds`` (``train``, ``evaluate``),
        ``resumed``, ``iterations``, ``images_per_batch``, ``seed``, ``commit``, ``signature``.
        """
        path = self.folder / _RECORD
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def signature(self) -> str:
        """Changes with whatever the metrics depend on: config, data, and the base's."""
        parts = [yaml.safe_dump(_settings(self)), self.base.signature if self.base else ""]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def run_cfg(self, *, train: bool) -> CfgNode:
        """The whole config of its training or evaluation."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TRAIN = (self.split.train,)
        # Evaluated apart, so that an interruption between the two loses nothing.
        cfg.DATASETS.TEST = () if train else (self.split.val,)
        if is_refined(cfg):
            cfg.DATASETS.SRN_VIDEOS = self.split.srn_videos
        cfg.OUTPUT_DIR = str(self.folder)
        if not train:
            cfg.MODEL.WEIGHTS = str(self.weights)
        elif self.base is not None:
            cfg.MODEL.WEIGHTS = str(self.base.weights)
        return cfg


@dataclass(frozen=True)
class Launch:
    """How trials are run.

    Attributes:
        num_gpus: as in Detectron2: GPUs, or processes where there is none.
        commit: goes into the record.
        runner: trains and evaluates a trial and leaves ``inference/metrics.json`` in its folder;
            returns what goes into the record.
    """

    num_gpus: int = 1
    commit: str | None = None
    runner: Callable[[Trial, Launch], dict] = field(
        default=lambda c, launch: train_and_evaluate(c, launch)
    )


def check_trials(trials: Sequence[Trial]) -> None:
    """Refuse trials that were begun under other settings, before anything is run.

    Raises:
        InputError: naming the first key that differs.
    """
    for trial in trials:
        path = trial.folder / _SETTINGS
        if not path.is_file() or not holds_work(trial.folder):
            continue
        there = yaml.safe_load(path.read_text(encoding="utf-8"))
        difference = _first_difference(there, _settings(trial))
        if difference is not None:
            raise InputError(
                f"{trial.folder} is of another run: {difference}; choose another --out, or remove "
                "that folder"
            )


def holds_work(folder: Path) -> bool:
    """Whether a trial's folder has metrics or a checkpoint; what failed at once has neither."""
    return (folder / _RECORD).is_file() or (folder / "last_checkpoint").is_file()


def run_trials(trials: Sequence[Trial], launch: Launch) -> None:
    """Run the trials that are not finished, in order; a failed one does not stop the others.

    Sets :attr:`Trial.failure` of those that fail, and of those whose base failed.
    """
    for number, trial in enumerate(trials, start=1):
        head = f"[{number}/{len(trials)}] {trial.label}"
        if trial.record is not None:
            print(f"{head}: done before; {_brief(trial.record)}", flush=True)
            continue
        if trial.base is not None and trial.base.failure is not None:
            trial.failure = f"its detector, {trial.base.method.name}, failed"
            print(f"{head}: FAILED: {trial.failure}", flush=True)
            continue
        print(f"{head} …", flush=True)
        _run_trial(trial, launch)
        outcome = f"FAILED: {trial.failure}" if trial.failure else _brief(trial.record)
        print(f"{head}: {outcome}", flush=True)


def _run_trial(trial: Trial, launch: Launch) -> None:
    trial.folder.mkdir(parents=True, exist_ok=True)
    (trial.folder / _ERROR).unlink(missing_ok=True)
    write_text(trial.folder / _SETTINGS, yaml.safe_dump(_settings(trial)))
    try:
        info = launch.runner(trial, launch)
        metrics = read_metrics(trial.folder / "inference")
    except Exception as error:
        trial.failure = " ".join(str(error).split())[:500] or type(error).__name__
        write_text(trial.folder / _ERROR, traceback.format_exc())
        logger.warning("%s failed; the whole story is in %s", trial.label, trial.folder / _ERROR)
        return
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    write_json(
        trial.folder / _RECORD,
        {
            "method": trial.method.name,
            "split": trial.split.name,
            "metrics": metrics,
            "iterations": trial.cfg.SOLVER.MAX_ITER if trial.method.trains else 0,
            "images_per_batch": trial.cfg.SOLVER.IMS_PER_BATCH,
            "seed": trial.cfg.SEED,
            "commit": launch.commit,
            "signature": trial.signature,
            **info,
        },
    )


def train_and_evaluate(trial: Trial, launch: Launch) -> dict:
    """Train a trial's model unless that was done, and evaluate it.

    Returns:
        ``seconds`` of both (``train`` is None if it was done before) and ``resumed``.
    """
    seconds: dict[str, float | None] = {"train": None, "evaluate": None}
    checkpoint = last_checkpoint(trial.folder)
    trained = checkpoint is not None and Path(checkpoint).name == _FINAL
    if trial.method.trains and not trained:
        seconds["train"] = _launch(trial, launch, train=True, resume=checkpoint is not None)
    seconds["evaluate"] = _launch(trial, launch, train=False)
    return {"seconds": seconds, "resumed": checkpoint is not None}


def _launch(trial: Trial, launch: Launch, *, train: bool, resume: bool = False) -> float:
    """Run Detectron2's command line on the trial's config; return seconds."""
    config_file = trial.folder / ("train.yaml" if train else "evaluate.yaml")
    write_text(config_file, trial.run_cfg(train=train).dump())
    arguments = argparse.Namespace(
        config_file=str(config_file),
        resume=resume,
        eval_only=not train,
        opts=[],
        # A dozen trials would bury what matters; each has its own log.txt.
        quiet=not logging.getLogger().isEnabledFor(logging.DEBUG),
    )
    start = time.perf_counter()
    try:
        launch_processes(_work, launch.num_gpus, dist_url="auto", args=(arguments,))
    except ProcessRaisedException as error:
        raise error_of_worker(error) or error from None
    return time.perf_counter() - start


def _work(arguments: argparse.Namespace) -> None:
    """In each of the processes."""
    from msnet_d2.engine.launch import run_process

    run_process(arguments)


def _settings(trial: Trial) -> dict:
    """What metrics depend on, as plain YAML gives it back."""
    settings = {
        "config": yaml.safe_load(trial.cfg.dump()),
        "overrides": [str(word) for word in trial.method.opts],
        "base": trial.base.method.name if trial.base else None,
        "data": trial.split.digest,
    }
    if trial.method.refines:
        settings["srn_videos"] = list(trial.split.srn_videos)
    return settings


def _first_difference(there: Any, here: Any, key: str = "") -> str | None:
    """Where two settings differ; None if they do not.

    A config key that one of them lacks does not count: it is of a newer version, or of a project
    that is not among the methods this time, and nobody has set it, as overrides are told apart.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for name in here:
            if name in there:
                inner = f"{key}.{name}" if key else name
                difference = _first_difference(there[name], here[name], inner)
                if difference is not None:
                    return difference
        return None
    if there == here:
        return None
    if key == "data":
        return "the annotations of the split differ"
    return f"{key.removeprefix('config.')} is {there} there, {here} here"


def _brief(record: dict) -> str:
    metrics = record["metrics"]
    named = (("isbda_segm", "mask AP"), ("isbda_bbox", "box AP"))
    found = [
        f"{title} {metrics[task]['AP']:.1f}"
        for task, title in named
        if metrics.get(task, {}).get("AP") is not None
    ]
    seconds = [s for s in record["seconds"].values() if s is not None]
    return f"{', '.join(found) or 'no metrics'} ({sum(seconds):.0f} s)"
