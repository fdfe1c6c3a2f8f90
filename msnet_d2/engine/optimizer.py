"""The optimiser that a config asks for."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from msnet_d2.errors import ConfigError

__all__ = ["OPTIMIZERS", "build_optimizer"]

# SGD is built by Detectron2.
_ADAMS: dict[str, Any] = {"ADAM": torch.optim.Adam, "ADAMW": torch.optim.AdamW}
OPTIMIZERS = ("SGD", *_ADAMS)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Optimiser of the parameters that require a gradient.

    ``SOLVER.OPTIMIZER`` "SGD" is Detectron2's own, as the paper's detector is trained; "ADAM" (the
    paper's score refinement network) and "ADAMW" take learning rate, weight decay and clipping from
    the same keys, their moments' decay from torch's defaults.

    Raises:
        ConfigError: for another name, or a model without anything to train.
    """
    name = cfg.SOLVER.OPTIMIZER.upper()
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; there are: {', '.join(OPTIMIZERS)}"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("the config freezes every parameter of the model: nothing to train")
    if name == "SGD":
        return build_sgd(cfg, model)
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer = _ADAMS[name](parameters, lr=cfg.SOLVER.BASE_LR)
    return maybe_add_gradient_clipping(cfg, optimizer)
