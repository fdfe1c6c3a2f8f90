"""AP of what is seen, of the whole and of what is hidden in part; IoU of the hidden regions."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as mask_util

from msnet_d2.evaluation.ground_truth import GroundTruth, build_ground_truth
from msnet_d2.evaluation.results import RESULTS_FILE, instances_to_results, read_results
from msnet_d2.evaluation.scoring import score_results
from msnet_d2.utils.file_io import write_json

__all__ = ["OCCLUDED", "AmodalEvaluator", "hidden_region_iou", "score_amodal_file"]

OCCLUDED = 0.75  # visible share below which an instance is occluded
BARELY_OCCLUDED = 0.9
MATCHED = 0.5  # IoU from which a detection is of an instance
# Pixels of a hidden region that is compared. An outline alone is off by as many.
HIDDEN_PIXELS = 100


def score_amodal_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score COCO results against amodal truth.

    Args:
        dataset_name: of a registered data set of the kind amodal.
        predictions: COCO results JSON, whose ``segmentation`` is the whole of each instance.

    Returns:
        ``visible``: AP against what is seen; ``amodal``: against the whole; ``amodal_occluded``:
        against the whole of instances that are seen below :data:`OCCLUDED`, all others being
        ignored; ``amodal_below_90`` likewise of those seen below 90 %; ``hidden``: what
        :func:`hidden_region_iou` gives.
    """
    records = DatasetCatalog.get(dataset_name)
    truth = build_ground_truth(records, MetadataCatalog.get(dataset_name), name=dataset_name)
    return _score(records, truth, read_results(predictions, truth))


def _score(records: list[dict], truth: GroundTruth, results: list[dict]) -> OrderedDict:
    annotations = [a for record in records for a in record["annotations"]]
    rows = OrderedDict(visible=score_results(truth, results, tasks=["segm"])["segm"])
    for name, below in (
        ("amodal", None),
        ("amodal_below_90", BARELY_OCCLUDED),
        ("amodal_occluded", OCCLUDED),
    ):
        side = _with_masks(truth, annotations, below)
        rows[name] = score_results(side, results, tasks=["segm"])["segm"]
    rows["hidden"] = hidden_region_iou(records, truth.category_ids, results)
    return rows


def hidden_region_iou(
    records: list[dict], category_ids: list[int], results: list[dict]
) -> dict[str, float]:
    """How well whole masks guess what cannot be seen.

    A detection, best score first, is of the instance of its class whose whole mask it overlaps
    most, by an IoU of at least :data:`MATCHED`. Then what it has beyond the visible mask is
    compared with what the whole has beyond it. Instances of which fewer than
    :data:`HIDDEN_PIXELS` are hidden, and crowds, are left out.

    Args:
        records: of a data set of the kind amodal.
        category_ids: the data set's id of each class.
        results: entries of a COCO results file, with ``segmentation``.

    Returns:
        ``IoU``: mean over instances in percent, an instance that is not found counting 0; NaN if
        there is none. ``found``: percent of instances that are found. ``instances``: their number.
    """
    by_image: dict = defaultdict(list)
    for entry in sorted(results, key=lambda entry: -entry["score"]):
        by_image[entry["image_id"]].append(entry)
    values: list[float] = []
    found = 0
    for record in records:
        annotations = [a for a in record["annotations"] if not a["iscrowd"]]
        matches = _match(annotations, category_ids, by_image[record["image_id"]])
        for annotation, match in zip(annotations, matches):
            seen, whole = (
                mask_util.decode(annotation[key]).astype(bool)
                for key in ("segmentation", "amodal_segmentation")
            )
            hidden = whole & ~seen
            if np.count_nonzero(hidden) < HIDDEN_PIXELS:
                continue
            found += match is not None
            values.append(0.0 if match is None else _iou_beyond(match, seen, hidden))
    count = len(values)
    return {
        "IoU": 100 * sum(values) / count if count else float("nan"),
        "found": 100 * found / count if count else float("nan"),
        "instances": count,
    }


def _iou_beyond(entry: dict, seen: np.ndarray, hidden: np.ndarray) -> float:
    guess = mask_util.decode(entry["segmentation"]).astype(bool) & ~seen
    return float(np.count_nonzero(guess & hidden) / np.count_nonzero(guess | hidden))


def _match(annotations: list[dict], category_ids: list[int], entries: list[dict]) -> list:
    """The detection of each annotation, or None; ``entries`` are the best first."""
    matches: list[dict | None] = [None] * len(annotations)
    if not annotations or not entries:
        return matches
    wholes = [a["amodal_segmentation"] for a in annotations]
    overlaps = mask_util.iou([e["segmentation"] for e in entries], wholes, [0] * len(wholes))
    classes = np.array([category_ids[a["category_id"]] for a in annotations])
    for entry, row in zip(entries, overlaps):
        free = np.array([match is None for match in matches])
        row = np.where(free & (classes == entry["category_id"]), row, 0)
        if row.max() >= MATCHED:
            matches[int(row.argmax())] = entry
    return matches


class AmodalEvaluator(DatasetEvaluator):
    """Scores a model whose ``pred_masks`` are whole masks, and keeps its results as COCO's."""

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """Make an evaluator of a registered data set of the kind amodal."""
        self._records = DatasetCatalog.get(dataset_name)
        metadata = MetadataCatalog.get(dataset_name)
        self._truth = build_ground_truth(self._records, metadata, name=dataset_name)
        self._output_dir = output_dir
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._results: list[dict] = []

    def process(self, inputs: Iterable[dict], outputs: Iterable[dict]) -> None:
        """Take the ``instances`` of a batch."""
        for given, output in zip(inputs, outputs):
            instances = output["instances"].to(torch.device("cpu"))
            ids = self._truth.category_ids
            self._results += instances_to_results(instances, given["image_id"], ids)

    def evaluate(self) -> OrderedDict | None:
        """Gather all processes; rows of :func:`score_amodal_file` in the main one, else None."""
        comm.synchronize()
        gathered = comm.gather(self._results)
        if not comm.is_main_process():
            return None
        results = [entry for part in gathered for entry in part]
        if self._output_dir is not None:
            write_json(os.path.join(self._output_dir, RESULTS_FILE), results)
        return _score(self._records, self._truth, results)


def _with_masks(truth: GroundTruth, annotations: list[dict], below: float | None) -> GroundTruth:
    """The truth with whole masks; instances that are not seen ``below`` a share are ignored."""
    parts = [
        {
            **part,
            "segmentation": annotation["amodal_segmentation"],
            "iscrowd": int(
                annotation["iscrowd"]
                or (below is not None and annotation["visible_share"] >= below)
            ),
        }
        for part, annotation in zip(truth.parts, annotations)
    ]
    return replace(truth, parts=parts)
