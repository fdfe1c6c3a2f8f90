"""Fuse fixed batch normalization into the convolutions before it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_weights

__all__ = ["fuse_bn"]

# Convolutions whose output is linear in their weights; others, such as those that standardise them,
# are not to be scaled.
_LINEAR = ("Conv2d", "Conv2dSame")

logger = logging.getLogger(__name__)


def fuse_bn(model: nn.Module) -> int:
    """Fuse every batch normalisation that follows a convolution, in place.

    conv(x; w, b) · s + t = conv(x; w · s, b · s + t), so that the outputs are equal up to rounding.
    Looked at are Detectron2's convolutions, which hold their normalisation, and timm's models,
    whose order is found by tracing; where a model cannot be traced its normalisations stay.

    Args:
        model: in evaluation mode.

    Returns:
        How many were fused.
    """
    fused = 0
    module: Any
    for module in list(model.modules()):
        # Detectron2's Conv2d: convolution, norm, activation.
        if isinstance(module, nn.Conv2d) and _is_fixed_norm(getattr(module, "norm", None)):
            _fuse(module, module.norm)
            module.norm = None  # type: ignore[assignment]
            fused += 1
    bodies: list[Any] = [m.body for m in model.modules() if type(m).__name__ == "TimmBackbone"]
    return fused + sum(map(_fuse_traced, bodies))


def _is_fixed_norm(norm: Any) -> bool:
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    # timm's frozen variants are classes of their own, with the same attributes.
    return (
        norm is not None
        and ("BatchNorm" in type(norm).__name__)
        and getattr(norm, "running_mean", None) is not None
        and not norm.training
    )


@torch.no_grad()
def _fuse(conv: nn.Conv2d, norm: Any) -> None:
    """Change ``conv`` to what conv and norm are together, computed in float64."""
    dtype = conv.weight.dtype
    tensors: list[Any] = [conv.weight, conv.bias, norm.running_mean, norm.running_var]
    tensors += [norm.weight, norm.bias]
    doubles: list[Any] = [None if x is None else x.double() for x in tensors]
    weight, bias, mean, var, gamma, beta = doubles
    weight, bias = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, gamma, beta)
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


class _Tracer(fx.Tracer):
    """Takes convolutions and normalisations as they are, whatever class timm gives them."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        leaf = isinstance(module, nn.Conv2d) or _is_fixed_norm(module)
        return leaf or super().is_leaf_module(module, name)


def _fuse_traced(body: nn.Module) -> int:
    try:
        graph = _Tracer().trace(body)
    except Exception as error:  # whatever a model does that a tracer cannot follow
        logger.info("norms of %s are not fused: %s", type(body).__name__, error)
        return 0
    modules = dict(body.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    fused = 0
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        norm, conv = modules[node.target], modules[before.target]
        alone = len(before.users) == 1 and calls.count(before.target) == 1
        if not (_is_fixed_norm(norm) and type(conv).__name__ in _LINEAR and alone):
            continue
        _fuse(conv, norm)
        # timm's normalisations include the activation that follows.
        rest = [getattr(norm, name, None) for name in ("drop", "act")]
        parent, _, name = node.target.rpartition(".")
        after = nn.Sequential(*(m for m in rest if m is not None and type(m) is not nn.Identity))
        setattr(modules[parent], name, after)
        fused += 1
    return fused
