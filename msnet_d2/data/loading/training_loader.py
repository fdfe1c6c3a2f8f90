"""Endless batches for training that can begin anywhere in their order.

Detectron2's loaders begin at the start whenever they are made, so that a resumed training sees the
first data again and never the last. Here batch n, and what augmentation makes of it, depend on the
run's seed and on n alone, whatever the number of worker processes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from msnet_d2.errors import ConfigError

__all__ = ["TrainingLoader", "build_training_loader", "seeded"]


class TrainingLoader:
    """Batches of a data set, endless, shuffled; a list of items each."""

    def __init__(
        self,
        items: Sequence[Any],
        make_sampler: Callable[[int], Sampler],
        batch_size: int,
        *,
        mapper: Callable[[Any], Any] | None = None,
        groups: Sequence[int] | None = None,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            items: the data set.
            make_sampler: from a seed to an endless sampler of this process's share of the indices.
            batch_size: items in a batch of this process.
            mapper: makes of an item what the model takes; its random numbers are seeded.
            groups: group of each item; a batch holds items of one group. None: one group.
            num_workers: processes that read; 0: this one.
            seed: of the run; None: one that all processes share.
        """
        self._items = _SeededItems(items, mapper)
        self._batches = _Batches(make_sampler, batch_size, groups)
        self._num_workers = num_workers
        self.start_at(0, comm.shared_random_seed() if seed is None else seed)

    def start_at(self, iteration: int, seed: int) -> None:
        """Let the next iteration begin with batch ``iteration`` of the run of this seed."""
        self._batches.start, self._batches.seed = iteration, seed
        self._items.seed = seed

    def __iter__(self) -> Iterator[list[Any]]:
        loader = DataLoader(
            self._items,
            batch_sampler=self._batches,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            worker_init_fn=worker_init_reset_seed,
            # Otherwise torch takes a number out of the sequence that the model draws from.
            generator=torch.Generator().manual_seed(self._items.seed),
        )
        return iter(loader)


class _Batches(Sampler):
    """Lists of (position in the run, index); a sampler of batches for torch's loader."""

    def __init__(self, make_sampler, batch_size: int, groups: Sequence[int] | None) -> None:
        self._make_sampler = make_sampler
        self._batch_size = batch_size
        self._groups = groups
        self.start = self.seed = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[int, list[tuple[int, int]]] = {}
        number = 0
        for position, index in enumerate(self._make_sampler(self.seed)):
            group = 0 if self._groups is None else self._groups[index]
            batch = waiting.setdefault(group, [])
            batch.append((position, int(index)))
            if len(batch) == self._batch_size:
                waiting[group] = []
                if number >= self.start:
                    yield batch
                number += 1


class _SeededItems(Dataset):
    """Items mapped under random numbers of their own."""

    def __init__(self, items: Sequence[Any], mapper: Callable[[Any], Any] | None) -> None:
        self._items = items
        self._mapper = mapper
        self._rank = comm.get_rank()
        self.seed = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        position, index = place
        with seeded(self.seed, self._rank, position):
            item = self._items[index]
            return item if self._mapper is None else self._mapper(item)


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Draw random numbers by ``entropy`` in the block, and go on as before it afterwards.

    Of Python, NumPy and torch on the CPU.
    """
    generator = torch.default_generator
    before = random.getstate(), np.random.get_state(), generator.get_state()  # noqa: NPY002
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])  # noqa: NPY002  (Detectron2's augmentations draw from it)
    generator.manual_seed(int(seeds[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        generator.set_state(before[2])


def build_training_loader(cfg: CfgNode, mapper: Callable[[dict], Any]) -> TrainingLoader:
    """Batches of ``DATASETS.TRAIN``, with the samplers and the grouping of Detectron2.

    Args:
        cfg: ``DATALOADER``, ``SOLVER.IMS_PER_BATCH`` and ``SEED`` as in Detectron2.
        mapper: from a dataset dict to what the model takes.

    Raises:
        AssertionError: if there is no image to train on.
        ConfigError: for an unknown sampler.
    """
    records = _records(cfg, cfg.DATASETS.TRAIN)
    groups = None
    if cfg.DATALOADER.ASPECT_RATIO_GROUPING and all(
        record.get("width") and record.get("height") for record in records
    ):
        groups = [int(record["width"] > record["height"]) for record in records]
    return TrainingLoader(
        DatasetFromList(records, copy=False),
        _sampler_of(cfg, records),
        cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        mapper=mapper,
        groups=groups,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED if cfg.SEED >= 0 else None,
    )


def _records(cfg: CfgNode, names: Sequence[str]) -> list[dict]:
    """Dataset dicts of registered data sets, filtered as Detectron2 does."""
    return get_detection_dataset_dicts(
        list(names),
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        if cfg.MODEL.KEYPOINT_ON
        else 0,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )


def _sampler_of(cfg: CfgNode, records: list[dict]) -> Callable[[int], Sampler]:
    name, count = cfg.DATALOADER.SAMPLER_TRAIN, len(records)
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(count, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(
            count, ratio, seed_shuffle=seed, seed_subset=seed
        )
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    raise ConfigError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}; there are: TrainingSampler, "
        "RepeatFactorTrainingSampler, RandomSubsetTrainingSampler"
    )
