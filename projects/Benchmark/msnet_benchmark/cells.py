"""Cells: one method on one split, trained and evaluated once, whatever happens in between.

A finished cell is a file, ``OUT/cells/SPLIT/METHOD/cell.json``; on the next run it is not repeated.
Interrupted training goes on from its last checkpoint. A cell that fails leaves ``error.txt``, the
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
from detectron2.engine import launch
from torch.multiprocessing import ProcessRaisedException

from msnet_benchmark.data import SplitData
from msnet_benchmark.methods import Method
from msnet_d2.checkpoint import last_checkpoint
from msnet_d2.config.refinement import is_refined
from msnet_d2.errors import InputError
from msnet_d2.evaluation.results import RESULTS_FILE
from msnet_d2.utils.file_io import write_json, write_text
from msnet_d2.utils.worker_errors import error_of_worker

__all__ = ["Cell", "Launch", "check_cells", "holds_work", "run_cells", "train_and_evaluate"]

logger = logging.getLogger(__name__)

_RECORD, _ERROR, _SETTINGS = "cell.json", "error.txt", "settings.yaml"
_FINAL = "model_final.pth"


@dataclass
class Cell:
    """One method on one split.

    Attributes:
        method: what is trained.
        split: on which data.
        cfg: of :func:`msnet_benchmark.methods.method_config`.
        folder: of this cell; everything about it is in here.
        base: the cell whose detector this one starts from.
        failure: why it has no figures: one line; None while it has none or has not run.
    """

    method: Method
    split: SplitData
    cfg: CfgNode
    folder: Path
    base: Cell | None = None
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
        """What is known of the finished cell; None if it is not finished.

        ``figures`` (task -> figure -> percent or None), ``seconds`` (``train``, ``evaluate``),
        ``resumed``, ``iterations``, ``images_per_batch``, ``seed``, ``commit``, ``signature``.
        """
        path = self.folder / _RECORD
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def signature(self) -> str:
        """Changes with whatever the figures depend on: config, data, and the base's."""
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
    """How cells are run.

    Attributes:
        num_gpus: as in Detectron2: GPUs, or processes where there is none.
        commit: goes into the record.
        runner: trains and evaluates a cell and leaves ``inference/figures.json`` in its folder;
            returns what goes into the record.
    """

    num_gpus: int = 1
    commit: str | None = None
    runner: Callable[[Cell, Launch], dict] = field(
        default=lambda c, how: train_and_evaluate(c, how)
    )


def check_cells(cells: Sequence[Cell]) -> None:
    """Refuse cells that were begun under other settings, before anything is run.

    Raises:
        InputError: naming the first key that differs.
    """
    for cell in cells:
        path = cell.folder / _SETTINGS
        if not path.is_file() or not holds_work(cell.folder):
            continue
        there = yaml.safe_load(path.read_text(encoding="utf-8"))
        difference = _first_difference(there, _settings(cell))
        if difference is not None:
            raise InputError(
                f"{cell.folder} is of another run: {difference}; choose another --out, or remove "
                "that folder"
            )


def holds_work(folder: Path) -> bool:
    """Whether a cell's folder has figures or a checkpoint; what failed at once has neither."""
    return (folder / _RECORD).is_file() or (folder / "last_checkpoint").is_file()


def run_cells(cells: Sequence[Cell], how: Launch) -> None:
    """Run the cells that are not finished, in order; a failed one does not stop the others.

    Sets :attr:`Cell.failure` of those that fail, and of those whose base failed.
    """
    for number, cell in enumerate(cells, start=1):
        head = f"[{number}/{len(cells)}] {cell.label}"
        if cell.record is not None:
            print(f"{head}: done before; {_brief(cell.record)}", flush=True)
            continue
        if cell.base is not None and cell.base.failure is not None:
            cell.failure = f"its detector, {cell.base.method.name}, failed"
            print(f"{head}: FAILED: {cell.failure}", flush=True)
            continue
        print(f"{head} …", flush=True)
        _run_cell(cell, how)
        outcome = f"FAILED: {cell.failure}" if cell.failure else _brief(cell.record)
        print(f"{head}: {outcome}", flush=True)


def _run_cell(cell: Cell, how: Launch) -> None:
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / _ERROR).unlink(missing_ok=True)
    write_text(cell.folder / _SETTINGS, yaml.safe_dump(_settings(cell)))
    try:
        told = how.runner(cell, how)
        figures = json.loads((cell.folder / "inference" / "figures.json").read_text())
    except Exception as error:
        cell.failure = " ".join(str(error).split())[:500] or type(error).__name__
        write_text(cell.folder / _ERROR, traceback.format_exc())
        logger.warning("%s failed; the whole story is in %s", cell.label, cell.folder / _ERROR)
        return
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    write_json(
        cell.folder / _RECORD,
        {
            "method": cell.method.name,
            "split": cell.split.name,
            "figures": figures,
            "iterations": cell.cfg.SOLVER.MAX_ITER if cell.method.trains else 0,
            "images_per_batch": cell.cfg.SOLVER.IMS_PER_BATCH,
            "seed": cell.cfg.SEED,
            "commit": how.commit,
            "signature": cell.signature,
            **told,
        },
    )


def train_and_evaluate(cell: Cell, how: Launch) -> dict:
    """Train a cell's model unless that was done, and evaluate it.

    Returns:
        ``seconds`` of both (``train`` is None if it was done before) and ``resumed``.
    """
    seconds: dict[str, float | None] = {"train": None, "evaluate": None}
    checkpoint = last_checkpoint(cell.folder)
    trained = checkpoint is not None and Path(checkpoint).name == _FINAL
    if cell.method.trains and not trained:
        seconds["train"] = _launch(cell, how, train=True, resume=checkpoint is not None)
    seconds["evaluate"] = _launch(cell, how, train=False)
    return {"seconds": seconds, "resumed": checkpoint is not None}


def _launch(cell: Cell, how: Launch, *, train: bool, resume: bool = False) -> float:
    """Run Detectron2's command line on the cell's config; return seconds."""
    config_file = cell.folder / ("train.yaml" if train else "evaluate.yaml")
    write_text(config_file, cell.run_cfg(train=train).dump())
    arguments = argparse.Namespace(
        config_file=str(config_file),
        resume=resume,
        eval_only=not train,
        opts=[],
        # A dozen cells would bury what matters; each has its own log.txt.
        quiet=not logging.getLogger().isEnabledFor(logging.DEBUG),
    )
    start = time.perf_counter()
    try:
        launch(_work, how.num_gpus, dist_url="auto", args=(arguments,))
    except ProcessRaisedException as error:
        raise error_of_worker(error) or error from None
    return time.perf_counter() - start


def _work(arguments: argparse.Namespace) -> None:
    """In each of the processes."""
    from msnet_d2.engine.launch import run_process

    run_process(arguments)


def _settings(cell: Cell) -> dict:
    """What figures depend on, as plain YAML gives it back."""
    settings = {
        "config": yaml.safe_load(cell.cfg.dump()),
        "overrides": [str(word) for word in cell.method.opts],
        "base": cell.base.method.name if cell.base else None,
        "data": cell.split.digest,
    }
    if cell.method.refines:
        settings["srn_videos"] = list(cell.split.srn_videos)
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
    figures = record["figures"]
    named = (("isbda_segm", "mask AP"), ("isbda_bbox", "box AP"))
    found = [
        f"{title} {figures[task]['AP']:.1f}"
        for task, title in named
        if figures.get(task, {}).get("AP") is not None
    ]
    seconds = [s for s in record["seconds"].values() if s is not None]
    return f"{', '.join(found) or 'no figures'} ({sum(seconds):.0f} s)"
