"""Predictions as COCO results JSON: written from a model's output, read from any tool's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from msnet_d2.data.isbda.annotation_checks import is_box
from msnet_d2.data.isbda.conventions import box_format
from msnet_d2.errors import InputError
from msnet_d2.evaluation.ground_truth import GroundTruth
from msnet_d2.structures.mask_crop import encode_masks
from msnet_d2.structures.rle import segmentation_to_rle
from msnet_d2.utils.file_io import read_json_file

__all__ = [
    "PARENTS_FILE",
    "RESULTS_FILE",
    "instances_to_results",
    "parents_to_results",
    "read_parents",
    "read_results",
]

RESULTS_FILE = "coco_instances_results.json"
PARENTS_FILE = "coco_parents_results.json"
# Category of the buildings in PARENTS_FILE: they have no classes.
PARENT_CATEGORY_ID = 1
# No score and no pixel is this large, and its square is a number still.
_LARGEST = 1e15


def instances_to_results(
    instances: Instances, image_id: int | str, category_ids: list[int]
) -> list[dict]:
    """Entries of a COCO results file, in the order of ``instances``.

    Args:
        instances: N detections on the CPU with ``pred_boxes``, ``scores``, ``pred_classes`` and,
            optionally, ``pred_masks`` (N, H, W), ``pred_parent_boxes``, ``parent_scores``,
            ``scores_raw`` (before refinement), ``track_id``.
        image_id: goes into every entry.
        category_ids: the data set's id of each class.

    Returns:
        N dicts with ``image_id``, ``category_id``, ``bbox`` (XYWH, pixels), ``score`` and, where
        the model gives them, ``segmentation`` (RLE), ``parent_bbox``, ``parent_score``,
        ``score_raw``, ``track_id``.

    Raises:
        InputError: if a class is none of the data set's.
    """
    if len(instances) == 0:
        return []
    classes = instances.pred_classes.tolist()
    if max(classes) >= len(category_ids):
        raise InputError(
            f"the model predicts class {max(classes)}, but the data set has {len(category_ids)} "
            "classes; MODEL.ROI_HEADS.NUM_CLASSES must be the number of classes of the data set"
        )
    columns: dict[str, list] = {
        "category_id": [category_ids[index] for index in classes],
        "bbox": _to_xywh(instances.pred_boxes),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = encode_masks(instances.pred_masks, instances.pred_boxes.tensor)
    if instances.has("pred_parent_boxes"):
        columns["parent_bbox"] = _to_xywh(instances.pred_parent_boxes)
    if instances.has("parent_scores"):
        columns["parent_score"] = instances.parent_scores.tolist()
    if instances.has("scores_raw"):
        columns["score_raw"] = instances.scores_raw.tolist()
    if instances.has("track_id"):
        columns["track_id"] = instances.track_id.tolist()
    return [{"image_id": image_id, **dict(zip(columns, row))} for row in zip(*columns.values())]


def parents_to_results(parents: Instances, image_id: int | str) -> list[dict]:
    """Entries of a COCO results file for N buildings with ``pred_boxes`` and ``scores``."""
    return [
        {"image_id": image_id, "category_id": PARENT_CATEGORY_ID, "bbox": box, "score": score}
        for box, score in zip(_to_xywh(parents.pred_boxes), parents.scores.tolist())
    ]


def read_results(path: str | Path, truth: GroundTruth) -> list[dict]:
    """Read and check a COCO results file.

    Entries need ``image_id``, ``category_id``, ``score`` and ``bbox`` (XYWH) or ``segmentation``
    (RLE or polygons); a missing ``bbox`` is the mask's. ``image_id`` may be the image's file name,
    with or without its suffix.

    Args:
        path: JSON file.
        truth: the data set that the file is about.

    Returns:
        The entries, each ``segmentation`` as compressed RLE.

    Raises:
        InputError: if the file is no results file, or an entry does not fit the data set; it names
            the first such entry and says how many there are.
    """
    known = set(truth.category_ids)
    return _read(path, truth, lambda entry: _checked(entry, truth, known))


def read_parents(path: str | Path, truth: GroundTruth) -> list[dict]:
    """Read and check a file of building boxes; their categories do not matter."""
    return _read(path, truth, lambda entry: _checked(entry, truth, None))


def _read(path: str | Path, truth: GroundTruth, check) -> list[dict]:
    try:
        content = read_json_file(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(content, list):
        raise InputError(
            f"{path} holds a JSON {type(content).__name__}; COCO results are a list of entries "
            "with image_id, category_id, bbox or segmentation, and score"
        )
    reason = box_format(_boxes(content, truth))
    if reason:
        raise InputError(f"{path} {reason}")
    entries, problems = [], []
    for number, entry in enumerate(content):
        try:
            entries.append(check(entry))
        except (ValueError, TypeError) as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        more = f" ({len(problems)} of {len(content)} entries are wrong)" if problems[1:] else ""
        raise InputError(f"{path}, {problems[0]}{more}")
    return entries


def _checked(entry: Any, truth: GroundTruth, known_categories: set[int] | None) -> dict:
    if not isinstance(entry, dict):
        raise ValueError(f"a JSON object was expected, not {type(entry).__name__}")
    missing = {"image_id", "score"} - entry.keys()
    if missing:
        raise ValueError(f"{' and '.join(sorted(missing))} missing")
    image_id = _image_id(entry["image_id"], truth)
    if image_id is None:
        raise ValueError(
            f"image_id {entry['image_id']!r} is not in {truth.name}, nor the name of one of its "
            "images"
        )
    size = truth.image_sizes[image_id]
    if known_categories is not None and entry.get("category_id") not in known_categories:
        raise ValueError(
            f"category_id {entry.get('category_id')!r} is none of {sorted(known_categories)}"
        )
    if not _is_number(entry["score"]):
        raise ValueError(f"score is {entry['score']!r}, not a number")
    entry = {**entry, "image_id": image_id}
    if entry.get("segmentation"):
        entry["segmentation"] = segmentation_to_rle(entry["segmentation"], *size)
        if not entry.get("bbox"):
            entry["bbox"] = mask_util.toBbox(entry["segmentation"]).tolist()
    for key in ("bbox", "parent_bbox"):
        if key == "bbox" or entry.get(key) is not None:
            _check_box(key, entry.get(key))
    return entry


def _image_id(value: Any, truth: GroundTruth) -> int | str | None:
    """The image that an entry is about: by its id or, as Ultralytics writes it, by its name."""
    if value in truth.image_sizes:
        return value
    return truth.ids_of_files.get(os.path.basename(value)) if isinstance(value, str) else None


def _boxes(content: list, truth: GroundTruth) -> Iterator[tuple[list[float], tuple[int, int]]]:
    """The well-formed boxes of entries, with height and width of their images."""
    for entry in content:
        box: Any = entry.get("bbox") if isinstance(entry, dict) else None
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if is_box(box) and isinstance(image_id, (int, str)):
            found = _image_id(image_id, truth)
            if found is not None:
                yield box, truth.image_sizes[found]


def _check_box(key: str, box: Any) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{key} is {box!r}, not four numbers x, y, width, height")
    if min(box[2:]) < 0:
        raise ValueError(f"{key} is {box!r}: its width or height is negative")


def _is_number(value: Any) -> bool:
    # False for NaN, and exact for integers that no float can hold.
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _to_xywh(boxes: Boxes) -> list[list[float]]:
    return BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
