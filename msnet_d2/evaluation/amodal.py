"""AP of what is seen, of the whole, and of the whole of what is hidden in part."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.evaluation.ground_truth import GroundTruth, build_ground_truth
from msnet_d2.evaluation.results import read_results
from msnet_d2.evaluation.scoring import score_results

__all__ = ["OCCLUDED", "score_amodal_file"]

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
    metadata = MetadataCatalog.get(dataset_name)
    truth = build_ground_truth(records, metadata, name=dataset_name)
    results = read_results(predictions, truth)
    annotations = [a for record in records for a in record["annotations"]]
    whole = _with_masks(truth, annotations, lambda a: a["iscrowd"])
    hidden = _with_masks(
        truth, annotations, lambda a: a["iscrowd"] or int(a["visible_share"] >= OCCLUDED)
    )
    rows = OrderedDict()
    for name, side in (("visible", truth), ("amodal", whole), ("amodal_occluded", hidden)):
        rows[name] = score_results(side, results, tasks=["segm"])["segm"]
    return rows


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
