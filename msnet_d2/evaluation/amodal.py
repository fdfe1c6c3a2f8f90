"""AP of what is seen, of the whole, and of the whole of what is hidden in part."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from msnet_d2.evaluation.ground_truth import GroundTruth, build_ground_truth
from msnet_d2.evaluation.results import RESULTS_FILE, instances_to_results, read_results
from msnet_d2.evaluation.scoring import score_results
from msnet_d2.utils.file_io import write_json

__all__ = ["OCCLUDED", "AmodalEvaluator", "score_amodal_file"]

OCCLUDED = 0.75  # visible share below which an instance is occluded


def score_amodal_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score COCO results against amodal truth.

    Args:
        dataset_name: of a registered data set of the kind amodal.
        predictions: COCO results JSON, whose ``segmentation`` is the whole of each instance.

    Returns:
        ``visible``: AP against what is seen; ``amodal``: against the whole; ``amodal_occluded``:
        against the whole of instances that are seen below :data:`OCCLUDED`, all others being
        ignored.
    """
    records = DatasetCatalog.get(dataset_name)
    truth = build_ground_truth(records, MetadataCatalog.get(dataset_name), name=dataset_name)
    return _score(records, truth, read_results(predictions, truth))


def _score(records: list[dict], truth: GroundTruth, results: list[dict]) -> OrderedDict:
    annotations = [a for record in records for a in record["annotations"]]
    whole = _with_masks(truth, annotations, lambda a: a["iscrowd"])
    hidden = _with_masks(
        truth, annotations, lambda a: a["iscrowd"] or int(a["visible_share"] >= OCCLUDED)
    )
    rows = OrderedDict()
    for name, side in (("visible", truth), ("amodal", whole), ("amodal_occluded", hidden)):
        rows[name] = score_results(side, results, tasks=["segm"])["segm"]
    return rows


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


def _with_masks(truth: GroundTruth, annotations: list[dict], crowd) -> GroundTruth:
    """The truth with whole masks; ``crowd`` says of an annotation whether it is ignored."""
    parts = [
        {
            **part,
            "segmentation": annotation["amodal_segmentation"],
            "iscrowd": int(crowd(annotation)),
        }
        for part, annotation in zip(truth.parts, annotations)
    ]
    return replace(truth, parts=parts)
