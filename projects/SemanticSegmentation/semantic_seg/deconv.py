"""An encoder of pairs of convolutions, and a decoder of transposed ones that adds their features.

Not FCN in the paper's sense: features are added, not scores, and every layer upsamples by two.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, Backbone
from torch import nn

from semantic_seg.fcn import map_of_stride
from semantic_seg.losses import PixelHead

__all__ = ["FCNDeconvHead", "PairsBackbone", "build_pairs_backbone"]

_ENCODER = (64, 128, 256, 512, 512)
_DECODER = (512, 256, 128, 64, 32)


class PairsBackbone(Backbone):
    """Five blocks of two 3×3 convolutions with ReLU and a pooling: ``pool1`` to ``pool5``."""

    def __init__(self, in_channels: int = 3):
        """Build it with random weights."""
        super().__init__()
        blocks, before = [], in_channels
        for channels in _ENCODER:
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, channels, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(2),
                )
            )
            before = channels
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    @property
    def size_divisibility(self) -> int:
        """Pictures are padded to a multiple of this."""
        return 32

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides by name."""
        return {
            f"pool{n}": ShapeSpec(channels=channels, stride=2**n)
            for n, channels in enumerate(_ENCODER, start=1)
        }

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) -> maps by name."""
        maps = {}
        for n, block in enumerate(self.blocks, start=1):
            x = maps[f"pool{n}"] = block(x)
        return maps


@BACKBONE_REGISTRY.register()
def build_pairs_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PairsBackbone:
    """See :class:`PairsBackbone`."""
    return PairsBackbone(input_shape.channels)


@SEM_SEG_HEADS_REGISTRY.register()
class FCNDeconvHead(PixelHead):
    """Five transposed 3×3 convolutions of stride 2; the first four add the encoder's features."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        """Build it for maps of strides 2 to 32 with 64, 128, 256, 512 and 512 channels.

        Raises:
            ConfigError: if the backbone lacks one of the strides.
        """
        super().__init__(cfg)
        self.names = [map_of_stride(input_shape, stride) for stride in (32, 16, 8, 4, 2)]
        before, layers = input_shape[self.names[0]].channels, []
        # A layer's output has the channels of the map that is added to it.
        widths = [*(input_shape[name].channels for name in self.names[1:]), _DECODER[-1]]
        for channels in widths:
            layers.append(
                nn.Sequential(
                    nn.ConvTranspose2d(before, channels, 3, 2, padding=1, output_padding=1),
                    nn.ReLU(inplace=True),
                    nn.BatchNorm2d(channels),
                )
            )
            before = channels
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv2d(before, self.num_classes, 1)

    def logits(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, K, H, W) in the resolution of the picture."""
        x = features[self.names[0]]
        for layer, name in zip(self.layers, [*self.names[1:], None]):
            x = layer(x)
            if name is not None:
                x = x + features[name]
        return self.score(x)
