"""VGG16's convolutions as a backbone, and its published weights."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.utils.weight_files import read_state_dict

__all__ = ["VGG16", "build_vgg16_backbone", "load_vgg_classifier"]

ORIGINAL_PADDING = 100
KEY = "MODEL.VGG.WEIGHTS"
_CHANNELS = (64, 128, 256, 512, 512)


class VGG16(Backbone):
    """``pool1`` to ``pool5`` (strides 2 to 32), and the picture itself as ``image``.

    The layers are torchvision's, so that its state dict fits.
    """

    def __init__(self, first_padding: int = 1):
        """Build it with random weights.

        Args:
            first_padding: 1; or 100, as the FCN's authors pad, with poolings that round up.

        Raises:
            ConfigError: for another padding.
        """
        super().__init__()
        if first_padding not in (1, ORIGINAL_PADDING):
            raise ConfigError(
                f"MODEL.VGG.FIRST_PADDING is {first_padding}; there are: 1, {ORIGINAL_PADDING}"
            )
        self.first_padding = first_padding
        self.features = make_layers(cfgs["D"], batch_norm=False)
        self.features[0].padding = (first_padding, first_padding)
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = first_padding == ORIGINAL_PADDING
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    @property
    def size_divisibility(self) -> int:
        """Pictures are padded to a multiple of 32, unless the first convolution pads."""
        return 0 if self.first_padding == ORIGINAL_PADDING else 32

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides by name."""
        shapes = {
            f"pool{n}": ShapeSpec(channels=channels, stride=2**n)
            for n, channels in enumerate(_CHANNELS, start=1)
        }
        return {"image": ShapeSpec(channels=3, stride=1), **shapes}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) -> maps by name."""
        maps = {"image": x}
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps[f"pool{len(maps)}"] = x
        return maps


@BACKBONE_REGISTRY.register()
def build_vgg16_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG16:
    """VGG16 by ``MODEL.VGG``.

    ``MODEL.VGG.WEIGHTS`` is not read where ``MODEL.WEIGHTS`` is set: such a checkpoint has the
    backbone too.

    Raises:
        ConfigError: if the padding is neither of the two.
        WeightsError: if the weights cannot be used.
    """
    backbone = VGG16(cfg.MODEL.VGG.FIRST_PADDING)
    weights = "" if cfg.MODEL.WEIGHTS else cfg.MODEL.VGG.WEIGHTS
    if weights:
        state = read_state_dict(weights, KEY)
        _copy(backbone.features, state, "features", weights)
    return backbone


def load_vgg_classifier(fc6: nn.Conv2d, fc7: nn.Conv2d, weights: str) -> None:
    """Copy the first two fully connected layers of a VGG16 into convolutions, 7×7 and 1×1.

    On a map of 7×7 the convolutions compute what the layers did (FCN paper, section 3.1).

    Args:
        fc6: 512 channels to D, 7×7.
        fc7: D to D, 1×1.
        weights: state dict of torchvision's vgg16: path or URL.

    Raises:
        WeightsError: if it lacks the layers, or they have another width.
    """
    state = read_state_dict(weights, KEY)
    for conv, name in ((fc6, "classifier.0"), (fc7, "classifier.3")):
        given = state.get(f"{name}.weight")
        if given is None or given.numel() != conv.weight.numel():
            got = "missing" if given is None else tuple(given.shape)
            raise WeightsError(
                f"{KEY} {weights!r}: {name}.weight is {got} and should be "
                f"({conv.out_channels}, {conv.weight[0].numel()}); give the state dict of a whole "
                "vgg16, or set MODEL.FCN.FC_DIM to its width"
            )
        layers = {
            "weight": given.reshape(conv.weight.shape),
            "bias": state.get(f"{name}.bias", torch.zeros(conv.out_channels)),
        }
        conv.load_state_dict(layers)


def _copy(module: nn.Module, state: dict[str, torch.Tensor], prefix: str, weights: str) -> None:
    own = module.state_dict()
    given = {key: state.get(f"{prefix}.{key}") for key in own}
    wrong = [k for k, v in given.items() if v is None or v.shape != own[k].shape]
    if wrong:
        raise WeightsError(
            f"{KEY} {weights!r} does not fit VGG16: {prefix}.{wrong[0]} is missing or has another "
            "shape; give a state dict of torchvision's vgg16"
        )
    module.load_state_dict(given)
