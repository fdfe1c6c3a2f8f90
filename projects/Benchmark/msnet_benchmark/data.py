"""The splits that methods are trained and evaluated on, and what a method needs of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog

from msnet_benchmark.methods import Method
from msnet_d2.data import resolve_dataset
from msnet_d2.data.isbda.catalog import dataset_files
from msnet_d2.data.isbda.splits import write_splits
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.utils.video_io import VIDEO_SUFFIXES

__all__ = ["GIVEN", "SplitData", "check_parents", "prepare_splits"]

logger = logging.getLogger(__name__)

# In place of seeds: the split that the data set itself comes with.
GIVEN = "given"


@dataclass(frozen=True)
class SplitData:
    """One split, ready to train on.

    Attributes:
        name: of folders and columns, such as "split_0".
        number: its seed; 0 for the data set's own split.
        train, val: specs for DATASETS.TRAIN and TEST.
        srn_videos: what triplets are drawn from, no scene of ``val`` among it.
        digest: of both sides' annotations.
        images: number of images to train on and to evaluate on.
        parents: number of the training side's annotations with a building's box.
        video_of: scene of each image to evaluate on, by its id; None where it is not known.
    """

    name: str
    number: int
    train: str
    val: str
    srn_videos: tuple[str, ...]
    digest: str
    images: tuple[int, int]
    parents: int
    video_of: dict[int | str, str | None]


def prepare_splits(
    spec: str,
    splits: Sequence[str],
    folder: Path,
    *,
    ratio: float = 0.8,
    test: str | None = None,
    srn_videos: str | None = None,
) -> list[SplitData]:
    """Find or write the splits of a data set.

    Args:
        spec: a data set; or a folder with ``seed_0``, ``seed_1`` … as ``msnet split`` writes it.
        splits: seeds; or "given" alone, for the split of the data set itself.
        folder: where splits are written that do not exist.
        ratio: share of images to train on, for splits that are written.
        test: data set to evaluate on instead of each split's own side.
        srn_videos: folder of videos for triplets; None: ``videos`` beside the pictures, or else the
            pictures themselves.

    Returns:
        The splits, each once, in the order of ``splits``.

    Raises:
        InputError: if ``splits`` are no seeds.
        DatasetError: if there is no such data set or split, or a side has no annotations.
    """
    splits = list(dict.fromkeys(splits))
    if splits == [GIVEN]:
        _one_of(f"{spec}:train")
        folders = [("given", 0, Path(spec))]
    else:
        folders = [(f"split_{n}", n, path) for n, path in _seeded(spec, splits, folder, ratio)]
    if srn_videos is not None and not Path(srn_videos).is_dir():
        raise InputError(f"--srn-videos {srn_videos} is no folder of videos")
    return [_load(name, number, path, test, srn_videos) for name, number, path in folders]


def check_parents(methods: Sequence[Method], splits: Sequence[SplitData], spec: str) -> None:
    """Raise DatasetError if a method needs buildings that a split's training side lacks."""
    needing = [method.name for method in methods if method.needs_parents]
    lacking = [split.name for split in splits if split.parents == 0]
    if needing and lacking:
        raise DatasetError(
            f"{', '.join(needing)} train on the boxes of buildings (house_bbox or parent_bbox), "
            f"and no annotation of {spec} ({lacking[0]}, training side) has one; add them, or "
            "choose --methods among polarmask and mask_rcnn_D"
        )


def _seeded(spec: str, splits: Sequence[str], folder: Path, ratio: float) -> list[tuple[int, Path]]:
    try:
        seeds = [int(split) for split in splits]
    except ValueError:
        raise InputError(
            f"--splits {' '.join(splits)}: expected seeds such as 0 1 2, or {GIVEN!r} alone"
        ) from None
    seeds = list(dict.fromkeys(seeds))
    if not seeds:
        raise InputError("--splits needs one seed at least, such as 0")
    prepared = sorted(path.parent.name for path in Path(spec).glob("seed_*/annotations"))
    if not prepared:
        return [(s.seed, s.folder) for s in write_splits(spec, folder, ratio, seeds)]
    missing = [seed for seed in seeds if f"seed_{seed}" not in prepared]
    if missing:
        raise DatasetError(
            f"{spec} holds the splits {', '.join(prepared)}, but no seed_{missing[0]}"
        )
    return [(seed, Path(spec) / f"seed_{seed}") for seed in seeds]


def _load(
    name: str, number: int, folder: Path, test: str | None, srn_videos: str | None
) -> SplitData:
    train, val = f"{folder}:train", test or f"{folder}:val"
    train_name, val_name = _one_of(train), _one_of(val)
    train_records, val_records = DatasetCatalog.get(train_name), DatasetCatalog.get(val_name)
    for spec, records in ((train, train_records), (val, val_records)):
        if not any(record.get("annotations") for record in records):
            raise DatasetError(f"{spec} has no annotations: nothing to train on or compare with")
    shown = {str(record.get("video_id")) for record in val_records if record.get("video_id")}
    digest = hashlib.sha256()
    for dataset in (train_name, val_name):
        digest.update(Path(dataset_files(dataset)[0]).read_bytes())
    return SplitData(
        name=name,
        number=number,
        train=train,
        val=val,
        srn_videos=_videos(train_name, train, train_records, shown, srn_videos),
        digest=digest.hexdigest(),
        images=(len(train_records), len(val_records)),
        parents=sum(
            annotation.get("parent_bbox") is not None
            for record in train_records
            for annotation in record["annotations"]
        ),
        video_of={record["image_id"]: record.get("video_id") for record in val_records},
    )


def _one_of(spec: str) -> str:
    names = resolve_dataset(spec)
    if len(names) > 1:
        raise DatasetError(
            f"{spec} is {len(names)} data sets ({', '.join(names)}); name one, such as {spec}:val"
        )
    return names[0]


def _videos(
    train_name: str, train: str, records: list[dict], val_scenes: set[str], given: str | None
) -> tuple[str, ...]:
    """Video files of the training scenes; else their pictures, by the spec of the data set."""
    if given is not None:
        files = [path for path in _video_files(Path(given)) if path.stem not in val_scenes]
        if not files:
            raise InputError(
                f"--srn-videos {given} holds no videos ({', '.join(VIDEO_SUFFIXES)}) but those of "
                "scenes that are evaluated on"
            )
        return tuple(map(str, files))
    scenes = {str(record["video_id"]) for record in records if record.get("video_id")}
    root = Path(os.path.realpath(dataset_files(train_name)[1]))
    for folder in (root / "videos", root.parent / "videos"):
        files = [path for path in _video_files(folder) if path.stem in scenes - val_scenes]
        if files:
            return tuple(map(str, files))
    return (train,)


def _video_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
