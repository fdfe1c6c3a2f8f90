"""Evaluators by name, so that a project brings its own: ``TEST.EVALUATORS``."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from fvcore.common.registry import Registry

from msnet_d2.evaluation.isbda_evaluation import ISBDAEvaluator
from msnet_d2.projects import find_registered

__all__ = ["EVALUATOR_REGISTRY", "build_evaluator"]

# Functions (cfg, dataset_name, output_folder) -> DatasetEvaluator. Their names are those that the
# metadata of data sets give as evaluator_type.
EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """The evaluators ``TEST.EVALUATORS``; if that is empty, the one that the metadata name.

    Data sets without an ``evaluator_type`` in their metadata are evaluated as COCO's.

    Raises:
        ConfigError: if there is none of such a name; the message lists those that there are.
    """
    names, key = cfg.TEST.EVALUATORS, "TEST.EVALUATORS"
    if not names:
        names = [MetadataCatalog.get(dataset_name).get("evaluator_type") or "coco"]
        key = f"TEST.EVALUATORS is empty, and the evaluator_type of {dataset_name}"
    evaluators = [find_registered(EVALUATOR_REGISTRY, name, key) for name in names]
    built = [build(cfg, dataset_name, output_folder) for build in evaluators]
    return built[0] if len(built) == 1 else DatasetEvaluators(built)


@EVALUATOR_REGISTRY.register()
def isbda(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """ISBDA's protocol beside COCO's, and buildings."""
    return ISBDAEvaluator(dataset_name, output_dir=output_folder)


@EVALUATOR_REGISTRY.register()
def coco(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """Detectron2's evaluator of boxes and masks."""
    return COCOEvaluator(dataset_name, output_dir=output_folder)
