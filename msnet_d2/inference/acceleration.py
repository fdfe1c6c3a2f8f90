"""Faster inference: fused batch normalization, channels-last maps, lower precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from msnet_d2.errors import ConfigError
from msnet_d2.inference.fuse_bn import fuse_bn
from msnet_d2.utils.devices import computes_bfloat16

__all__ = ["PRECISIONS", "InferenceOptions", "accelerate"]

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

_NORMS = (nn.modules.batchnorm._NormBase,)

# Positions of a map that are transposed at once.
_PIECE = 2048


@dataclass(frozen=True)
class InferenceOptions:
    """How a detector computes. All off, as Detectron2 does.

    Attributes:
        fuse_bn: multiply fixed batch normalization into the convolutions before it. Equal up to
            rounding.
        channels_last: keep the channels of a pixel together within backbone and RPN. Equal up to
            rounding.
        precision: in which backbone, heads and embedding multiply. "float32"; "bfloat16" or
            "float16", with scores that differ in the third digit; "auto": bfloat16 where the device
            computes in it, and float32 elsewhere.
        quick_resize: resize pictures by
            :class:`~msnet_d2.data.loading.resizing.QuickResizeShortestEdge`;
            some of their values differ by one.
        compile: let torch compile the backbone, anew for each size of picture; the first pictures
            take a minute.
    """

    fuse_bn: bool = False
    channels_last: bool = False
    precision: str = "float32"
    quick_resize: bool = False
    compile: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"the precision is {self.precision!r}; there are: {', '.join(PRECISIONS)}"
            )

    @classmethod
    def fast(cls, precision: str = "auto", compile: bool = False) -> InferenceOptions:
        """Everything but compiling, at a precision of the caller's choice.

        In float32 AP stays as it is. bfloat16, which "auto" takes where the device computes in it,
        costs some: 0.19 points of AP on average in benchmarks/speed.md, at most 0.43.
        """
        return cls(True, True, precision, quick_resize=True, compile=compile)

    def resolved(self, device: torch.device) -> InferenceOptions:
        """The same with the precision that "auto" stands for on ``device``."""
        if self.precision != "auto":
            return self
        return replace(self, precision="bfloat16" if computes_bfloat16(device) else "float32")


def accelerate(model: nn.Module, options: InferenceOptions) -> InferenceOptions:
    """Change a detector in evaluation mode in place.

    Backbone, RPN heads, box head, mask head and the embedding network are changed as far as the
    model has them under Detectron2's names. What else it has stays, as do the types and layouts of
    everything that goes from part to part: the maps that RoIAlign reads are contiguous float32. (It
    takes half as long again to read others.) The changed model cannot be trained, and its state is
    no checkpoint.

    Args:
        model: with its weights, on its device.
        options: what to change.

    Returns:
        ``options`` with the precision that was chosen.

    Raises:
        ConfigError: if the model is in training mode.
    """
    if model.training:
        raise ConfigError("only a model in evaluation mode can be accelerated; call model.eval()")
    device = next(model.parameters()).device
    options = options.resolved(device)
    dtype = getattr(torch, options.precision)
    model.requires_grad_(False)
    if options.fuse_bn:
        fuse_bn(model)
    for part in _parts(model):
        channels_last = options.channels_last and part.is_map
        if dtype is torch.float32 and not channels_last:
            continue
        _convert(part.module, dtype, channels_last)
        _cast_inputs(part.first, dtype, channels_last)
        _cast_outputs(part.last)
    backbone = getattr(_detector_of(model), "backbone", None)
    if options.compile and backbone is not None:
        backbone.compile()
    return options


@dataclass(frozen=True)
class _Part:
    """What multiplies by itself: all of ``module``; what goes into ``first`` comes out of ``last``.

    ``is_map``: it works on feature maps of the whole picture.
    """

    module: nn.Module
    first: nn.Module
    last: nn.Module
    is_map: bool


def _detector_of(model: nn.Module) -> nn.Module:
    """What a RefinedDetector holds; any other model itself."""
    return getattr(model, "detector", model)


def _parts(model: nn.Module) -> Iterator[_Part]:
    layers = getattr(getattr(model, "srn", None), "layers", None)
    if layers:
        yield _Part(layers, layers[0], layers[-1], is_map=False)
    model = _detector_of(model)
    generator = getattr(model, "proposal_generator", None)
    parent = getattr(generator, "parent_rpn", None)
    for module in (
        getattr(model, "backbone", None),
        getattr(generator, "rpn_head", None),
        getattr(parent, "rpn_head", None),
    ):
        if module is not None:
            yield _Part(module, module, module, is_map=True)
    heads = (getattr(model, "roi_heads", None), getattr(generator, "parent_roi_heads", None))
    for of_which, name in itertools.product(heads, ("box_head", "mask_head")):
        head = getattr(of_which, name, None)
        # A cascade has several box heads. A mask head's own output are the finished masks.
        for module in head if isinstance(head, nn.ModuleList) else [head]:
            last = module if name == "box_head" else getattr(module, "predictor", None)
            if module is not None and last is not None:
                yield _Part(module, module, last, is_map=False)


def _convert(part: nn.Module, dtype: torch.dtype, channels_last: bool) -> None:
    layout: dict[str, Any] = {"memory_format": torch.channels_last} if channels_last else {}
    for module in part.modules():
        # Statistics stay exact: normalisation takes other types of input as they are.
        kept = isinstance(module, _NORMS) or type(module).__name__ == "FrozenBatchNorm2d"
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point() and not kept:
                own: dict[str, Any] = layout if tensor.dim() == 4 else {}
                tensor.data = tensor.data.to(dtype, **own)


def _cast_inputs(part: nn.Module, dtype: torch.dtype, channels_last: bool) -> None:
    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            layout = channels_last and value.dim() == 4
            before = _before_cast(value)
            if before is not None and before.dtype == dtype and layout:
                return before
            return value.to(
                dtype, memory_format=torch.channels_last if layout else torch.preserve_format
            )
        return _inside(value, cast)

    part.register_forward_pre_hook(lambda _, args: tuple(cast(value) for value in args))


def _cast_outputs(part: nn.Module) -> None:
    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return _contiguous_float(value)
        return _inside(value, cast)

    part.register_forward_hook(lambda _, args, output: cast(output))


def _contiguous_float(x: torch.Tensor) -> torch.Tensor:
    """``x`` as contiguous float32. The result of maps with their channels last remembers them, for
    parts that want them so (:func:`_before_cast`)."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not channels_last or x.is_contiguous():
        return x.to(torch.float32, memory_format=torch.contiguous_format)
    if x.device.type == "cpu":
        out = torch.empty(x.shape, dtype=torch.float32)
        # Transposed as matrices of their own type, which torch does in blocks, and in pieces that
        # stay in the cache: a third of the time of one conversion.
        for image, into in zip(x, out):
            pieces = zip(image.flatten(1).split(_PIECE, 1), into.flatten(1).split(_PIECE, 1))
            for piece, at in pieces:
                at.copy_(piece.contiguous())
    else:
        out = x.to(torch.float32, memory_format=torch.contiguous_format)
    if not out.is_inference():  # whether such tensors were changed is not known
        out.msnet_before_cast = x, out._version  # type: ignore[attr-defined]
    return out


def _before_cast(x: torch.Tensor) -> torch.Tensor | None:
    """What :func:`_contiguous_float` made ``x`` of, unless ``x`` was changed since."""
    before, version = getattr(x, "msnet_before_cast", (None, None))
    return before if before is not None and x._version == version else None


def _inside(value: Any, function: Any) -> Any:
    """The same list, tuple or dict with ``function`` of what is in it; anything else as it is."""
    if isinstance(value, dict):
        return {key: function(x) for key, x in value.items()}
    if type(value) in (list, tuple):
        return type(value)(function(x) for x in value)
    return value
