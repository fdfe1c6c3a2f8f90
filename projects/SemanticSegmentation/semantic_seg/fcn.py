"""FCN-32s, -16s and -8s (Long, Shelhamer and Darrell, CVPR 2015) as a head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from msnet_d2.errors import ConfigError
from semantic_seg.losses import PixelHead
from semantic_seg.vgg import ORIGINAL_PADDING, load_vgg_classifier

__all__ = ["FCNHead", "Upsampling", "bilinear_kernel", "map_of_stride"]

UPSAMPLINGS = ("interpolate", "fixed", "learned")
# Where the score maps of a picture padded by 100 begin: of pool4, of pool3, and of the picture
# itself, by the stride of the net. They are the authors', and follow from kernels and paddings.
_OFFSETS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}


def bilinear_kernel(factor: int) -> torch.Tensor:
    """Kernel of a transposed convolution that upsamples bilinearly.

    Args:
        factor: even.

    Returns:
        (2·factor, 2·factor), the product of 1 − |x − c| / factor of both axes, c = factor − 0.5.
    """
    x = torch.arange(2 * factor, dtype=torch.float32)
    row = 1 - (x - (factor - 0.5)).abs() / factor
    return row[:, None] * row[None, :]


class Upsampling(nn.Module):
    """Each channel of its own, ``factor`` times larger."""

    def __init__(self, channels: int, factor: int, mode: str, crop: bool):
        """See ``MODEL.FCN.UPSAMPLE``.

        Args:
            channels: of the map.
            factor: even.
            mode: one of :data:`UPSAMPLINGS`.
            crop: whether factor / 2 is cut off each side, so that n cells give factor · n; else
                factor · (n + 1).
        """
        super().__init__()
        self.factor, self.mode, self.padding = factor, mode, factor // 2 if crop else 0
        if mode == "interpolate":
            return
        kernel = bilinear_kernel(factor).expand(channels, 1, -1, -1).clone()
        if mode == "learned":
            self.weight = nn.Parameter(kernel)
        else:
            self.register_buffer("weight", kernel, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, factor · H, factor · W)."""
        if self.mode == "interpolate":
            return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return F.conv_transpose2d(
            x, self.weight, stride=self.factor, padding=self.padding, groups=x.shape[1]
        )


def map_of_stride(input_shape: dict[str, ShapeSpec], stride: int) -> str:
    """Name of the map of a stride.

    Raises:
        ConfigError: if the backbone has none.
    """
    for name, shape in input_shape.items():
        if shape.stride == stride:
            return name
    there = ", ".join(str(shape.stride) for shape in input_shape.values())
    raise ConfigError(
        f"the head needs a feature map of stride {stride}, and the backbone has {there}; set "
        "MODEL.TIMM.STRIDES, or another MODEL.BACKBONE.NAME"
    )


@SEM_SEG_HEADS_REGISTRY.register()
class FCNHead(PixelHead):
    """Scores of the maps of strides 32, 16 and 8, upsampled and summed.

    With a VGG16 padded by 100 it crops as the authors do; else the picture is padded to a multiple
    of 32 and maps fit without.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        """Build it; scores start at zero.

        Raises:
            ConfigError: if ``MODEL.FCN`` cannot be built.
            WeightsError: if ``MODEL.VGG.WEIGHTS`` has no fully connected layers of this width.
        """
        super().__init__(cfg)
        keys = cfg.MODEL.FCN
        if keys.STRIDE not in _OFFSETS:
            raise ConfigError(f"MODEL.FCN.STRIDE is {keys.STRIDE}; there are: 32, 16, 8")
        if keys.UPSAMPLE not in UPSAMPLINGS:
            raise ConfigError(
                f"MODEL.FCN.UPSAMPLE is {keys.UPSAMPLE!r}; there are: {', '.join(UPSAMPLINGS)}"
            )
        vgg = cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone"
        self.original = vgg and cfg.MODEL.VGG.FIRST_PADDING == ORIGINAL_PADDING
        if self.original and (keys.UPSAMPLE == "interpolate" or not keys.FC_DIM):
            raise ConfigError(
                "MODEL.VGG.FIRST_PADDING 100 goes with MODEL.FCN.UPSAMPLE fixed or learned and a "
                "MODEL.FCN.FC_DIM, as the authors have it"
            )
        self.stride, self.skip_scales = keys.STRIDE, list(keys.SKIP_SCALES)
        self.coarse = map_of_stride(input_shape, 32)
        channels = input_shape[self.coarse].channels
        self.fc = nn.Identity()
        if keys.FC_DIM:
            self.fc = self._fully_connected(channels, keys.FC_DIM, keys.DROPOUT)
            weights = cfg.MODEL.VGG.WEIGHTS if vgg and not cfg.MODEL.WEIGHTS else ""
            if weights:
                load_vgg_classifier(self.fc.fc6, self.fc.fc7, weights)
        self.score_fr = _score(keys.FC_DIM or channels, self.num_classes)
        self.skips: list[str] = []
        for n, stride in enumerate(s for s in (16, 8) if s >= self.stride):
            name = map_of_stride(input_shape, stride)
            self.skips.append(name)
            score = _score(input_shape[name].channels, self.num_classes)
            self.add_module(f"score_stride{stride}", score)
            self.add_module(f"up{n}", self._upsampling(2, keys.UPSAMPLE))
        self.up_last = self._upsampling(self.stride, keys.UPSAMPLE)

    def _fully_connected(self, channels: int, width: int, dropout: float) -> nn.Sequential:
        layers = nn.Sequential()
        layers.add_module("fc6", nn.Conv2d(channels, width, 7, padding=0 if self.original else 3))
        layers.add_module("relu6", nn.ReLU(inplace=True))
        layers.add_module("drop6", nn.Dropout(dropout))
        layers.add_module("fc7", nn.Conv2d(width, width, 1))
        layers.add_module("relu7", nn.ReLU(inplace=True))
        layers.add_module("drop7", nn.Dropout(dropout))
        return layers

    def _upsampling(self, factor: int, mode: str) -> Upsampling:
        return Upsampling(self.num_classes, factor, mode, crop=not self.original)

    def logits(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H, W) in the resolution of the picture."""
        offsets = _OFFSETS[self.stride]
        total = self.score_fr(self.fc(features[self.coarse]))
        for n, name in enumerate(self.skips):
            total = self.get_submodule(f"up{n}")(total)
            score = self.get_submodule(f"score_stride{(16, 8)[n]}")
            skip = score(features[name] * self.skip_scales[n])
            total = total + (_cut(skip, offsets[n], total) if self.original else skip)
        total = self.up_last(total)
        return _cut(total, offsets[-1], features["image"]) if self.original else total


def _cut(x: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """The part of ``x`` from ``offset`` on that is as large as ``like``."""
    height, width = like.shape[-2:]
    return x[..., offset : offset + height, offset : offset + width]


def _score(channels: int, classes: int) -> nn.Conv2d:
    score = nn.Conv2d(channels, classes, 1)
    nn.init.zeros_(score.weight)
    nn.init.zeros_(score.bias)
    return score
