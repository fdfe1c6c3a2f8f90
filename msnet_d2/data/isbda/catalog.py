"""The names that data sets go by: registered ones, JSON files, folders.

The layouts of a folder are those of :mod:`msnet_d2.data.isbda.layouts`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.data.isbda.conventions import ReadOptions
from msnet_d2.data.isbda.json_dataset import register_isbda_instances
from msnet_d2.data.isbda.layouts import image_folder, split_name, splits_of
from msnet_d2.data.isbda.reading import DEFAULT_OPTIONS
from msnet_d2.data.kinds.registry import resolve_kind
from msnet_d2.errors import DatasetError
from msnet_d2.projects import register

__all__ = ["dataset_files", "register_builtin_datasets", "resolve_dataset", "resolve_datasets"]

_SPLITS = ("train", "val")  # of ISBDA


def register_builtin_datasets() -> None:
    """Register ``isbda_train`` and ``isbda_val`` below ``$DETECTRON2_DATASETS/isbda``.

    As Detectron2 does, ``datasets`` in the working folder is taken where the variable is not set.
    No file is opened, and to call it again changes nothing.
    """
    root = Path(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets")), "isbda")
    for split in _SPLITS:
        name = f"isbda_{split}"
        if name not in DatasetCatalog:
            register_isbda_instances(name, _json_path(root, split), root / split)


def resolve_dataset(
    spec: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[str]:
    """Names of the data sets that a user means by ``spec``, registered now if they were not.

    Args:
        spec: a registered name; a JSON file; ``JSON:IMAGES``, with the folder of its images; a
            folder in a layout of :func:`~.layouts.splits_of` (all of its splits, the training split
            first); ``FOLDER:SPLIT``; or ``KIND@SPEC`` for other truth than instances, see
            :func:`msnet_d2.data.kinds.resolve_kind`.
        image_root: folder of the images, for a JSON file or one split. None: by the place of the
            JSON, see :func:`~.layouts.image_folder`.
        options: how the JSON is read, where exports differ.

    Returns:
        At least one name. The JSON has not been read yet.

    Raises:
        DatasetError: if ``spec`` is none of these, with what was looked for.
    """
    text = os.fspath(spec)
    names = resolve_kind(text, image_root)
    if names is not None:
        return names
    if text not in DatasetCatalog and not os.path.exists(text):
        register()  # it may be a project's
    if text in DatasetCatalog:
        if image_root is not None:
            raise DatasetError(f"{text!r} is registered with its own image folder")
        return [text]
    files = _files_of(text)
    if image_root is not None:
        if len(files) > 1:
            raise DatasetError(
                f"{text!r} has {len(files)} splits, which do not share an image folder; name one, "
                f"such as {text}:{next(iter(splits_of(Path(text).expanduser())))}"
            )
        files = [(files[0][0], Path(image_root).expanduser())]
    return [_register_json(*pair, options) for pair in files]


def _files_of(text: str) -> list[tuple[Path, Path]]:
    """JSON files and image folders that a spec means."""
    path = Path(text).expanduser()
    if path.is_file():
        return [(path, image_folder(path))]
    if text and path.is_dir():  # an empty path would be the working folder
        splits = splits_of(path)
        if not splits:
            raise DatasetError(
                f"the folder {text!r} has no annotations/instances_*.json, no "
                "SPLIT/_annotations.coco.json, no labels.json and no result.json, so it is no data "
                "set; give the JSON file itself"
            )
        return list(splits.values())
    first, colon, last = text.rpartition(":")
    first_path = Path(first).expanduser()
    if colon and last and first_path.is_file():
        return [(first_path, Path(last).expanduser())]
    if colon and last and first_path.is_dir():
        splits = splits_of(first_path)
        # Roboflow says valid for val.
        split = "valid" if last == "val" and last not in splits else last
        if split not in splits:
            known = ", ".join(splits) or "none"
            raise DatasetError(
                f"there is no split {last!r} in {first!r}; the splits of {first!r} are: {known}"
            )
        return [splits[split]]
    known = sorted(name for name in DatasetCatalog if name.startswith("isbda"))
    similar = [n for n in difflib.get_close_matches(text, list(DatasetCatalog)) if n not in known]
    raise DatasetError(
        f"there is no data set {text!r}: it is neither a registered name (such as "
        f"{', '.join(known + similar)}) nor an existing JSON file, folder or FOLDER:SPLIT"
    )


def resolve_datasets(
    specs: str | os.PathLike | list[str] | tuple[str, ...], options: ReadOptions = DEFAULT_OPTIONS
) -> list[str]:
    """Names of the data sets that one or several specs mean; see :func:`resolve_dataset`."""
    if isinstance(specs, (str, os.PathLike)):
        specs = [specs]
    return [name for spec in specs for name in resolve_dataset(spec, None, options)]


def dataset_files(name: str) -> tuple[str, str]:
    """JSON file and image folder of a registered data set.

    Raises:
        DatasetError: if it was registered without them.
    """
    metadata = MetadataCatalog.get(name)
    files = metadata.get("json_file"), metadata.get("image_root")
    if None in files:
        raise DatasetError(
            f"the data set {name!r} was registered without a JSON file and an image folder; "
            "give the JSON file itself"
        )
    return files


def _json_path(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _register_json(json_file: Path, image_root: Path, options: ReadOptions) -> str:
    json_file = Path(os.path.abspath(json_file))
    split = split_name(json_file)
    folder = json_file.parent.parent
    image_root = os.path.abspath(image_root)
    wanted = (str(json_file), image_root, options)
    # Detectron2 makes folders of these names, so they must be file names; and people read them.
    base = f"{folder.name}_{split}" if split else json_file.stem
    base = re.sub(r"[^\w.-]+", "_", base).strip("._") or "dataset"
    digest = hashlib.sha256(repr(wanted).encode("utf-8", "replace")).hexdigest()
    for name in (base, f"{base}_{digest[:8]}"):
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        keys = ("json_file", "image_root", "read_options")
        if metadata is None or tuple(map(metadata.get, keys)) == wanted:
            register_isbda_instances(name, json_file, image_root, options=options)
            return name
    raise DatasetError(f"the names {base} and {name} are taken by other data sets")


def with_registered_datasets(cfg: CfgNode, *, for_training: bool = True) -> CfgNode:
    """Copy of ``cfg`` whose ``DATASETS.TRAIN`` and ``TEST`` hold registered names alone.

    Specs such as ``output/demo/data:train`` are registered on the way; names stay as they are.

    Args:
        cfg: a config.
        for_training: whether ``DATASETS.TRAIN`` must be there. A model is evaluated elsewhere than
            where it was trained, and then what cannot be found stays as it is.

    Raises:
        DatasetError: for a spec that cannot be resolved.
    """
    resolved = cfg.clone()
    resolved.defrost()
    options = ReadOptions(cfg.DATASETS.CROWD_AS_OBJECTS, cfg.DATASETS.PARENT_CATEGORY)
    for key in ("TRAIN", "TEST"):
        try:
            names = resolve_datasets(cfg.DATASETS[key], options)
        except DatasetError:
            if key == "TEST" or for_training:
                raise
            continue
        resolved.DATASETS[key] = tuple(dict.fromkeys(names))
    if cfg.is_frozen():
        resolved.freeze()
    return resolved
