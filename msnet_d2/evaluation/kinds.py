"""Scoring files of predictions against data sets of the other kinds."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from msnet_d2.errors import InputError
from msnet_d2.evaluation.amodal import AmodalEvaluator, score_amodal_file
from msnet_d2.evaluation.build import EVALUATOR_REGISTRY
from msnet_d2.evaluation.flow_error import score_flow_folder
from msnet_d2.evaluation.panoptic import PanopticEvaluator, score_panoptic_file
from msnet_d2.evaluation.semantic import SemanticEvaluator, score_semantic_file
from msnet_d2.evaluation.tracks import score_tracks_file

__all__ = ["SCORERS", "score_kind_file"]

SCORERS = {
    "semantic": score_semantic_file,
    "panoptic": score_panoptic_file,
    "amodal": score_amodal_file,
    "tracks": score_tracks_file,
    "flow": score_flow_folder,
}


def score_kind_file(dataset_name: str, predictions: str | Path) -> OrderedDict:
    """Score a file or folder of predictions against a registered data set of a kind.

    Returns:
        Row -> figure -> value.

    Raises:
        InputError: if there are no such predictions, or they cannot be used.
    """
    if not Path(predictions).exists():
        raise InputError(f"there is no {predictions}")
    return SCORERS[MetadataCatalog.get(dataset_name).kind](dataset_name, predictions)


@EVALUATOR_REGISTRY.register()
def semantic(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """The four metrics of semantic segmentation."""
    DatasetCatalog.get(dataset_name)
    return SemanticEvaluator(dataset_name, output_folder)


@EVALUATOR_REGISTRY.register()
def panoptic(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """Panoptic quality."""
    DatasetCatalog.get(dataset_name)
    return PanopticEvaluator(dataset_name, output_folder)


@EVALUATOR_REGISTRY.register()
def amodal(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """AP of what is seen, and of the whole."""
    return AmodalEvaluator(dataset_name, output_folder)
