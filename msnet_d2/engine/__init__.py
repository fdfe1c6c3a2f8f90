"""Training and evaluation."""

from msnet_d2.engine.trainer import MSNetTrainer, evaluate, train

__all__ = ["MSNetTrainer", "evaluate", "train"]
