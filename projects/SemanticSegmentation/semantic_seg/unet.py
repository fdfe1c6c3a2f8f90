"""U-Net (Ronneberger, Fischer and Brox, MICCAI 2015): encoder, and a decoder for any encoder."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, Backbone
from torch import nn

from msnet_d2.errors import ConfigError
from semantic_seg.losses import PixelHead

__all__ = ["MIRRORED", "UNetBackbone", "UNetHead", "build_unet_backbone", "mirror"]

# Pixels of each side that valid convolutions lose with four poolings: (572 − 388) / 2.
MIRRORED = 92
PADDINGS = ("same", "valid")


def mirror(x: torch.Tensor, before: int, height: int, width: int) -> torch.Tensor:
    """Extend pictures by their mirror images, as often as needed.

    Args:
        x: (N, C, H, W).
        before: pixels above and to the left.
        height, width: of the result.
    """
    rows, columns = (
        _mirrored(size, before, wanted, x.device)
        for size, wanted in zip(x.shape[-2:], (height, width))
    )
    return x[:, :, rows][:, :, :, columns]


def _mirrored(size: int, before: int, wanted: int, device: torch.device) -> torch.Tensor:
    period = max(2 * (size - 1), 1)  # the border itself is not repeated
    index = (torch.arange(wanted, device=device) - before) % period
    return torch.minimum(index, period - index).clamp(max=size - 1)


def _double_conv(before: int, channels: int, padding: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (before, channels):
        conv = nn.Conv2d(given, channels, 3, padding=padding, bias=not norm)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, *([get_norm(norm, channels)] if norm else []), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNetBackbone(Backbone):
    """The encoder: maps ``stride1``, ``stride2``, … and the picture itself as ``image``."""

    def __init__(
        self, in_channels: int, channels: list[int], *, padding: str = "same", norm: str = ""
    ):
        """Build it with He's initialisation, as the paper.

        Args:
            in_channels: of the picture.
            channels: of each level, finest first.
            padding: "same" or "valid".
            norm: behind each convolution; "" for none.

        Raises:
            ConfigError: for another padding, or another number of levels with "valid".
        """
        super().__init__()
        if padding not in PADDINGS:
            raise ConfigError(f"MODEL.UNET.PADDING is {padding!r}; there are: same, valid")
        self.valid = padding == "valid"
        if len(channels) < 2 or (self.valid and len(channels) != 5):
            raise ConfigError(
                f"MODEL.UNET.CHANNELS is {list(channels)}; expected five levels, or with "
                "MODEL.UNET.PADDING same at least two"
            )
        self.channels = list(channels)
        self.levels = nn.ModuleList(
            _double_conv(before, after, 0 if self.valid else 1, norm)
            for before, after in itertools.pairwise([in_channels, *channels])
        )

    @property
    def size_divisibility(self) -> int:
        """Of the picture: what four poolings halve; the mirrored picture is aligned here."""
        return 0 if self.valid else 2 ** (len(self.channels) - 1)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides by name."""
        shapes = {
            f"stride{2**n}": ShapeSpec(channels=c, stride=2**n) for n, c in enumerate(self.channels)
        }
        return {"image": ShapeSpec(channels=3, stride=1), **shapes}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) -> maps by name; with valid convolutions those of the mirrored picture."""
        maps = {"image": x}
        if self.valid:
            # The paper's sizes are 12 more than a multiple of 16: then every pooling is even.
            sides = [-(-(side + 2 * MIRRORED - 12) // 16) * 16 + 12 for side in x.shape[-2:]]
            x = mirror(x, MIRRORED, *sides)
        for n, level in enumerate(self.levels):
            x = level(x if n == 0 else F.max_pool2d(x, 2))
            maps[f"stride{2**n}"] = x
        return maps


@BACKBONE_REGISTRY.register()
def build_unet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> UNetBackbone:
    """The encoder by ``MODEL.UNET``.

    Raises:
        ConfigError: if its keys cannot be built.
    """
    keys = cfg.MODEL.UNET
    return UNetBackbone(
        input_shape.channels, list(keys.CHANNELS), padding=keys.PADDING, norm=keys.NORM
    )


@SEM_SEG_HEADS_REGISTRY.register()
class UNetHead(PixelHead):
    """The decoder: 2×2 transposed convolutions, skips, pairs of 3×3 convolutions.

    It takes the maps of any backbone whose strides double, such as timm's; from a finest stride
    above 1 the scores are upsampled bilinearly.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        """Build it for the backbone's maps.

        Raises:
            ConfigError: if their strides do not double, or ``MODEL.UNET`` does not fit them.
        """
        super().__init__(cfg)
        shapes = sorted(
            ((name, s) for name, s in input_shape.items() if name != "image"),
            key=lambda item: item[1].stride,
        )
        strides = [shape.stride for _, shape in shapes]
        if len(strides) < 2 or any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise ConfigError(f"UNetHead needs feature maps whose strides double, got {strides}")
        keys = cfg.MODEL.UNET
        widths = list(keys.DECODER_CHANNELS) or [shape.channels for _, shape in shapes[:-1]]
        if len(widths) != len(shapes) - 1:
            raise ConfigError(
                f"MODEL.UNET.DECODER_CHANNELS is {widths}; the backbone's maps need "
                f"{len(shapes) - 1} numbers"
            )
        self.valid = cfg.MODEL.BACKBONE.NAME == "build_unet_backbone" and keys.PADDING == "valid"
        self.names = [name for name, _ in reversed(shapes)]
        self.finest = strides[0]
        ups, convs, before = [], [], shapes[-1][1].channels
        for (_, shape), width in zip(reversed(shapes[:-1]), reversed(widths)):
            ups.append(nn.ConvTranspose2d(before, width, 2, 2))
            convs.append(
                _double_conv(width + shape.channels, width, 0 if self.valid else 1, keys.NORM)
            )
            before = width
        self.ups, self.convs = nn.ModuleList(ups), nn.ModuleList(convs)
        self.score = nn.Conv2d(before, self.num_classes, 1)

    def logits(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H, W) in the resolution of the picture."""
        x = features[self.names[0]]
        for up, conv, name in zip(self.ups, self.convs, self.names[1:]):
            x = up(x)
            x = conv(torch.cat([_center(features[name], x), x], dim=1))
        x = self.score(x)
        if self.valid:
            height, width = features["image"].shape[-2:]
            return x[..., :height, :width]
        if self.finest > 1:
            x = F.interpolate(x, scale_factor=self.finest, mode="bilinear", align_corners=False)
        return x


def _center(skip: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The middle of ``skip``, as large as ``like``."""
    height, width = like.shape[-2:]
    top, left = (skip.shape[-2] - height) // 2, (skip.shape[-1] - width) // 2
    return skip[..., top : top + height, left : left + width]
