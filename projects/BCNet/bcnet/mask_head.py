"""BCNet's mask head: one layer of convolutions for what hides an object, one for the object."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import (
    BaseMaskRCNNHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from bcnet.gcn import GraphConvolution
from bcnet.losses import binary_loss, boundaries, occluder_rows
from msnet_d2.errors import ConfigError

__all__ = ["BCNetMaskHead", "Logits"]

logger = logging.getLogger(__name__)

# Steps without any occluder after which a training is warned of.
PATIENCE = 100


class Logits(NamedTuple):
    """Outputs for B regions, (B, K, 2H, 2W), K being 1 but for ``mask``. None: not predicted."""

    mask: torch.Tensor
    boundary: torch.Tensor | None
    occluder_mask: torch.Tensor | None
    occluder_boundary: torch.Tensor | None


@ROI_MASK_HEAD_REGISTRY.register()
class BCNetMaskHead(BaseMaskRCNNHead):
    """Bilayer mask head (section 3): occluders first, then the object, given what was seen of them.

    It stands in any of Detectron2's ROI heads. In training, instances need ``gt_masks`` and, with
    an occluder layer, ``gt_occluder_masks``, which the mapper ``OccluderMapper`` gives. Names of
    the object's layer are those of Mask R-CNN's head, so that its weights load.

    In inference, instances get ``pred_masks`` and, where they are predicted, ``pred_boundaries``,
    ``pred_occluder_masks`` and ``pred_occluder_boundaries``: probabilities (N, 1, 28, 28) within
    their boxes; with ``whole`` also ``pred_hidden_masks``, which are drawn by dashes.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        num_conv: int,
        bilayer: bool = True,
        gcn: bool = True,
        gcn_norm: str = "LN",
        boundary: bool = True,
        weights: Sequence[float] = (1.0, 0.25, 1.0, 1.0),
        whole: bool = False,
        vis_period: int = 0,
    ):
        """Build the head.

        Args:
            input_shape: of a region's features; all layers are as wide.
            num_classes: of masks; 1 if they are class-agnostic. Boundaries and occluders always
                are.
            num_conv: 3x3 convolutions of each layer, even; the graph convolution is in the middle.
            bilayer: whether there is an occluder layer.
            gcn: whether there are graph convolutions.
            gcn_norm: their normalisation.
            boundary: whether boundaries are predicted.
            weights: of the losses of mask, occluders' mask, boundary and occluders' boundary.
            whole: whether masks are trained to be whole and occluders to be what hides them, so
                that what lies in both is hidden.
            vis_period: Detectron2's.

        Raises:
            ConfigError: if ``num_conv`` is odd or none, or ``weights`` are not four.
        """
        super().__init__(vis_period=vis_period)
        if num_conv < 2 or num_conv % 2:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.NUM_CONV is {num_conv}; BCNetMaskHead needs an even number "
                "from 2, with the graph convolution in the middle"
            )
        if len(weights) != 4:
            raise ConfigError(f"MODEL.BCNET.WEIGHTS has {len(weights)} numbers; expected 4")
        self.bilayer, self.boundary, self.whole = bilayer, boundary, whole
        self.weights = tuple(weights)
        self.num_conv = num_conv
        channels = input_shape.channels
        for name in ("mask", "occluder") if bilayer else ("mask",):
            for number in range(1, num_conv + 1):
                conv = Conv2d(channels, channels, 3, padding=1, activation=nn.ReLU())
                weight_init.c2_msra_fill(conv)
                self.add_module(f"{name}_fcn{number}", conv)
            self.add_module(
                f"{name}_gcn", GraphConvolution(channels, gcn_norm) if gcn else nn.Identity()
            )
        self._add_output("", channels, num_classes)
        if boundary:
            self._add_output("boundary_", channels, 1)
        if bilayer:
            self._add_output("occluder_", channels, 1)
        if bilayer and boundary:
            self._add_output("occluder_boundary_", channels, 1)
        self._steps_without_occluder = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Arguments from ``MODEL.BCNET`` and ``MODEL.ROI_MASK_HEAD``.

        Raises:
            ConfigError: if the head shall be of another width than the features, or normalised.
        """
        head, keys = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.BCNET
        if input_shape.channels != head.CONV_DIM:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.CONV_DIM is {head.CONV_DIM} and the feature maps have "
                f"{input_shape.channels} channels; BCNetMaskHead adds up the two, set CONV_DIM to "
                f"{input_shape.channels}"
            )
        if head.NORM:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.NORM is {head.NORM!r}; BCNetMaskHead has none, set it to ''"
            )
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_conv": head.NUM_CONV,
            "bilayer": keys.BILAYER,
            "gcn": keys.GCN,
            "gcn_norm": keys.GCN_NORM,
            "boundary": keys.BOUNDARY,
            "weights": keys.WEIGHTS,
            "whole": keys.TARGET == "amodal" and keys.OCCLUDERS != "others",
        }

    def _add_output(self, prefix: str, channels: int, classes: int) -> None:
        deconv = ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
        weight_init.c2_msra_fill(deconv)
        predictor = Conv2d(channels, classes, kernel_size=1)
        nn.init.normal_(predictor.weight, std=0.001)
        nn.init.zeros_(predictor.bias)
        self.add_module(f"{prefix}deconv", deconv)
        self.add_module(f"{prefix}predictor", predictor)

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        for number in range(1, self.num_conv + 1):
            x = getattr(self, f"{name}_fcn{number}")(x)
            if number == self.num_conv // 2:
                x = getattr(self, f"{name}_gcn")(x)
        return x

    def _output(self, prefix: str, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, f"{prefix}predictor")(getattr(self, f"{prefix}deconv")(x).relu())

    def logits(self, x: torch.Tensor) -> Logits:
        """All outputs for the features (B, C, H, W) of B regions."""
        occluder_mask = occluder_boundary = boundary = None
        if self.bilayer:
            occluder = self._layer("occluder", x)
            occluder_mask = self._output("occluder_", occluder)
            if self.boundary:
                occluder_boundary = self._output("occluder_boundary_", occluder)
            x = x + occluder
        x = self._layer("mask", x)
        if self.boundary:
            boundary = self._output("boundary_", x)
        return Logits(self._output("", x), boundary, occluder_mask, occluder_boundary)

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Mask logits alone, as Detectron2's heads give them."""
        return self.logits(x).mask

    def forward(
        self, x: torch.Tensor, instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """Losses in training, else ``instances`` with their predictions.

        Args:
            x: (B, C, H, W), features of the regions of all images.
            instances: one for each image; together B regions, with ``proposal_boxes`` and truth in
                training, else with ``pred_classes``.

        Raises:
            ConfigError: in training, if the truth has no occluders.
        """
        logits = self.logits(x)
        if self.training:
            return self._losses(logits, instances)
        mask_rcnn_inference(logits.mask, instances)
        names = ("pred_boundaries", "pred_occluder_masks", "pred_occluder_boundaries")
        counts = [len(i) for i in instances]
        for name, output in zip(names, logits[1:]):
            if output is not None:
                for of_image, part in zip(instances, output.sigmoid().split(counts)):
                    of_image.set(name, part)
        for of_image in instances if self.whole and self.bilayer else ():
            hidden = torch.minimum(of_image.pred_masks, of_image.pred_occluder_masks)
            of_image.pred_hidden_masks = hidden
        return instances

    def _losses(self, logits: Logits, instances: list[Instances]) -> dict[str, torch.Tensor]:
        mask_weight, occluder_weight, boundary_weight, occluder_boundary_weight = self.weights
        masks = mask_rcnn_loss(logits.mask, instances, self.vis_period)
        losses = {"loss_mask": masks * mask_weight}
        if logits.boundary is not None:
            targets = boundaries(_cropped("gt_masks", instances, logits.boundary))
            loss = binary_loss(logits.boundary[:, 0], targets)
            losses["loss_boundary"] = loss * boundary_weight
        if logits.occluder_mask is None:
            return losses
        occluders = _cropped("gt_occluder_masks", instances, logits.occluder_mask)
        rows = occluder_rows(occluders)
        self._count(occluders)
        loss = binary_loss(logits.occluder_mask[rows, 0], occluders[rows])
        losses["loss_occluder_mask"] = loss * occluder_weight
        if logits.occluder_boundary is not None:
            targets = boundaries(occluders[rows])
            loss = binary_loss(logits.occluder_boundary[rows, 0], targets)
            losses["loss_occluder_boundary"] = loss * occluder_boundary_weight
        return losses

    def _count(self, occluders: torch.Tensor) -> None:
        """Log how many regions have occluders; warn, once, of a training that sees none."""
        count = int(occluders.flatten(1).any(1).sum())
        get_event_storage().put_scalar("bcnet/regions_with_occluders", count)
        if self._steps_without_occluder < 0:
            return
        self._steps_without_occluder = -1 if count else self._steps_without_occluder + 1
        if self._steps_without_occluder == PATIENCE:
            logger.warning(
                "No region of the first %d steps has an occluder: the occluder layer learns "
                "nothing. Is MODEL.BCNET.OCCLUDERS what the data have?",
                PATIENCE,
            )


def _cropped(field: str, instances: list[Instances], like: torch.Tensor) -> torch.Tensor:
    """Masks of a field, cut out by the proposals: (B, S, S) bool, S as in ``like``."""
    side, crops = like.shape[-1], []
    for of_image in instances:
        if len(of_image) == 0:
            continue
        if not of_image.has(field):
            raise ConfigError(
                f"the mask head BCNetMaskHead needs {field} in training: set INPUT.MAPPER to "
                "'OccluderMapper' and INPUT.MASK_FORMAT to 'bitmask', or MODEL.BCNET.BILAYER to "
                "False"
            )
        masks = of_image.get(field).crop_and_resize(of_image.proposal_boxes.tensor, side)
        crops.append(masks.to(like.device))
    if not crops:
        return like.new_zeros((0, side, side), dtype=torch.bool)
    return torch.cat(crops)
