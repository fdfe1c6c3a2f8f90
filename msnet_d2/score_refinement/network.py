"""The embedding of the Score Refinement Network (paper, section 4.3; f there), dense and at boxes.

Shape letters: B images, C channels of the feature pyramid, D channels of the embedding, H × W
positions of a map, N boxes, M feature pixels.
"""

from __future__ import annotations

import itertools
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

# Rows of feature pixels that are embedded at once: its widest layer then takes 16 MB in
# float32, which the C library keeps for the next chunk. What is larger it gives back and asks for
# again, page by page.
_CHUNK = 4096


class ScoreRefinementNetwork(nn.Module):
    """Fully connected layers over the channels of each position of a feature pyramid, ReLU after
    each (paper, section 4.3).

    All levels share the layers. Two regions are compared by the cosine of their embeddings at each
    position, see :mod:`msnet_d2.score_refinement.similarity`. Without layers the embedding are the
    pyramid's own features, and nothing has to be trained.
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
            fc_dims: width of each layer; the last is D. Empty: D = C.
            pooler_resolution: cells per side of an embedded box.

        Raises:
            ConfigError: if there are no feature maps, or their strides do not double.
        """
        super().__init__()
        if not in_features or len(in_features) != len(strides):
            raise ConfigError(
                f"an embedding needs feature maps with strides, but got {list(in_features)} with "
                f"{list(strides)}"
            )
        if any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise ConfigError(
                f"the strides of the maps of MODEL.SRN.IN_FEATURES are {list(strides)}: each must "
                "be twice the one before"
            )
        self.in_features = list(in_features)
        self.strides = list(strides)
        self._pooler = ROIPooler(
            pooler_resolution,
            scales=[1 / stride for stride in strides],
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        )
        self.pooler_resolution = pooler_resolution
        self.layers = nn.ModuleList()
        for width in fc_dims:
            layer = nn.Linear(in_channels, width)
            weight_init.c2_msra_fill(layer)
            self.layers.append(layer)
            in_channels = width
        self.out_channels = in_channels

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate MODEL.SRN into the arguments of the constructor.

        Raises:
            ConfigError: if the backbone lacks a feature map, or they differ in channels.
        """
        srn = cfg.MODEL.SRN
        names = list(srn.IN_FEATURES) or _fine_maps(input_shape)
        missing = [name for name in names if name not in input_shape]
        if missing:
            raise ConfigError(
                f"MODEL.SRN.IN_FEATURES names {missing}, but the backbone has {sorted(input_shape)}"
            )
        channels = {input_shape[name].channels for name in names}
        if len(channels) > 1:
            raise ConfigError(
                f"the maps {names} share one embedding, but have {sorted(channels)} channels; set "
                "MODEL.SRN.IN_FEATURES to maps of equal width"
            )
        return {
            "in_features": names,
            "in_channels": channels.pop() if channels else 0,
            "strides": [input_shape[name].stride for name in names],
            "fc_dims": srn.FC_DIMS,
            "pooler_resolution": srn.POOLER_RESOLUTION,
        }

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embed every position.

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
        """Embed single positions, many at a time.

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
    ) -> Tensor:
        """RoIAlign of the dense embedding at boxes, computed only where RoIAlign reads.

        The result is that of pooling :meth:`forward`'s maps (up to the order of summation in a
        matrix product). The layers work on each position by itself, so a position's value does not
        depend on whether others are computed. RoIAlign is a weighted sum over positions, and every
        position with a weight other than zero is among those computed
        (:func:`pixels_read_by_roi_align`). The others are zero in the map that is pooled and have
        weight zero. The layers cannot follow the pooling instead: ReLU does not commute with a sum.

        As in Detectron2's box head a box is pooled from the level that suits its size, with
        ROIAlignV2 (half-pixel aligned) and its adaptive number of samples, ceil(size of a cell) a
        side.

        Args:
            features: maps (B, C, H_k, W_k) by name.
            boxes_per_image: B times Boxes in pixels of the network's input, (x0, y0, x1, y1); they
                may reach beyond the frame or be empty (then the embedding is zero).

        Returns:
            (N, D, R, R) with R = pooler_resolution, the boxes of all images one after another;
            float32.

        Raises:
            ValueError: if there is not one Boxes an image, or a coordinate is not finite.
        """
        maps = [features[name] for name in self.in_features]
        if len(boxes_per_image) != len(maps[0]):
            raise ValueError(
                f"boxes of {len(boxes_per_image)} images were given for features of {len(maps[0])}"
            )
        resolution = self.pooler_resolution
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
        pooler = self._pooler
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


def _fine_maps(input_shape: dict[str, ShapeSpec]) -> list[str]:
    """The maps of stride 32 at most, finest first: p2..p5 of the paper's pyramid. Coarser ones have
    too few positions to tell buildings apart."""
    fine = [name for name, shape in input_shape.items() if shape.stride <= 32]
    return sorted(fine, key=lambda name: input_shape[name].stride)
