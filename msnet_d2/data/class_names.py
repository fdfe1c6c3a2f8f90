"""Class names of data sets and of a model, matched by name.

The category ids of a data set say nothing of another's: each export numbers its categories as they
come. A model has one list of names, ``MODEL.CLASS_NAMES``, and every data set that it is trained or
evaluated on is registered once more with the numbers of that list where its own are others.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.config.classes import (
    check_class_names,
    class_name_key,
    is_colors,
    num_classes,
    num_classes_key,
    num_parent_classes,
)
from msnet_d2.data.isbda.catalog import with_registered_datasets
from msnet_d2.errors import ConfigError, DatasetError

__all__ = ["dataset_with_classes", "with_matched_datasets", "with_training_data"]

logger = logging.getLogger(__name__)


def with_training_data(cfg: CfgNode) -> CfgNode:
    """Copy of ``cfg`` completed by what the training data say.

    The model's classes have names, and all data sets have its numbers.
    ``INPUT.TRAIN_IMAGE_SIZE`` is the median size of the images.

    The names are ``MODEL.CLASS_NAMES``. Where that is empty, they are those of ``DATASETS.TRAIN``,
    in the order in which the data sets bring them. Names that differ in case or spaces alone are
    the same.

    Args:
        cfg: ``DATASETS`` may hold specs, see :func:`msnet_d2.data.resolve_dataset`. The training
            sets are loaded here.

    Raises:
        ConfigError: if the model has another number of classes.
        DatasetError: if a data set is unknown, or has classes that the model has not.
    """
    matched = with_registered_datasets(cfg).clone()
    matched.defrost()
    records = [record for name in matched.DATASETS.TRAIN for record in DatasetCatalog.get(name)]
    sizes = [(r["height"], r["width"]) for r in records if r.get("height") and r.get("width")]
    if sizes:
        matched.INPUT.TRAIN_IMAGE_SIZE = tuple(int(median(side)) for side in zip(*sizes))
    own = {name: _class_names(name) for name in matched.DATASETS.TRAIN}
    if not matched.MODEL.CLASS_NAMES and own and all(own.values()):
        names: dict[str, str] = {}
        for name in (class_name for names in own.values() for class_name in names):
            names.setdefault(class_name_key(name), name)
        if len(names) != num_classes(matched):
            raise ConfigError(_wrong_count(matched, list(names.values()), own))
        matched.MODEL.CLASS_NAMES = list(names.values())
        matched.MODEL.CLASS_COLORS = _colors_of(matched.DATASETS.TRAIN, matched.MODEL.CLASS_NAMES)
    return _match(matched, frozen=cfg.is_frozen(), keys=("TRAIN", "TEST"))


def with_matched_datasets(cfg: CfgNode) -> CfgNode:
    """Copy of ``cfg`` whose ``DATASETS.TEST`` are registered with the numbers of the model.

    Without ``MODEL.CLASS_NAMES`` they keep their own.

    Raises:
        DatasetError: if a data set is unknown, or has classes that the model has not.
    """
    matched = with_registered_datasets(cfg, for_training=False).clone()
    matched.defrost()
    return _match(matched, frozen=cfg.is_frozen(), keys=("TEST",))


def dataset_with_classes(name: str, class_names: Sequence[str]) -> str:
    """A registered data set whose class numbers are positions in ``class_names``.

    Args:
        name: a registered data set; it is loaded here unless its class names are known.
        class_names: of the model.

    Returns:
        ``name`` itself if its classes are these or it has no names; else the name of a data set
        that holds the same pictures and annotations, registered now. Its metadata lead from the
        category ids of the file to the new numbers. Classes that it lacks have unused ids.

    Raises:
        DatasetError: if annotations have a class that is none of these.
    """
    class_names = list(class_names)
    own = _class_names(name)
    if not own or own == class_names:
        return name
    number = {class_name_key(n): index for index, n in enumerate(class_names)}
    numbers = [number.get(class_name_key(n)) for n in own]
    _refuse_unknown(name, own, numbers, class_names)
    lacking = [n for n in class_names if class_name_key(n) not in map(class_name_key, own)]
    logger.info(
        "%s: its classes (%s) are matched with the model's (%s) by name%s",
        name,
        ", ".join(own),
        ", ".join(class_names),
        f"; it has no {', '.join(lacking)}" if lacking else "",
    )
    digest = hashlib.sha256("\n".join(class_names).encode()).hexdigest()[:6]
    derived = f"{name}_{digest}"
    if derived in DatasetCatalog:
        return derived
    if _is_semantic(name):
        _register_relabeled(name, derived, numbers, class_names)
        return derived
    DatasetCatalog.register(derived, lambda: _renumbered(DatasetCatalog.get(name), numbers))
    metadata = MetadataCatalog.get(name).as_dict()
    metadata.update(name=derived, thing_classes=class_names)
    metadata["thing_dataset_id_to_contiguous_id"] = _ids(metadata, numbers, len(class_names))
    colors = metadata.pop("thing_colors", None)
    if colors and not lacking:
        by_number = dict(zip(numbers, colors))
        metadata["thing_colors"] = [by_number[index] for index in range(len(class_names))]
    with_masks = metadata.get("classes_with_masks")
    if with_masks:
        metadata["classes_with_masks"] = [c if c in own else own[c] for c in with_masks]
    MetadataCatalog.get(derived).set(**{k: v for k, v in metadata.items() if k != "name"})
    return derived


def _match(cfg: CfgNode, *, frozen: bool, keys: Sequence[str]) -> CfgNode:
    check_class_names(cfg)
    if cfg.MODEL.CLASS_NAMES:
        for key in keys:
            names = [dataset_with_classes(n, cfg.MODEL.CLASS_NAMES) for n in cfg.DATASETS[key]]
            cfg.DATASETS[key] = tuple(names)
    if frozen:
        cfg.freeze()
    return cfg


def _class_names(name: str) -> list[str]:
    """Names of a registered data set's classes; it is loaded if that is what brings them."""
    key = "stuff_classes" if _is_semantic(name) else "thing_classes"
    if not MetadataCatalog.get(name).get(key):
        DatasetCatalog.get(name)
    return [str(n) for n in MetadataCatalog.get(name).get(key) or ()]


def _is_semantic(name: str) -> bool:
    """Whether the truth of a registered data set is a class for every pixel."""
    return MetadataCatalog.get(name).get("kind") == "semantic"


def _register_relabeled(
    name: str, derived: str, numbers: Sequence[int | None], class_names: list[str]
) -> None:
    """Register a semantic data set once more, its label table leading to other numbers."""
    lut = np.full(256, 255, np.uint8)
    lut[: len(numbers)] = numbers
    table = lut[MetadataCatalog.get(name).label_lut]
    DatasetCatalog.register(
        derived, lambda: [{**r, "label_lut": table} for r in DatasetCatalog.get(name)]
    )
    metadata = {**MetadataCatalog.get(name).as_dict(), "label_lut": table}
    metadata.update(name=derived, stuff_classes=class_names)
    MetadataCatalog.get(derived).set(**{k: v for k, v in metadata.items() if k != "name"})


def _colors_of(datasets: Sequence[str], class_names: Sequence[str]) -> list[list[int]]:
    """The colors that data sets give to classes; empty unless each class has one."""
    colors: dict[str, list[int]] = {}
    for dataset in datasets:
        given = MetadataCatalog.get(dataset).get("thing_colors") or ()
        for name, color in zip(_class_names(dataset), given):
            colors.setdefault(class_name_key(name), list(map(int, color)))
    found = [colors.get(class_name_key(name)) for name in class_names]
    return found if None not in found and is_colors(found, len(class_names)) else []


def _wrong_count(cfg: CfgNode, names: list[str], own: Mapping[str, list[str]]) -> str:
    key, parents = num_classes_key(cfg), num_parent_classes(cfg)
    note = " (one of them for parents)" if parents else ""
    lists = list(own.values())
    if all(classes == names for classes in lists):
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    else:
        shown = "; ".join(f"{name}: {', '.join(classes)}" for name, classes in own.items())
    return (
        f"{key} is {num_classes(cfg) + parents}{note}, but {' and '.join(own)} "
        f"{'has' if len(own) == 1 else 'have'} {len(names)} classes ({shown}); set it to "
        f"{len(names) + parents}"
    )


def _refuse_unknown(
    name: str, own: list[str], numbers: list[int | None], class_names: list[str]
) -> None:
    """Classes without annotations do no harm, and are left out with a note."""
    unknown = {index for index, number in enumerate(numbers) if number is None}
    if not unknown:
        return
    used = (
        unknown
        if _is_semantic(name)
        else {a["category_id"] for r in DatasetCatalog.get(name) for a in r.get("annotations", ())}
    )
    wrong = [own[index] for index in sorted(unknown & used)]
    if wrong:
        raise DatasetError(
            f"{name} has the classes {', '.join(own)}, but the model has {', '.join(class_names)} "
            f"(MODEL.CLASS_NAMES): {', '.join(wrong)} is none of these; rename the categories of "
            "the data set, or set MODEL.CLASS_NAMES, one name for each class of the weights"
        )
    logger.warning(
        "%s: no annotation has the class %s, which the model lacks",
        name,
        ", ".join(own[index] for index in sorted(unknown)),
    )


def _renumbered(records: list[dict], numbers: Sequence[int | None]) -> list[dict]:
    """Copies of dataset dicts with ``numbers[category_id]`` as ``category_id``."""
    result = []
    for record in records:
        copied = copy.copy(record)
        if "annotations" in record:
            copied["annotations"] = [
                {**a, "category_id": numbers[a["category_id"]]} for a in record["annotations"]
            ]
        result.append(copied)
    return result


def _ids(metadata: Mapping, numbers: Sequence[int | None], count: int) -> dict[int, int]:
    """Class number of each category id of the file; classes that it lacks get unused ids."""
    own = metadata.get("thing_dataset_id_to_contiguous_id") or {i: i for i in range(len(numbers))}
    ids = {
        category_id: numbers[index] for category_id, index in own.items() if index < len(numbers)
    }
    ids = {category_id: number for category_id, number in ids.items() if number is not None}
    for number in sorted(set(range(count)) - set(ids.values())):
        ids[number + 1 if number + 1 not in own else max({*own, *ids}) + 1] = number
    return ids
