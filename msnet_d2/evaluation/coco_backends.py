"""Matching of detections with ground truth, by faster-coco-eval if it is there, or pycocotools.

Both give the same precision table. They are fed with the same plain dicts, built in memory, with
annotation ids counted from 1: both libraries take a match with annotation 0 for no match.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Mapping, Sequence

import numpy as np

from msnet_d2.errors import DependencyError, InputError
from msnet_d2.evaluation.protocol import AREA_RANGES, MAX_DETECTIONS, RECALL_LEVELS

__all__ = ["BACKENDS", "default_backend", "precision_table"]

BACKENDS = ("faster_coco_eval", "pycocotools")


def default_backend() -> str:
    """The fastest backend that is installed."""
    return next(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def precision_table(
    image_sizes: Mapping[int, tuple[int, int]],
    category_ids: Sequence[int],
    ground_truth: list[dict],
    detections: list[dict],
    *,
    iou_type: str,
    iou_thresholds: Sequence[float],
    max_detections: int = MAX_DETECTIONS,
    backend: str | None = None,
) -> np.ndarray:
    """Precision at each IoU threshold, recall level, category and area range.

    Args:
        image_sizes: image id (integer) -> (height, width), for every image of the data set.
        category_ids: K integers; the order of the table's third axis, ascending.
        ground_truth: dicts with ``image_id``, ``category_id``, ``bbox`` (XYWH), ``area``,
            ``iscrowd`` and, for ``"segm"``, ``segmentation`` (compressed RLE).
        detections: the same with ``score``, without ``iscrowd``.
        iou_type: ``"bbox"`` or ``"segm"``.
        iou_thresholds: T values.
        max_detections: best detections of an image and a category that count.
        backend: one of :data:`BACKENDS`; None takes the fastest that is installed.

    Returns:
        Array (T, R, K, A) in [0, 1], -1 where there is no ground truth. No detections at all give
        zeros.

    Raises:
        InputError: for an unknown backend or IoU type.
        DependencyError: if the backend is not installed.
    """
    if iou_type not in ("bbox", "segm"):
        raise InputError(f"iou_type is 'bbox' or 'segm', got {iou_type!r}")
    coco_class, make_evaluation = _load_backend(backend or default_backend())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(coco_class, image_sizes, category_ids, ground_truth)
        found = _index(coco_class, image_sizes, category_ids, detections)
        evaluation = make_evaluation(truth, found, iou_type)
        evaluation.params.imgIds = sorted(image_sizes)
        evaluation.params.catIds = list(category_ids)
        evaluation.params.iouThrs = np.asarray(iou_thresholds, dtype=np.float64)
        evaluation.params.recThrs = RECALL_LEVELS
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
        evaluation.params.areaRngLbl = list(AREA_RANGES)
        evaluation.evaluate()
        evaluation.accumulate()
    shape = (len(iou_thresholds), len(RECALL_LEVELS), len(category_ids), len(AREA_RANGES))
    return np.asarray(evaluation.eval["precision"], dtype=np.float64).reshape(shape)


def _load_backend(name: str):
    """The class that indexes annotations and a function that builds the evaluation."""
    if name == "faster_coco_eval":
        try:
            from faster_coco_eval import COCO, COCOeval_faster
        except ImportError as error:
            raise DependencyError.for_extra(
                "faster-coco-eval", "fast", "evaluation with backend='faster_coco_eval'"
            ) from error

        def silent(_message) -> None:
            """Take the place of a logger: the evaluator says itself what it does."""

        def make(truth, found, iou_type):
            return COCOeval_faster(truth, found, iou_type, print_function=silent)

        return COCO, make
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    raise InputError(f"evaluation backend {name!r} is unknown; there are: {', '.join(BACKENDS)}")


def _index(coco_class, image_sizes, category_ids, annotations):
    coco = coco_class()
    coco.dataset = {
        "info": {},
        "images": [
            {"id": image_id, "height": height, "width": width}
            for image_id, (height, width) in image_sizes.items()
        ],
        "categories": [{"id": category_id} for category_id in category_ids],
        # Copies, since both libraries write into what they are given.
        "annotations": [
            {"iscrowd": 0, **annotation, "id": index}
            for index, annotation in enumerate(annotations, start=1)
        ],
    }
    coco.createIndex()
    return coco
