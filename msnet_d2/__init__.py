"""MSNet for Detectron2: instance segmentation of building damage in aerial video.

``add_msnet_config(cfg)`` adds the configuration keys and registers every component with
Detectron2. Importing this package alone imports neither torch nor Detectron2, so that ``msnet
--help`` answers at once and ``msnet doctor`` runs where Detectron2 is broken.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msnet_d2.config import add_msnet_config, load_config
    from msnet_d2.data import ISBDADatasetMapper, register_isbda_instances
    from msnet_d2.engine import evaluate, train
    from msnet_d2.evaluation import ISBDAEvaluator
    from msnet_d2.inference import Predictor
    from msnet_d2.modeling import HierarchicalRPN, MSNet
    from msnet_d2.score_refinement import RefinedDetector, ScoreRefiner

__version__ = "0.1.0"

__all__ = [
    "HierarchicalRPN",
    "ISBDADatasetMapper",
    "ISBDAEvaluator",
    "MSNet",
    "Predictor",
    "RefinedDetector",
    "ScoreRefiner",
    "__version__",
    "add_msnet_config",
    "evaluate",
    "load_config",
    "register_isbda_instances",
    "train",
]

# The module of each exported name. They are imported on first use.
_EXPORTS = {
    "add_msnet_config": "msnet_d2.config",
    "load_config": "msnet_d2.config",
    "ISBDADatasetMapper": "msnet_d2.data",
    "register_isbda_instances": "msnet_d2.data",
    "evaluate": "msnet_d2.engine",
    "train": "msnet_d2.engine",
    "ISBDAEvaluator": "msnet_d2.evaluation",
    "Predictor": "msnet_d2.inference",
    "HierarchicalRPN": "msnet_d2.modeling",
    "MSNet": "msnet_d2.modeling",
    "RefinedDetector": "msnet_d2.score_refinement",
    "ScoreRefiner": "msnet_d2.score_refinement",
}
# Names that this package exported before 0.2, and where they are now.
_MOVED = {
    "config_path": "msnet_d2.config",
    "get_msnet_cfg": "msnet_d2.config",
    "resolve_dataset": "msnet_d2.data",
    "load_isbda_json": "msnet_d2.data",
    "TripletDataset": "msnet_d2.data",
    "MSNetCheckpointer": "msnet_d2.checkpoint",
    "MSNetTrainer": "msnet_d2.engine",
    "RefiningEvaluator": "msnet_d2.evaluation",
    "MaskedClassROIHeads": "msnet_d2.modeling",
    "OverlapMatcher": "msnet_d2.modeling",
    "ParentClassRCNN": "msnet_d2.modeling",
    "anchor_sampling_scores": "msnet_d2.modeling:anchor_scores",
    "build_timm_fpn_backbone": "msnet_d2.modeling",
    "ScoreRefinementNetwork": "msnet_d2.score_refinement",
    "multi_scale_consistency_loss": "msnet_d2.score_refinement",
    "spatial_similarity": "msnet_d2.score_refinement",
    "draw_ground_truth": "msnet_d2.visualization:draw_dataset_dict",
    "draw_instances": "msnet_d2.visualization:draw_instance_predictions",
    "register": "msnet_d2.projects",
}


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        module = _MOVED.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, renamed = module.partition(":")
        name = renamed or name
        warnings.warn(
            f"msnet_d2 does not export this any more: import {name} from {module}",
            FutureWarning,
            stacklevel=2,
        )
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        if not (error.name or "").startswith("detectron2"):
            raise
        raise ImportError(
            f"msnet_d2 is a plugin for Detectron2, and Detectron2 cannot be imported ({error}). "
            "Run `msnet doctor`: it prints the command that installs it for this Python.",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
