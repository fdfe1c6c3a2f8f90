"""The dense head: classes, rays and centerness at every location."""

from __future__ import annotations

import math

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead
from torch import Tensor, nn

__all__ = ["PolarMaskHead"]

# At the start all rays are so many strides long: the middle of the range a level is responsible
# for.
_INITIAL_STRIDES = 4.0
# Longer rays than this many strides cannot be predicted; it keeps the exponential finite in half
# precision.
_MAX_STRIDES = 1000.0


class PolarMaskHead(FCOSHead):
    """FCOS's head with R ray lengths in the place of the box's four distances."""

    def __init__(
        self, *, input_shape: list[ShapeSpec], conv_dims: list[int], num_rays: int, **kwargs
    ):
        """Build the head.

        Args:
            input_shape: of the feature maps, finest first, each with its stride.
            conv_dims: channels of each convolution of a branch.
            num_rays: R.
            kwargs: ``num_classes``, ``norm``, ``prior_prob`` of Detectron2's FCOSHead.
        """
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, **kwargs)
        self.strides = [shape.stride for shape in input_shape]
        self.bbox_pred = nn.Conv2d(conv_dims[-1], num_rays, kernel_size=3, padding=1)
        nn.init.normal_(self.bbox_pred.weight, std=0.01)
        nn.init.constant_(self.bbox_pred.bias, math.log(_INITIAL_STRIDES))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Predict from L feature maps (N, C, Hi, Wi).

        Returns:
            L tensors each: class logits (N, K, Hi, Wi), ray lengths in pixels (N, R, Hi, Wi),
            positive, and logits of the polar centerness (N, 1, Hi, Wi).
        """
        logits, rays, centerness = super().forward(features)
        # Full precision: in half precision the longest rays would have steps of several pixels.
        rays = [
            stride * torch.exp(level.float().clamp(max=math.log(_MAX_STRIDES)))
            for level, stride in zip(rays, self.strides)
        ]
        return logits, rays, centerness
