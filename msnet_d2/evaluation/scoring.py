"""From predictions and ground truth to metrics, task by task."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pycocotools import mask as mask_util

from msnet_d2.errors import DatasetError, InputError
from msnet_d2.evaluation.coco_backends import default_backend, precision_table
from msnet_d2.evaluation.ground_truth import GroundTruth
from msnet_d2.evaluation.protocol import (
    COCO_PROTOCOL,
    ISBDA_PROTOCOL,
    MAX_DETECTIONS,
    EvalProtocol,
    summarize,
    union_of_thresholds,
)
from msnet_d2.evaluation.results import (
    PARENTS_FILE,
    RESULTS_FILE,
    read_parents,
    read_results,
)

__all__ = [
    "METRICS_FILE",
    "TASKS",
    "Task",
    "applicable_tasks",
    "read_metrics",
    "score_file",
    "score_results",
    "undefined_as_none",
]

METRICS_FILE = "metrics.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One row of metrics: what is compared, and by which protocol.

    ``target`` is ``"bbox"`` or ``"segm"`` (the damaged parts), ``"parent"`` (the buildings, each
    once, by the model's own building detections) or ``"part_parent"`` (the building box that each
    part is given, under the part's category and score, as the paper's authors evaluate it).
    """

    target: str
    protocol: EvalProtocol


TASKS = {
    "bbox": Task("bbox", COCO_PROTOCOL),
    "segm": Task("segm", COCO_PROTOCOL),
    "isbda_bbox": Task("bbox", ISBDA_PROTOCOL),
    "isbda_segm": Task("segm", ISBDA_PROTOCOL),
    "isbda_parent": Task("parent", ISBDA_PROTOCOL),
    "isbda_part_parent": Task("part_parent", ISBDA_PROTOCOL),
}


def applicable_tasks(
    truth: GroundTruth, *, masks: bool, parents: bool, part_parents: bool
) -> list[str]:
    """The tasks that have something on both sides.

    Args:
        truth: the ground truth.
        masks: whether there are predicted masks.
        parents: whether buildings are predicted.
        part_parents: whether predicted parts say in which building they lie.

    Returns:
        Names in the order of :data:`TASKS`; "bbox" and "isbda_bbox" always.
    """
    there = {"bbox"}
    if masks and truth.has_masks:
        there.add("segm")
    if parents and truth.parents:
        there.add("parent")
    if part_parents and truth.part_parents:
        there.add("part_parent")
    return [name for name, task in TASKS.items() if task.target in there]


def score_results(
    truth: GroundTruth,
    results: list[dict],
    parents: list[dict] | None = None,
    *,
    tasks: Sequence[str],
    max_detections: int = MAX_DETECTIONS,
    backend: str | None = None,
    image_ids: Sequence[int | str] | None = None,
) -> OrderedDict[str, dict[str, float]]:
    """Compare predictions with ground truth.

    Args:
        truth: of the data set.
        results: entries of a COCO results file, see :mod:`msnet_d2.evaluation.results`.
        parents: entries of buildings, for the task ``isbda_parent``.
        tasks: names out of :data:`TASKS`.
        max_detections: best detections of an image and a category that count.
        backend: see :func:`msnet_d2.evaluation.coco_backends.precision_table`.
        image_ids: the images to compare on; None: all.

    Returns:
        Task -> metric -> percent; see :func:`msnet_d2.evaluation.protocol.summarize`.

    Raises:
        InputError: for an unknown task.
        DatasetError: if masks are asked for and the ground truth has none.
    """
    unknown = [name for name in tasks if name not in TASKS]
    if unknown:
        raise InputError(f"task {unknown[0]!r} is unknown; there are: {', '.join(TASKS)}")
    backend = backend or default_backend()
    kept = set(truth.image_sizes if image_ids is None else image_ids)
    # Numbers from 1, in the order of the ids: the libraries want integers, and equal scores rank by
    # this order.
    numbers = {
        image_id: number
        for number, image_id in enumerate(sorted(kept, key=lambda i: (str(type(i)), i)), start=1)
    }
    sizes = {number: truth.image_sizes[image_id] for image_id, number in numbers.items()}
    _warn_about_crowded_images(truth, max_detections)

    metrics = {}
    for target in dict.fromkeys(TASKS[name].target for name in tasks):
        names = [name for name in tasks if TASKS[name].target == target]
        start = time.perf_counter()
        wanted, found, class_names = _pairs(target, truth, results, parents or [])
        thresholds = union_of_thresholds([TASKS[name].protocol for name in names])
        table = precision_table(
            sizes,
            list(range(1, len(class_names) + 1)),
            _numbered(wanted, numbers),
            _numbered(found, numbers),
            iou_type="segm" if target == "segm" else "bbox",
            iou_thresholds=thresholds,
            max_detections=max_detections,
            backend=backend,
        )
        for name in names:
            metrics[name] = summarize(table, thresholds, TASKS[name].protocol, class_names)
        logger.debug("%s: %.2f s with %s", target, time.perf_counter() - start, backend)
    return OrderedDict((name, metrics[name]) for name in tasks)


def score_file(
    truth: GroundTruth,
    predictions: str | Path,
    parents: str | Path | None = None,
    *,
    tasks: Sequence[str] | None = None,
    **options,
) -> OrderedDict[str, dict[str, float]]:
    """Score a COCO results file of this or any other tool.

    Args:
        truth: of the data set that the file is about.
        predictions: the file; see :func:`msnet_d2.evaluation.results.read_results`.
        parents: predicted buildings, in the same form; None: ``coco_parents_results.json`` beside
            ``predictions`` if it is there.
        tasks: names out of :data:`TASKS`; None: all that the files allow.
        options: of :func:`score_results`.

    Raises:
        InputError: if a file cannot be used, or a task has nothing to go by in it.
        DatasetError: if the data set has no annotations.
    """
    if not truth.annotated:
        raise DatasetError(f"{truth.name} has no annotations to compare with")
    results = read_results(predictions, truth)
    beside = Path(predictions).with_name(PARENTS_FILE)
    if parents is None and beside.is_file() and Path(predictions).name == RESULTS_FILE:
        parents = beside
    buildings = None if parents is None else read_parents(parents, truth)
    possible = applicable_tasks(
        truth,
        # A file without any prediction may come from a model of masks.
        masks=not results or any(entry.get("segmentation") for entry in results),
        parents=buildings is not None,
        part_parents=any(entry.get("parent_bbox") is not None for entry in results),
    )
    impossible = [name for name in tasks or () if name in TASKS and name not in possible]
    if impossible:
        raise InputError(
            f"task {impossible[0]} has nothing to go by in {predictions} and {truth.name}; "
            f"possible are: {', '.join(possible)}"
        )
    return score_results(truth, results, buildings, tasks=tasks or possible, **options)


def read_metrics(folder: str | Path) -> dict:
    """What an evaluation left in its ``inference`` folder: task -> metric -> percent or None.

    Runs before version 0.2 wrote ``figures.json``, which is read where there is no other.

    Raises:
        InputError: if there are neither.
    """
    for name in (METRICS_FILE, "figures.json"):
        path = Path(folder) / name
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise InputError(f"{folder} holds no {METRICS_FILE}; evaluate the model first")


def undefined_as_none(metrics: Mapping) -> dict:
    """Copy of nested metrics with None for NaN, which JSON does not know."""
    return {
        key: undefined_as_none(value)
        if isinstance(value, Mapping)
        else (None if math.isnan(value) else float(value))
        for key, value in metrics.items()
    }


def _pairs(
    target: str, truth: GroundTruth, results: list[dict], parents: list[dict]
) -> tuple[list[dict], list[dict], list[str]]:
    """Ground truth and detections with contiguous categories, and the names of these."""
    contiguous = {own: index for index, own in enumerate(truth.category_ids)}
    classes = truth.class_names or [str(own) for own in truth.category_ids]
    if target == "parent":
        found = [_detection(entry, 0, entry["bbox"]) for entry in parents]
        return truth.parents, found, ["parent"]
    if target == "part_parent":
        found = [
            _detection(entry, contiguous[entry["category_id"]], entry["parent_bbox"])
            for entry in results
            if entry.get("parent_bbox") is not None
        ]
        return truth.part_parents, found, classes
    if target == "bbox":
        found = [
            _detection(entry, contiguous[entry["category_id"]], entry["bbox"]) for entry in results
        ]
        return truth.parts, found, classes
    with_mask = [entry for entry in results if entry.get("segmentation")]
    # One by one: given more than 255 at once, pycocotools 2.0.11 overflows with NumPy 2.
    areas = [mask_util.area(entry["segmentation"]) for entry in with_mask]
    found = [
        {
            **_detection(entry, contiguous[entry["category_id"]], entry["bbox"]),
            "segmentation": entry["segmentation"],
            "area": float(area),
        }
        for entry, area in zip(with_mask, areas)
    ]
    return truth.part_masks(), found, classes


def _detection(entry: dict, category: int, box: list[float]) -> dict:
    return {
        "image_id": entry["image_id"],
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "score": entry["score"],
    }


_MATCHED_KEYS = ("bbox", "area", "iscrowd", "score", "segmentation")


def _numbered(entries: list[dict], numbers: dict) -> list[dict]:
    """Entries of the images in ``numbers``, under their numbers; categories from 1."""
    return [
        {
            "image_id": numbers[entry["image_id"]],
            "category_id": entry["category_id"] + 1,
            **{key: entry[key] for key in _MATCHED_KEYS if key in entry},
        }
        for entry in entries
        if entry["image_id"] in numbers
    ]


def _warn_about_crowded_images(truth: GroundTruth, max_detections: int) -> None:
    counts = Counter((part["image_id"], part["category_id"]) for part in truth.parts)
    crowded = [image_id for (image_id, _), count in counts.items() if count > max_detections]
    if crowded:
        logger.warning(
            "%d images (the first: %s) have more than %d parts of one level, and only so many "
            "detections count: AP 100 is out of reach there; raise max_dets_per_image",
            len(crowded),
            crowded[0],
            max_detections,
        )
