"""Loading and registering data sets in ISBDA's format.

ISBDA's JSON is COCO's with two boxes an annotation, both [x, y, width, height]: ``damage_bbox``,
which stands for ``bbox`` where that is missing, and ``house_bbox``, the box of the building that
the damaged part lies in (paper, section 3). Any other part and parent can be given that way.
"""

from __future__ import annotations

import logging
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.data.isbda.categories import ISBDA_CATEGORIES, CategoryMap
from msnet_d2.data.isbda.conventions import ReadOptions
from msnet_d2.data.isbda.issues import count_kinds
from msnet_d2.data.isbda.reading import DEFAULT_OPTIONS, FRAME_PATTERN, read_and_validate
from msnet_d2.data.isbda.validation import raise_fatal
from msnet_d2.errors import DatasetError

__all__ = [
    "FRAME_PATTERN",
    "ISBDA_CATEGORIES",
    "load_isbda_json",
    "register_isbda_instances",
]

logger = logging.getLogger(__name__)

# What loading makes of a file that is not plain COCO is said whoever loads it.
_NOTED = ("crowd", "file-names", "parents-of-category", "root-category")


def load_isbda_json(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    dataset_name: str | None = None,
    *,
    frame_pattern: str | None = FRAME_PATTERN,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[dict]:
    """Load a JSON in ISBDA's format, or ordinary COCO JSON. Images are not opened.

    Args:
        json_file: path of the JSON.
        image_root: folder that its file names are relative to.
        dataset_name: registered name whose metadata gets ``thing_classes``, ``thing_colors`` (of
            ISBDA's levels) and ``thing_dataset_id_to_contiguous_id``. None: no metadata is set.
        frame_pattern: regular expression, matched against whole file names, that yields
            ``video_id`` and ``frame_index`` of images without these fields; the default takes frame
            100 of video "5" from ``5_100.jpg``. None: only the fields count.
        options: where exports differ, see :class:`~msnet_d2.data.isbda.conventions.ReadOptions`.

    Returns:
        Detectron2's dataset dicts in the order of the image ids, one an image, those without
        annotations included: ``file_name`` (absolute), ``image_id``, ``height``, ``width``,
        ``annotations`` and, where known, ``video_id`` (str), ``frame_index`` (int) and ``fps``
        (float). Each annotation has ``id``, ``bbox``, ``bbox_mode`` (XYWH_ABS), ``category_id``
        (from 0), ``iscrowd``, ``area`` (square pixels; the mask's where the JSON has none) and,
        where the data set has them, ``part_id`` (int: of
        the same part in all frames), ``segmentation`` (polygons or a compressed RLE),
        ``parent_bbox`` (in ``bbox_mode``) and ``parent_id`` (int: annotations of one image with
        equal boxes share it; a ``parent_id`` of the JSON wins). Annotations that cannot be used are
        left out, and their number is logged.

    Raises:
        DatasetError: if the JSON has fatal issues; it says how many and what the first ten are. Or
            if the classes differ from those that ``dataset_name`` already has.
    """
    if dataset_name in ("isbda_train", "isbda_val") and not os.path.exists(json_file):
        raise DatasetError(
            f"{dataset_name}: there is no {json_file}; ISBDA is expected in "
            "$DETECTRON2_DATASETS/isbda, with train/, val/ and annotations/"
        )
    found = read_and_validate(json_file, image_root, frame_pattern, options)
    raise_fatal(found)
    dropped = [issue for issue in found.issues if issue.severity == "dropped"]
    if dropped:
        logger.warning(
            "%s: left out %d unusable annotations or polygons (%s); `msnet check` lists them",
            json_file,
            len(dropped),
            count_kinds(dropped),
        )
    for issue in found.issues:
        if issue.kind in _NOTED:
            logger.warning("%s: %s", json_file, issue.message)
    if dataset_name is not None:
        _set_metadata(dataset_name, found.categories, found.json_file)
    annotations = sum(len(record["annotations"]) for record in found.records)
    logger.info(
        "Loaded %d images with %d annotations from %s", len(found.records), annotations, json_file
    )
    if found.records and not os.path.isdir(image_root):
        logger.warning("%s: the image folder %s does not exist", json_file, image_root)
    return found.records


def register_isbda_instances(
    name: str,
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    *,
    frame_pattern: str | None = FRAME_PATTERN,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> None:
    """Register a data set in ISBDA's format under ``name``; it is read when it is first asked for.

    To register the same again is harmless.

    Args:
        name: for ``DatasetCatalog``, ``MetadataCatalog`` and ``DATASETS.TRAIN`` or ``TEST``.
        json_file: path of the JSON.
        image_root: folder that its file names are relative to.
        frame_pattern, options: see :func:`load_isbda_json`.

    Raises:
        DatasetError: if ``name`` already stands for something else.
    """
    json_file, image_root = os.path.abspath(json_file), os.path.abspath(image_root)
    metadata = MetadataCatalog.get(name)
    if name in DatasetCatalog:
        known = tuple(metadata.get(key) for key in ("json_file", "image_root", "read_options"))
        if known == (json_file, image_root, options):
            return
        raise DatasetError(
            f"the data set name {name!r} is already registered, for "
            f"{metadata.get('json_file', 'something else')} with images in "
            f"{metadata.get('image_root', 'an unknown folder')}; choose another name"
        )
    DatasetCatalog.register(
        name,
        lambda: load_isbda_json(
            json_file, image_root, name, frame_pattern=frame_pattern, options=options
        ),
    )
    metadata.set(
        json_file=json_file, image_root=image_root, evaluator_type="isbda", read_options=options
    )


def _set_metadata(name: str, categories: CategoryMap, json_file: str) -> None:
    metadata = MetadataCatalog.get(name)
    values = {
        "thing_classes": categories.thing_classes,
        "thing_dataset_id_to_contiguous_id": categories.complete_ids(),
    }
    if categories.thing_colors is not None:
        values["thing_colors"] = categories.thing_colors
    for key, value in values.items():
        # Metadata.set asserts the same, but in words that help nobody.
        if metadata.get(key, value) != value:
            raise DatasetError(
                f"{json_file} has {key} {value}, but the data set {name!r} was registered with "
                f"{metadata.get(key)}; register it under another name"
            )
    metadata.set(**values)
