"""A guard in the model: what it computes must be numbers.

Detectron2 drops detections that are not finite, so that a model whose numbers overflow finds
nothing, which looks the same as no damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import nn

from msnet_d2.errors import WeightsError

__all__ = ["first_non_finite", "guard_outputs"]


def guard_outputs(model: nn.Module) -> None:
    """Let ``model`` raise in inference where its backbone or heads give what is not finite.

    Costs a pass over the feature maps, about a thousandth of computing them. State dict and
    training stay as they are; to repeat it changes nothing.

    Args:
        model: with a ``backbone``; its RPN heads and box predictors are found by their classes. It
            then raises :class:`WeightsError`.
    """
    for name, module in model.named_modules():
        if (
            name.rpartition(".")[2] == "backbone"
            or isinstance(module, (StandardRPNHead, FastRCNNOutputLayers))
        ) and not getattr(module, "_msnet_guarded", False):
            module._msnet_guarded = True
            module.register_forward_hook(_Guard(name))


class _Guard:
    """A forward hook; a class of its own, so that guarded models can be copied and pickled."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if module.training or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        # Whatever is not finite makes the sum so; single precision holds the sums of half ones.
        sums = [tensor.sum(dtype=torch.float32) for tensor in _tensors(output)]
        if sums and not bool(torch.isfinite(torch.stack(sums)).all()):
            raise WeightsError(
                f"the model's {self._name} gives numbers that are not finite: its weights are "
                "broken (did its training diverge?), or this picture is; nothing can be said of it"
            )


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)


def first_non_finite(model: nn.Module) -> str | None:
    """Name of the first parameter or buffer of ``model`` that holds NaN or infinity; None: none."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None
