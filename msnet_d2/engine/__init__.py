"""Training, evaluation and prediction."""

from __future__ import annotations

import importlib

# Loaded on first use: the predictor does without the trainer.
_EXPORTS = {
    "MSNetTrainer": "msnet_d2.engine.trainer",
    "Predictor": "msnet_d2.inference.predictor",
    "evaluate": "msnet_d2.engine.trainer",
    "load_config": "msnet_d2.config.load",
    "train": "msnet_d2.engine.trainer",
}
__all__ = ["MSNetTrainer", "Predictor", "evaluate", "load_config", "train"]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
