"""Which detections are right, image by image, so that metrics of any choice of images are cheap.

Shape letters: I images, K classes, T IoU thresholds, D detections of a class, B choices of images.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from msnet_d2.errors import InputError
from msnet_d2.evaluation.ground_truth import GroundTruth
from msnet_d2.evaluation.protocol import (
    AREA_RANGES,
    ISBDA_PROTOCOL,
    MAX_DETECTIONS,
    RECALL_LEVELS,
    EvalProtocol,
)
from msnet_d2.evaluation.results import read_results

__all__ = ["ClassMatches", "Matches", "match_file", "match_results", "metrics_of_choices"]


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class within one range of areas, over all images.

    Those that COCO ignores (crowds, areas out of range) are neither hits nor misses.

    Attributes:
        image: (D,) index of each detection's image; detections are in descending order of score.
        score: (D,).
        hit: (T, D) bool, whether it matches a ground truth.
        miss: (T, D) bool, whether it is a false positive.
        num_truth: (I,) ground truths of each image.
    """

    image: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    num_truth: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Matches of one file of predictions.

    Attributes:
        image_ids: I ids, in the order of the indices.
        class_names: K names.
        iou_thresholds: T values.
        by_area: name of the range of areas ("" for all, "s", "m", "l") -> K classes' matches.
    """

    image_ids: list[int | str]
    class_names: list[str]
    iou_thresholds: tuple[float, ...]
    by_area: dict[str, list[ClassMatches]]


def match_file(
    path: str | Path, truth: GroundTruth, iou_type: str, protocol: EvalProtocol = ISBDA_PROTOCOL
) -> Matches:
    """Match the entries of a COCO results file; see :func:`match_results`."""
    return match_results(read_results(path, truth), truth, iou_type, protocol)


def match_results(
    results: list[dict], truth: GroundTruth, iou_type: str, protocol: EvalProtocol = ISBDA_PROTOCOL
) -> Matches:
    """Match predictions with the parts of a data set, as the evaluation does.

    Args:
        results: entries of a COCO results file.
        truth: of the data set.
        iou_type: "bbox", or "segm" (entries without a mask are left out then).
        protocol: which IoU thresholds.

    Raises:
        InputError: for another ``iou_type``.
    """
    if iou_type not in ("bbox", "segm"):
        raise InputError(f"iou_type is 'bbox' or 'segm', got {iou_type!r}")
    # Equal scores rank by this order, which is that of msnet_d2.evaluation.scoring.
    image_ids = sorted(truth.image_sizes, key=lambda i: (str(type(i)), i))
    evaluation = _evaluated(results, truth, iou_type, protocol, image_ids)
    cells = np.empty((len(truth.class_names), len(AREA_RANGES), len(image_ids)), dtype=object)
    cells.reshape(-1)[:] = evaluation.evalImgs
    thresholds = len(protocol.iou_thresholds)
    by_area = {
        area: [_class_matches(list(row), thresholds) for row in cells[:, index]]
        for index, area in enumerate(AREA_RANGES)
    }
    return Matches(image_ids, list(truth.class_names), protocol.iou_thresholds, by_area)


def metrics_of_choices(
    matches: Matches, weights: np.ndarray, protocol: EvalProtocol = ISBDA_PROTOCOL
) -> dict[str, np.ndarray]:
    """The protocol's metrics for each of B choices of images.

    Args:
        matches: of one file.
        weights: (B, I) how often each choice takes each image, 0 or more.
        protocol: the one the matches were made by.

    Returns:
        Figure (``AP``, ``AP25``, … ``APs``, … ``AP-Slight`` …) -> (B,) percent; NaN where a choice
        has no ground truth for it. With every image once these are the evaluation's own metrics.
    """
    weights = np.asarray(weights, dtype=np.float64)
    tables = {
        area: np.stack([_average_precision(c, weights) for c in classes], axis=2)
        for area, classes in matches.by_area.items()
    }  # each (B, T, K)
    everything = tables[""]
    metrics = {"AP": _mean(everything)}
    for name, threshold in protocol.singled_out.items():
        metrics[name] = _mean(everything[:, [matches.iou_thresholds.index(threshold)]])
    metrics.update({f"AP{area}": _mean(table) for area, table in tables.items() if area})
    for index, name in enumerate(matches.class_names):
        metrics[f"AP-{name}"] = _mean(everything[:, :, [index]])
    return metrics


def _average_precision(cell: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """(B, T) average precision in [0, 1], NaN without ground truth.

    Precision is largest at hits, so what counts is how many misses rank before each hit: for any
    choice of images, a product of the weights with the numbers of each image.
    """
    num_truth = weights @ cell.num_truth  # (B,)
    result = np.zeros((len(weights), len(cell.hit)))
    for t, (hit, miss) in enumerate(zip(cell.hit, cell.miss)):
        at = np.flatnonzero(hit)
        if len(at) == 0:
            continue
        images = weights.shape[1]
        hits = _counts_before(cell.image[at], np.arange(len(at)), images, len(at))
        wrong = np.flatnonzero(miss)
        misses = _counts_before(cell.image[wrong], np.searchsorted(at, wrong), images, len(at))
        # In parts: B x hits of a large data set are many.
        for part in np.array_split(np.arange(len(weights)), max(1, len(weights) // 200)):
            found, false = weights[part] @ hits, weights[part] @ misses
            with np.errstate(invalid="ignore", divide="ignore"):
                precision = found / (found + false + np.spacing(1))
                recall = found / num_truth[part, None]
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            # Of COCO's recall levels, those that are reached at this hit and not before.
            reached = np.searchsorted(RECALL_LEVELS, np.nan_to_num(recall), side="right")
            levels = np.diff(reached, axis=1, prepend=0)
            result[part, t] = (best * levels).sum(axis=1) / len(RECALL_LEVELS)
    result[num_truth == 0] = np.nan
    return result


def _counts_before(image: np.ndarray, column: np.ndarray, images: int, columns: int) -> np.ndarray:
    """(I, columns) how many entries of each image have a column up to this one."""
    counts = np.zeros((images, columns + 1))
    np.add.at(counts, (image, column), 1)
    return counts[:, :columns].cumsum(axis=1)


def _mean(table: np.ndarray) -> np.ndarray:
    """(B,) percent, the mean over what is defined; NaN where nothing is."""
    flat = table.reshape(len(table), -1)
    defined = ~np.isnan(flat)
    counts = defined.sum(axis=1)
    sums = np.where(defined, flat, 0.0).sum(axis=1)
    return np.where(counts > 0, 100 * sums / np.maximum(counts, 1), np.nan)


def _class_matches(cells: list[dict | None], thresholds: int) -> ClassMatches:
    """Put the images of one class and range of areas together, as COCO's accumulation does."""
    there = [(i, cell) for i, cell in enumerate(cells) if cell is not None]
    num_truth = np.zeros(len(cells))
    for i, cell in there:
        num_truth[i] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
    if not there:
        empty = np.zeros((thresholds, 0), dtype=bool)
        return ClassMatches(np.zeros(0, int), np.zeros(0), empty, empty, num_truth)
    image = np.concatenate([np.full(len(cell["dtScores"]), i) for i, cell in there])
    score = np.concatenate([np.asarray(cell["dtScores"], dtype=float) for _, cell in there])
    matched = np.concatenate([np.asarray(cell["dtMatches"]) > 0 for _, cell in there], axis=1)
    ignored = np.concatenate([np.asarray(cell["dtIgnore"], bool) for _, cell in there], axis=1)
    order = np.argsort(-score, kind="mergesort")
    hit, miss = (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order]
    return ClassMatches(image[order].astype(int), score[order], hit, miss, num_truth)


def _evaluated(
    results: list[dict],
    truth: GroundTruth,
    iou_type: str,
    protocol: EvalProtocol,
    image_ids: list[int | str],
) -> COCOeval:
    numbers = {image_id: number for number, image_id in enumerate(image_ids, start=1)}
    classes = {own: index for index, own in enumerate(truth.category_ids, start=1)}
    parts = truth.part_masks() if iou_type == "segm" else truth.parts
    wanted = [
        {**part, "image_id": numbers[part["image_id"]], "category_id": part["category_id"] + 1}
        for part in parts
    ]
    found = [
        {
            "image_id": numbers[entry["image_id"]],
            "category_id": classes[entry["category_id"]],
            "bbox": entry["bbox"],
            "score": entry["score"],
            "area": _area(entry, iou_type),
            **({"segmentation": entry["segmentation"]} if iou_type == "segm" else {}),
        }
        for entry in results
        if iou_type == "bbox" or entry.get("segmentation")
    ]
    sizes = [truth.image_sizes[image_id] for image_id in image_ids]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(wanted, sizes, len(classes)), _index(found, sizes, len(classes)), iou_type
        )
        evaluation.params.imgIds = list(range(1, len(numbers) + 1))
        evaluation.params.catIds = list(range(1, len(truth.class_names) + 1))
        evaluation.params.iouThrs = np.asarray(protocol.iou_thresholds)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
        evaluation.evaluate()
    return evaluation


def _area(entry: dict, iou_type: str) -> float:
    if iou_type == "segm":
        return float(mask_util.area(entry["segmentation"]))
    return entry["bbox"][2] * entry["bbox"][3]


def _index(annotations: Sequence[dict], sizes: Sequence[tuple[int, int]], classes: int) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "height": height, "width": width}
            for number, (height, width) in enumerate(sizes, start=1)
        ],
        "categories": [{"id": number} for number in range(1, classes + 1)],
        # Ids from 1: pycocotools takes a match with annotation 0 for none.
        "annotations": [
            {"iscrowd": 0, **annotation, "id": number}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }
    coco.createIndex()
    return coco
