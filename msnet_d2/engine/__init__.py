"""Training and evaluation."""

from msnet_d2.engine.runs import evaluate, train
from msnet_d2.engine.trainer import MSNetTrainer

__all__ = ["MSNetTrainer", "evaluate", "train"]
