"""The network f of the Score Refinement Network (paper, section 4.3), dense and at boxes only.

Shape letters: B images, C channels of the feature pyramid, D channels of f's output, H × W
positions of a map, N boxes, M feature pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from fvcore.nn import weight_init
from torch import Tensor, nn

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.sparse_roi_align import (
    pixels_read_by_roi_align,
    pool_by_map,
    pool_by_rows,
)

__all__ = ["ScoreRefinementNetwork"]

# Rows of feature pixels that f is evaluated on at once: its widest layer then takes 16 MB in
# float32, which the C library keeps for the next chunk. What is larger it gives back and asks for
# again, page by page.
_CHUNK = 4096


class ScoreRefinementNetwork(nn.Module):
    """f: fully connected layers over the channels of each position of p2..p5, ReLU after each
    (paper, section 4.3).

    One f is shared by all levels. Two regions are compared by the cosine of their f at each
    position, see :mod:`msnet_d2.score_refinement.losses`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        in_channels: int,
        strides: Sequence[int],
        fc_dims: Sequence[int] = (1024, 1024, 1024),
        pooler_resolution: int = 7,
    ) -> None:
        """Explicit arguments, or ``ScoreRefinementNetwork(cfg, backbone.output_shape())``.

        Args:
            in_features: names of the feature maps, finest first.
            in_channels: C, of all of them.
            strides: of each map, in pixels of the network's input; each twice the one before.
            fc_dims: width of each layer; the last is D.
            pooler_resolution: cells per side of an embedded box, unless said otherwise.

        Raises:
            ConfigError: if there are no layers or no feature maps.
        """
        super().__init__()
        if not fc_dims or not in_features or len(in_features) != len(strides):
            raise ConfigError(
                f"f needs layers and feature maps, but MODEL.SRN.FC_DIMS is {list(fc_dims)} and "
                f"MODEL.SRN.IN_FEATURES {list(in_features)}"
            )
        self.in_features = list(in_features)
        self.strides = list(strides)
        self.pooler_resolution = pooler_resolution
        self.layers = nn.ModuleList()
        for width in fc_dims:
            layer = nn.Linear(in_channels, width)
            weight_init.c2_msra_fill(layer)
            self.layers.append(layer)
            in_channels = width
        self.out_channels = in_channels
        self._poolers: dict[
            int, ROIPooler
        ] = {}  # they have no parameters, and no place in a checkpoint

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate MODEL.SRN into the arguments of the constructor.

        Raises:
            ConfigError: if the backbone lacks a feature map, or they differ in channels.
        """
        srn = cfg.MODEL.SRN
        missing = [name for name in srn.IN_FEATURES if name not in input_shape]
        if missing:
            raise ConfigError(
                f"MODEL.SRN.IN_FEATURES names {missing}, but the backbone has {sorted(input_shape)}"
            )
        channels = {input_shape[name].channels for name in srn.IN_FEATURES}
        if len(channels) > 1:
            raise ConfigError(
                f"the maps of MODEL.SRN.IN_FEATURES share f, but have {sorted(channels)} channels"
            )
        return {
            "in_features": srn.IN_FEATURES,
            "in_channels": channels.pop() if channels else 0,
            "strides": [input_shape[name].stride for name in srn.IN_FEATURES],
            "fc_dims": srn.FC_DIMS,
            "pooler_resolution": srn.POOLER_RESOLUTION,
        }

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Evaluate f at every position.

        Args:
            features: maps (B, C, H_k, W_k) by name, those of ``in_features`` among them.

        Returns:
            maps (B, D, H_k, W_k) by name, of ``in_features`` alone.
        """
        embedded = {}
        for name in self.in_features:
            # As matrix products: torch's 1 × 1 convolution takes twice as long on a CPU. The maps
            # come out with their channels last in memory, which suits cosines.
            x = features[name].permute(0, 2, 3, 1)
            rows = self._embed(x.reshape(-1, x.shape[-1]))
            embedded[name] = rows.view(*x.shape[:3], self.out_channels).permute(0, 3, 1, 2)
        return embedded

    def embed_pixels(self, rows: Tensor) -> Tensor:
        """Evaluate f at single positions, many at a time.

        Args:
            rows: (M, C).

        Returns:
            (M, D).
        """
        done = [self._embed(x) for x in rows.split(_CHUNK)]
        return torch.cat(done) if done else rows.new_zeros((0, self.out_channels))

    def _embed(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x), inplace=True)
        return x

    def embed_boxes(
        self,
        features: dict[str, Tensor],
        boxes_per_image: Sequence[Boxes],
        resolution: int | None = None,
    ) -> Tensor:
        """RoIAlign of f's dense output at boxes, with f evaluated only where RoIAlign reads.

        The result is that of pooling :meth:`forward`'s maps (up to the order of summation in a
        matrix product): f works on each position by itself, so a position's value does not depend
        on whether others are computed; RoIAlign is a weighted sum over positions, and every
        position with a weight other than zero is among those computed
        (:func:`pixels_read_by_roi_align`). The others are zero in the map that is pooled and have
        weight zero. f cannot follow the pooling instead: its ReLU does not commute with a sum.

        As in Detectron2's box head a box is pooled from the level that suits its size, with
        ROIAlignV2 (half-pixel aligned) and its adaptive number of samples, ceil(size of a cell) a
        side.

        Args:
            features: maps (B, C, H_k, W_k) by name.
            boxes_per_image: B times Boxes in pixels of the network's input, (x0, y0, x1, y1); they
                may reach beyond the frame or be empty (then the embedding is zero).
            resolution: cells per side; default: the constructor's.

        Returns:
            (N, D, resolution, resolution), the boxes of all images one after another; float32.

        Raises:
            ValueError: if there is not one Boxes an image, or a coordinate is not finite.
        """
        maps = [features[name] for name in self.in_features]
        if len(boxes_per_image) != len(maps[0]):
            raise ValueError(
                f"boxes of {len(boxes_per_image)} images were given for features of {len(maps[0])}"
            )
        resolution = self.pooler_resolution if resolution is None else resolution
        boxes_per_image = [
            Boxes(b.tensor.to(maps[0].device, torch.float32)) for b in boxes_per_image
        ]
        boxes = torch.cat([b.tensor for b in boxes_per_image])
        if len(boxes) == 0:
            return boxes.new_zeros((0, self.out_channels, resolution, resolution))
        if not torch.isfinite(boxes).all():
            raise ValueError("boxes with coordinates that are not finite cannot be embedded")
        image = torch.repeat_interleave(
            torch.arange(len(boxes_per_image), device=boxes.device),
            torch.tensor([len(b) for b in boxes_per_image], device=boxes.device),
        )
        # torchvision's RoIAlign is undefined for boxes with their corners the wrong way round.
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        pooler = self._pooler(resolution)
        if len(maps) == 1:
            level = torch.zeros_like(image)
        else:
            level = assign_boxes_to_levels(
                boxes_per_image,
                pooler.min_level,
                pooler.max_level,
                pooler.canonical_box_size,
                pooler.canonical_level,
            )
        pooled = boxes.new_zeros((len(boxes), self.out_channels, resolution, resolution))
        for k, (x, stride) in enumerate(zip(maps, self.strides)):
            own = ((level == k) & solid).nonzero().squeeze(1)
            if len(own) == 0:
                continue
            scaled = boxes[own] / stride
            shape = (len(x), *x.shape[-2:])
            read = pixels_read_by_roi_align(scaled, image[own], shape, resolution)
            # Gathered with the channels first, as the maps are: half the time of channels last.
            at = read.flatten().nonzero().squeeze(1)
            rows = self.embed_pixels(x.transpose(0, 1).flatten(1).index_select(1, at).T).float()
            pool = pool_by_rows if rows.device.type == "cpu" else pool_by_map
            pooled = pooled.index_put((own,), pool(rows, read, scaled, image[own], resolution))
        return pooled

    def _pooler(self, resolution: int) -> ROIPooler:
        if resolution not in self._poolers:
            self._poolers[resolution] = ROIPooler(
                resolution,
                scales=[1 / stride for stride in self.strides],
                sampling_ratio=0,
                pooler_type="ROIAlignV2",
            )
        return self._poolers[resolution]
