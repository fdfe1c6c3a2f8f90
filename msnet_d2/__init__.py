"""MSNet for Detectron2: instance segmentation of building damage in aerial video.

Importing this package registers its components with Detectron2: the meta-architecture ``MSNet``,
the proposal generator ``HierarchicalRPN``, the backbone builder ``build_timm_fpn_backbone`` and the
data sets ``isbda_*``. It opens no file and touches neither CUDA nor Detectron2's global default
config.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from msnet_d2.utils.third_party_warnings import silence_third_party_warnings

__version__ = "0.1.0"

# What the package exports, by the module that defines it. Loaded on first use, so that the `msnet`
# command can answer `--help` and `doctor` without importing torch.
_EXPORTS = {
    "add_msnet_config": "msnet_d2.config.defaults",
    "config_path": "msnet_d2.config.defaults",
    "get_msnet_cfg": "msnet_d2.config.defaults",
    "MSNetCheckpointer": "msnet_d2.checkpoint.checkpointer",
    "HierarchicalRPN": "msnet_d2.modeling",
    "MSNet": "msnet_d2.modeling",
    "MaskedClassROIHeads": "msnet_d2.modeling",
    "OverlapMatcher": "msnet_d2.modeling",
    "ParentClassRCNN": "msnet_d2.modeling",
    "RefinableRCNN": "msnet_d2.modeling",
    "RefinedModel": "msnet_d2.modeling",
    "ScoreRefinementNetwork": "msnet_d2.modeling",
    "ScoreRefiner": "msnet_d2.modeling",
    "anchor_sampling_scores": "msnet_d2.modeling",
    "build_timm_fpn_backbone": "msnet_d2.modeling",
    "load_srn": "msnet_d2.modeling",
    "multi_scale_consistency_loss": "msnet_d2.modeling",
    "refine_scores": "msnet_d2.modeling",
    "spatial_similarity": "msnet_d2.modeling",
    "ISBDADatasetMapper": "msnet_d2.data",
    "TripletDataset": "msnet_d2.data",
    "load_isbda_json": "msnet_d2.data",
    "register_isbda_instances": "msnet_d2.data",
    "resolve_dataset": "msnet_d2.data",
    "ISBDAEvaluator": "msnet_d2.evaluation",
    "RefiningEvaluator": "msnet_d2.evaluation",
    "MSNetTrainer": "msnet_d2.engine",
    "Predictor": "msnet_d2.engine",
    "evaluate": "msnet_d2.engine",
    "load_config": "msnet_d2.engine",
    "train": "msnet_d2.engine",
    "draw_ground_truth": "msnet_d2.visualization.draw",
    "draw_instances": "msnet_d2.visualization.draw",
}
__all__ = ["__version__", "register", *_EXPORTS]

_NO_DETECTRON2 = (
    "msnet_d2 is a plugin for Detectron2, and Detectron2 cannot be imported ({reason}). Run "
    "`msnet doctor`: it prints the command that installs it for this Python."
)


def register() -> None:
    """Register all components with Detectron2; called on import, harmless to repeat.

    Raises:
        ImportError: if Detectron2 is missing or broken, with the remedy.
    """
    try:
        import detectron2  # noqa: F401
        from detectron2 import modeling  # noqa: F401
    except ImportError as error:
        raise ImportError(_NO_DETECTRON2.format(reason=error), name=error.name) from error
    for module in ("msnet_d2.modeling", "msnet_d2.data", "msnet_d2.evaluation"):
        importlib.import_module(module)


def _is_command_line() -> bool:
    """Whether this process is the ``msnet`` command, whose subcommands import what they need
    themselves.

    Without this, ``msnet --help`` would take the seconds that importing torch takes, and ``msnet
    doctor`` could not run where Detectron2 is missing, which is what it is for.
    """
    return _is_run("msnet_d2.cli") or Path(sys.argv[0] if sys.argv else "").stem == "msnet"


def _is_run(module: str) -> bool:
    """Whether this process is ``python -m module``."""
    return "-m" in sys.orig_argv and module in sys.orig_argv


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if _is_command_line() or _is_run("msnet_d2.train_net"):
    # Before anything imports torch: some of the warnings come of that.
    silence_third_party_warnings()
if not _is_command_line():
    register()
