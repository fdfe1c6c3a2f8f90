"""Any timm model as a backbone, without a feature pyramid."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY

from msnet_d2.modeling.backbone.timm_backbone import TimmBackbone

__all__ = ["PaddedTimmBackbone", "build_timm_backbone"]


class PaddedTimmBackbone(TimmBackbone):
    """Pictures are padded to a multiple of the coarsest stride, so that strides are exact."""

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride."""
        return max(self._out_feature_strides.values())


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PaddedTimmBackbone:
    """The maps ``MODEL.TIMM.STRIDES`` of ``MODEL.TIMM.NAME``, as ``stride4`` and so on.

    Raises:
        ConfigError: if timm has no such model, or the model no such map.
        DependencyError: if timm is missing.
        WeightsError: if the weights cannot be used.
    """
    return PaddedTimmBackbone(
        cfg.MODEL.TIMM.NAME,
        strides=list(cfg.MODEL.TIMM.STRIDES),
        weights="" if cfg.MODEL.WEIGHTS else cfg.MODEL.TIMM.WEIGHTS,
        freeze_up_to_stride=cfg.MODEL.TIMM.FREEZE_UP_TO_STRIDE,
        freeze_norm=cfg.MODEL.TIMM.FREEZE_NORM,
        in_channels=input_shape.channels,
    )
