"""The names that data sets go by: registered ones, JSON files, folders.

A folder in ISBDA's layout holds ``annotations/instances_SPLIT.json`` and the pictures of each split
in ``SPLIT/``.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.data.isbda.json_dataset import register_isbda_instances
from msnet_d2.errors import DatasetError

__all__ = ["dataset_files", "register_builtin_datasets", "resolve_dataset", "resolve_datasets"]

_SPLITS = ("train", "val")  # of ISBDA, and the order in which the splits of a folder are given
_PREFIX, _SUFFIX = "instances_", ".json"


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
    spec: str | os.PathLike, image_root: str | os.PathLike | None = None
) -> list[str]:
    """Names of the data sets that a user means by ``spec``, registered now if they were not.

    Args:
        spec: a registered name; a JSON file; a folder in ISBDA's layout (all of its splits, the
            training split first); or ``FOLDER:SPLIT``.
        image_root: folder of the images, for a JSON file alone. None: ``DIR/SPLIT`` for
            ``DIR/annotations/instances_SPLIT.json``, the JSON's own folder for any other.

    Returns:
        At least one name. The JSON has not been read yet.

    Raises:
        DatasetError: if ``spec`` is none of these, with what was looked for.
    """
    text = os.fspath(spec)
    if image_root is not None and not Path(text).is_file():
        raise DatasetError(f"an image folder can be given for a JSON file alone, not for {text!r}")
    if text in DatasetCatalog:
        return [text]
    path = Path(text).expanduser()
    if path.is_file():
        return [_register_json(path, image_root)]
    if text and path.is_dir():  # an empty path would be the working folder
        splits = _splits_of(path)
        if not splits:
            raise DatasetError(
                f"the folder {text!r} has no annotations/{_PREFIX}*{_SUFFIX} (such as "
                f"annotations/{_PREFIX}train{_SUFFIX}), so it is no data set in ISBDA's layout"
            )
        return [_register_json(_json_path(path, split)) for split in splits]
    folder, colon, split = text.rpartition(":")
    if colon and split and Path(folder).expanduser().is_dir():
        json_file = _json_path(Path(folder).expanduser(), split)
        if not json_file.is_file():
            splits = ", ".join(_splits_of(Path(folder).expanduser())) or "none"
            raise DatasetError(f"there is no {json_file}; the splits of {folder!r} are: {splits}")
        return [_register_json(json_file)]
    known = sorted(name for name in DatasetCatalog if name.startswith("isbda"))
    similar = [n for n in difflib.get_close_matches(text, list(DatasetCatalog)) if n not in known]
    raise DatasetError(
        f"there is no data set {text!r}: it is neither a registered name (such as "
        f"{', '.join(known + similar)}) nor an existing JSON file, folder or FOLDER:SPLIT"
    )


def resolve_datasets(specs: str | os.PathLike | list[str] | tuple[str, ...]) -> list[str]:
    """Names of the data sets that one or several specs mean; see :func:`resolve_dataset`."""
    if isinstance(specs, (str, os.PathLike)):
        specs = [specs]
    return [name for spec in specs for name in resolve_dataset(spec)]


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
    return folder / "annotations" / f"{_PREFIX}{split}{_SUFFIX}"


def _split_name(json_file: Path) -> str | None:
    """Split that a JSON of ISBDA's layout stands for; None for any other."""
    name = json_file.name
    if json_file.parent.name == "annotations" and name.startswith(_PREFIX):
        return name[len(_PREFIX) : -len(_SUFFIX)] if name.endswith(_SUFFIX) else None
    return None


def _splits_of(folder: Path) -> list[str]:
    files = folder.glob(f"annotations/{_PREFIX}*{_SUFFIX}")
    names = [split for split in map(_split_name, files) if split]
    return sorted(names, key=lambda s: (_SPLITS.index(s) if s in _SPLITS else len(_SPLITS), s))


def _register_json(json_file: Path, image_root: str | os.PathLike | None = None) -> str:
    json_file = Path(os.path.abspath(json_file))
    split = _split_name(json_file)
    folder = json_file.parent.parent
    if image_root is None:
        image_root = folder / split if split else json_file.parent
    image_root = os.path.abspath(image_root)
    # Detectron2 makes folders of these names, so they must be file names; and people read them.
    base = f"{folder.name}_{split}" if split else json_file.stem
    base = re.sub(r"[^\w.-]+", "_", base).strip("._") or "dataset"
    digest = hashlib.sha256(f"{json_file}\n{image_root}".encode("utf-8", "replace")).hexdigest()
    for name in (base, f"{base}_{digest[:8]}"):
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        if metadata is None or (metadata.get("json_file"), metadata.get("image_root")) == (
            str(json_file),
            image_root,
        ):
            register_isbda_instances(name, json_file, image_root)
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
    for key in ("TRAIN", "TEST"):
        try:
            names = resolve_datasets(cfg.DATASETS[key])
        except DatasetError:
            if key == "TEST" or for_training:
                raise
            continue
        resolved.DATASETS[key] = tuple(dict.fromkeys(names))
    if cfg.is_frozen():
        resolved.freeze()
    return resolved
