"""Evaluation by ISBDA's protocol and by COCO's."""

from msnet_d2.evaluation.build import EVALUATOR_REGISTRY
from msnet_d2.evaluation.ground_truth import GroundTruth, build_ground_truth, load_ground_truth
from msnet_d2.evaluation.isbda_evaluation import ISBDAEvaluator
from msnet_d2.evaluation.kinds import score_kind_file
from msnet_d2.evaluation.protocol import COCO_PROTOCOL, ISBDA_PROTOCOL, EvalProtocol, summarize
from msnet_d2.evaluation.refining import RefiningEvaluator
from msnet_d2.evaluation.results import read_parents, read_results
from msnet_d2.evaluation.scoring import (
    METRICS_FILE,
    TASKS,
    applicable_tasks,
    read_metrics,
    score_file,
    score_results,
    undefined_as_none,
)
from msnet_d2.evaluation.tables import results_table

__all__ = [
    "COCO_PROTOCOL",
    "EVALUATOR_REGISTRY",
    "ISBDA_PROTOCOL",
    "METRICS_FILE",
    "TASKS",
    "EvalProtocol",
    "GroundTruth",
    "ISBDAEvaluator",
    "RefiningEvaluator",
    "applicable_tasks",
    "build_ground_truth",
    "load_ground_truth",
    "read_metrics",
    "read_parents",
    "read_results",
    "results_table",
    "score_file",
    "score_kind_file",
    "score_results",
    "summarize",
    "undefined_as_none",
]
