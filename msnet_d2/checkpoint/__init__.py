"""Weights: where they come from, reading them safely, and saying what was loaded."""

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.checkpoint.resume import checkpoint_to_resume, last_checkpoint, trained_weights

__all__ = ["MSNetCheckpointer", "checkpoint_to_resume", "last_checkpoint", "trained_weights"]
