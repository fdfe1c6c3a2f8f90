"""A run of the benchmark: from what the command line says to trials in a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from msnet_benchmark.data import GIVEN, SplitData, check_parents, prepare_splits
from msnet_benchmark.methods import (
    FAMILIES,
    Method,
    find_methods,
    make_variant,
    method_config,
    with_bases,
)
from msnet_benchmark.provenance import describe_run
from msnet_benchmark.summary import Resampling
from msnet_benchmark.trials import Launch, Trial, check_trials, holds_work, run_trials
from msnet_d2.data import TripletDataset, resolve_dataset
from msnet_d2.errors import ConfigError, DatasetError, InputError, VideoError
from msnet_d2.utils.file_io import write_json

__all__ = ["Run", "RunSettings"]

logger = logging.getLogger(__name__)

_MARK = "bench.json"


@dataclass(frozen=True)
class RunSettings:
    """What the commands that train have in common.

    Attributes:
        dataset: spec of a data set, or a folder of splits.
        out: folder of the run.
        splits: seeds, or "given".
        family: of configs, one of :data:`~msnet_benchmark.methods.FAMILIES`.
        opts: overrides for every method alike.
        refine_opts: overrides for the training of f.
        variants: methods of the user's own, see
            :func:`~msnet_benchmark.methods.make_variant`.
        seed: of weights and order of the data; the seed of a split is added.
        ratio: share of images to train on, for splits that are made.
        test: data set to evaluate on instead.
        srn_videos: folder of videos for triplets.
        num_gpus: as in Detectron2.
        resampling: how differences are tested.
    """

    dataset: str
    out: Path
    splits: tuple[str, ...] = ("0", "1", "2")
    family: str = "quick"
    opts: tuple[str, ...] = ()
    refine_opts: tuple[str, ...] = ()
    variants: tuple[tuple[str, ...], ...] = ()
    seed: int = 1
    ratio: float = 0.8
    test: str | None = None
    srn_videos: str | None = None
    num_gpus: int = 1
    resampling: Resampling = field(default_factory=Resampling)

    def methods(self, names: Sequence[str]) -> list[Method]:
        """Methods by name, this run's variants among them."""
        return find_methods(names, self._variants())

    def with_bases(self, methods: Sequence[Method]) -> list[Method]:
        """``methods`` and those they start from, bases first."""
        return with_bases(methods, self._variants())

    def _variants(self) -> dict[str, Method]:
        made: dict[str, Method] = {}
        for words in self.variants:
            made[words[0]] = make_variant(words, made)
        return made


@dataclass
class Run:
    """Trials of methods and splits in a folder.

    Attributes:
        settings: of the run.
        methods: bases first, then in the order asked for.
        splits: what they are trained and evaluated on.
        trials: split by split, so that the first split is complete soon.
        about: command, commit, versions and hardware.
    """

    settings: RunSettings
    methods: list[Method]
    splits: list[SplitData]
    trials: list[Trial]
    about: dict

    @classmethod
    def prepare(cls, settings: RunSettings, methods: Sequence[Method]) -> Run:
        """Check everything that can be checked before hours go into training.

        Raises:
            MSNetError: if a setting, the data or the folder cannot be used.
        """
        methods = settings.with_bases(methods)
        _check_processes(settings)
        configs = {
            method.name: method_config(
                method, settings.family, opts=settings.opts, refine_opts=settings.refine_opts
            )
            for method in methods
        }
        for name, cfg in configs.items():
            if cfg.SOLVER.IMS_PER_BATCH % settings.num_gpus:
                raise ConfigError(
                    f"{name}: SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which "
                    f"{settings.num_gpus} processes cannot share equally"
                )
        if settings.splits != (GIVEN,) and not any(Path(settings.dataset).glob("seed_*")):
            resolve_dataset(settings.dataset)
        if settings.test is not None:
            resolve_dataset(settings.test)
        _claim_folder(settings)
        splits = prepare_splits(
            settings.dataset,
            settings.splits,
            settings.out / "splits",
            ratio=settings.ratio,
            test=settings.test,
            srn_videos=settings.srn_videos,
        )
        check_parents(methods, splits, settings.dataset)

        trials: list[Trial] = []
        for split in splits:
            of_method: dict[str, Trial] = {}
            for method in methods:
                cfg = configs[method.name].clone()
                cfg.SEED = settings.seed + split.number
                cfg.freeze()
                folder = settings.out / "trials" / split.name / method.name
                base = of_method[method.base] if method.base else None
                of_method[method.name] = Trial(method, split, cfg, folder, base)
            trials += of_method.values()
        check_trials(trials)
        _check_videos(trials)
        return cls(settings, methods, splits, trials, describe_run())

    def run(self, launch: Launch | None = None) -> None:
        """Run the trials that are not finished; see :func:`~msnet_benchmark.trials.run_trials`."""
        run_trials(self.trials, launch or Launch(self.settings.num_gpus, self.about["commit"]))

    @property
    def failed(self) -> list[Trial]:
        """Trials that have no metrics."""
        return [trial for trial in self.trials if trial.record is None]

    def of_methods(self, names: Sequence[str]) -> list[Trial]:
        """The trials of some methods, in the order of ``names``."""
        return [trial for name in names for trial in self.trials if trial.method.name == name]

    def notes(self) -> list[str]:
        """What a reader of the tables has to know."""
        budgets = {
            (c.cfg.SOLVER.MAX_ITER, c.cfg.SOLVER.IMS_PER_BATCH): c.method.title
            for c in self.trials
            if c.method.trains and not c.method.refines
        }
        lines = [
            f"- training: {steps} iterations of {batch} images"
            + (f" ({title})" if len(budgets) > 1 else ", for every detector")
            for (steps, batch), title in budgets.items()
        ]
        commits = {c.record["commit"] for c in self.trials if c.record and c.record["commit"]}
        if len(commits) > 1:
            lines.append(f"- trials were made at different commits: {', '.join(sorted(commits))}")
        resumed = [c.label for c in self.trials if c.record and c.record["resumed"]]
        if resumed:
            lines.append(f"- interrupted and continued: {'; '.join(resumed)}")
        return lines

    def as_json(self) -> dict:
        """What results files have in common: origin, settings, data and every trial's metrics."""
        settings = asdict(self.settings)
        settings["out"] = str(self.settings.out)
        return {
            **self.about,
            "settings": settings,
            "splits": [
                {"name": s.name, "train": s.train, "val": s.val, "images": list(s.images)}
                for s in self.splits
            ],
            "methods": {m.name: {"title": m.title, "base": m.base} for m in self.methods},
            "trials": [trial.record for trial in self.trials if trial.record is not None],
            "failed": [
                {
                    "method": trial.method.name,
                    "split": trial.split.name,
                    "why": trial.failure or "was not run",
                }
                for trial in self.failed
            ],
        }


def _check_videos(trials: Sequence[Trial]) -> None:
    """Raise DatasetError if triplets cannot be drawn for a method that still needs them."""
    checked = set()
    for trial in trials:
        if trial.method.refines and trial.record is None and trial.split.name not in checked:
            checked.add(trial.split.name)
            try:
                TripletDataset(trial.run_cfg(train=True))
            except (DatasetError, VideoError) as error:
                raise DatasetError(
                    f"{trial.label}: {error}; for the benchmark: give other videos by "
                    "--srn-videos, or leave out the methods that end in +srn or +steady (of the "
                    "ablation: the part modules)"
                ) from error


def _check_processes(settings: RunSettings) -> None:
    if settings.family not in FAMILIES:
        raise InputError(
            f"--config-family {settings.family}: expected one of {', '.join(FAMILIES)}"
        )
    if settings.num_gpus < 1:
        raise InputError(
            f"--num-gpus is {settings.num_gpus}; without a GPU it stands for processes"
        )
    if torch.cuda.is_available() and settings.num_gpus > torch.cuda.device_count():
        raise InputError(f"--num-gpus is {settings.num_gpus}; here are {torch.cuda.device_count()}")


def _claim_folder(settings: RunSettings) -> None:
    """Make the folder this run's, unless it is another's.

    Raises:
        InputError: if it holds other files, or a run of other settings.
    """
    out, mark = settings.out, settings.out / _MARK
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder or a new name")
    # What each trial's own settings do not tell; check_trials compares those.
    wanted = {
        "--dataset": str(Path(settings.dataset).resolve()),
        "--config-family": settings.family,
        "--opts": " ".join(map(str, settings.opts)),
        "--seed": settings.seed,
        "--ratio": settings.ratio,
        "--test": settings.test,
    }
    if mark.is_file():
        there = json.loads(mark.read_text(encoding="utf-8"))
        differing = [key for key in wanted if there.get(key) != wanted[key]]
        # Without any finished or half-finished trial there is nothing that could be mixed up.
        if differing and any(map(holds_work, out.glob("trials/*/*"))):
            key = differing[0]
            raise InputError(
                f"--out {out} holds another run: {key} is {there.get(key)!r} there, "
                f"{wanted[key]!r} here; choose another --out"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(
            f"--out {out} holds other files; name an empty or a new folder for the benchmark"
        )
    write_json(mark, wanted)
