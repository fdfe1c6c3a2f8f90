"""The meta-architecture PolarMask, on the parts of Detectron2's FCOS.

Shape shorthand in this module:

    N: number of images in the batch
    M: number of ground-truth instances of an image
    L: number of feature maps (levels)
    S: number of locations of an image over all levels
    R: number of rays
    K: number of classes
"""

from __future__ import annotations

import itertools
import math

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import batched_nms, cat
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor
from torch.nn import functional as F

from msnet_d2.errors import ConfigError
from polarmask.head import PolarMaskHead
from polarmask.losses import polar_centerness, polar_iou_loss
from polarmask.masks import contours_of, rasterize
from polarmask.rays import (
    edges_of_polygons,
    mass_centers,
    polygons_to_boxes,
    ray_lengths,
    rays_to_polygons,
)

__all__ = ["PolarMask"]

CENTERS = ("mass", "box")


class _CenteredBoxes(Boxes):
    """Boxes with centres of their own, so that FCOS's matching samples around these."""

    def __init__(self, tensor: Tensor, centers: Tensor):
        super().__init__(tensor)
        self._centers = centers

    def get_centers(self) -> Tensor:
        return self._centers


@META_ARCH_REGISTRY.register()
class PolarMask(FCOS):
    """PolarMask (Xie et al., CVPR 2020): an object is a centre and the lengths of rays to its
    contour.

    From FCOS come the locations, the assignment of objects to locations, the classification and the
    hyperparameters of inference. There is no box branch: boxes are those around the masks.

    Outputs are Detectron2's own: ``{"instances": Instances}`` with ``pred_boxes``, ``scores``,
    ``pred_classes`` and ``pred_masks`` (N, H, W), boolean, in the output resolution.
    ``pred_polygons`` (N, R, 2) are the same contours as points.
    """

    @configurable
    def __init__(
        self,
        *,
        num_rays: int = 36,
        min_ray_length: float = 1e-6,
        center: str = "mass",
        **fcos_arguments,
    ):
        """Build the model.

        Args:
            num_rays: R, as many as the head predicts.
            min_ray_length: length in pixels of a ray that meets no contour.
            centre: what locations are sampled around, "mass" or "box".
            fcos_arguments: those of Detectron2's FCOS.
        """
        super().__init__(**fcos_arguments)
        self.num_rays = num_rays
        self.min_ray_length = min_ray_length
        self.center = center

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Arguments of the constructor, from ``cfg.MODEL.POLARMASK`` and the backbone.

        Raises:
            ConfigError: for a key that no model can be built with.
        """
        keys = cfg.MODEL.POLARMASK
        _check(keys)
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        missing = [name for name in keys.IN_FEATURES if name not in shapes]
        if missing:
            raise ConfigError(
                f"MODEL.POLARMASK.IN_FEATURES has {missing[0]!r}, but the backbone "
                f"{cfg.MODEL.BACKBONE.NAME} gives {', '.join(shapes)}"
            )
        input_shape = [shapes[name] for name in keys.IN_FEATURES]
        head = PolarMaskHead(
            input_shape=input_shape,
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            conv_dims=[input_shape[0].channels] * keys.NUM_CONVS,
            num_rays=keys.NUM_RAYS,
            norm=keys.NORM,
            prior_prob=keys.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": list(keys.IN_FEATURES),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_rays": keys.NUM_RAYS,
            "min_ray_length": keys.MIN_RAY_LENGTH,
            "center": keys.CENTER,
            "center_sampling_radius": keys.CENTER_SAMPLING_RADIUS,
            "focal_loss_alpha": keys.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": keys.FOCAL_LOSS_GAMMA,
            "test_score_thresh": keys.SCORE_THRESH_TEST,
            "test_topk_candidates": keys.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": keys.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, output dicts in inference; see the class."""
        outputs = super().forward(batched_inputs)
        if self.training:
            return outputs
        for inputs, output in zip(batched_inputs, outputs):
            # Detectron2's post-processing has scaled the boxes; it knows nothing of polygons.
            instances = output["instances"]
            height, width = instances.image_size
            input_height, input_width = inputs["image"].shape[-2:]
            scale = instances.pred_polygons.new_tensor([width / input_width, height / input_height])
            instances.pred_polygons = instances.pred_polygons * scale
            instances.pred_masks = rasterize(instances.pred_polygons, height, width)
        return outputs

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: list[list[Tensor]],
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Losses of a batch; ``predictions`` are what the head returns."""
        logits, rays, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, self.num_rays, 1]
        )
        anchors = self.anchor_generator(features)
        labels, targets = self.label_locations(anchors, gt_instances)
        return self.losses(
            cat(logits, dim=1), cat(rays, dim=1), cat(centerness, dim=1)[..., 0], labels, targets
        )

    @torch.no_grad()
    def label_locations(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[Tensor, Tensor]:
        """What each location should predict.

        A location is positive for an object if it is within the sampling radius of its centre,
        inside its box, and on the level that is responsible for its scale. Of several objects it
        takes the smallest.

        Args:
            anchors: L Boxes; the centre of an anchor is its location.
            gt_instances: N Instances with ``gt_boxes``, ``gt_classes`` and ``gt_masks``; those of
                an image without objects may lack the masks.

        Returns:
            Labels (N, S), K standing for background, and the ray lengths (P, R) of the P positive
            locations, in the order of ``labels < K``.
        """
        locations = Boxes.cat(anchors).get_centers()
        level_starts = [0, *itertools.accumulate(len(level) for level in anchors)]
        labels, targets = [], []
        for instances in gt_instances:
            label = torch.full(
                (len(locations),), self.num_classes, dtype=torch.long, device=locations.device
            )
            labels.append(label)
            if len(instances) == 0:
                continue
            boxes = instances.gt_boxes
            edges = edges_of_polygons(contours_of(instances.gt_masks), device=locations.device)
            if self.center == "mass":
                centers = mass_centers(edges).to(boxes.tensor.dtype)
                # A bitmask too thin to have a contour has no centre of mass.
                centers = torch.where(centers.isnan(), boxes.get_centers(), centers)
                boxes = _CenteredBoxes(boxes.tensor, centers)
            near = self._near(boxes.get_centers(), anchors)
            subset = [level[index] for level, index in zip(anchors, near)]
            quality, matched = self._match_anchors(boxes, subset).max(dim=0)
            positive = quality > 0
            index = cat([start + i for start, i in zip(level_starts, near)])[positive]
            matched = matched[positive]
            label[index] = instances.gt_classes[matched]
            lengths = ray_lengths(
                edges,
                locations[index],
                matched,
                num_rays=self.num_rays,
                min_length=self.min_ray_length,
            )
            targets.append(lengths.to(locations.dtype))
        empty = locations.new_zeros((0, self.num_rays))
        return torch.stack(labels), cat([empty, *targets])

    def _near(self, centers: Tensor, anchors: list[Boxes]) -> list[Tensor]:
        """Indices, for each level, of the locations that sampling can reach from any centre.

        FCOS compares every object with every location, half a second for 50 objects in 800 x 1333
        pixels. Those far from all centres cannot match; what is left is a few thousand. Clamping
        to the map leaves none of the levels without any, which FCOS's matching could not handle.
        """
        reach = math.ceil(self.center_sampling_radius)
        offset = torch.arange(-reach, reach + 1, device=centers.device)
        near = []
        for level, stride in zip(anchors, self.anchor_generator.strides):
            columns = round(float(level.tensor[-1, 2]) / stride)  # anchors are as large as strides
            rows = len(level) // columns
            column, row = torch.floor(centers / stride).long().unbind(dim=1)  # (M,)
            column = (column[:, None] + offset)[:, None, :].clamp(0, columns - 1)
            row = (row[:, None] + offset)[:, :, None].clamp(0, rows - 1)
            near.append((row * columns + column).unique())
        return near

    def losses(
        self, logits: Tensor, rays: Tensor, centerness: Tensor, labels: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """The three losses, each a sum over locations by a running mean of the number of positive
        ones.

        Args:
            logits: (N, S, K).
            rays: (N, S, R), lengths in pixels.
            centerness: (N, S), logits.
            labels: (N, S), see :meth:`label_locations`.
            targets: (P, R).

        Returns:
            ``loss_polar_cls`` (focal loss), ``loss_polar_mask`` (polar IoU loss),
            ``loss_polar_ctr`` (cross entropy). The last two are 0, with gradients, if no location
            is positive.
        """
        positive = labels < self.num_classes
        num_positive = int(positive.sum())
        get_event_storage().put_scalar("num_pos_anchors", num_positive / len(labels))
        normalizer = self._ema_update("loss_normalizer", max(num_positive, 1), 300)

        one_hot = F.one_hot(labels, num_classes=self.num_classes + 1)[..., :-1]
        classification = sigmoid_focal_loss_jit(
            logits.float(),
            one_hot.to(torch.float32),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        mask = polar_iou_loss(rays[positive], targets).sum()
        center = F.binary_cross_entropy_with_logits(
            centerness[positive].float(), polar_centerness(targets), reduction="sum"
        )
        return {
            "loss_polar_cls": classification / normalizer,
            "loss_polar_mask": mask / normalizer,
            "loss_polar_ctr": center / normalizer,
        }

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        """Detections of N images in network input resolution, as polygons."""
        logits, rays, centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, self.num_rays, 1]
        )
        anchors = self.anchor_generator(features)
        results = []
        for index, image_size in enumerate(images.image_sizes):
            levels = [
                self._decode_level(
                    level_anchors,
                    torch.sqrt(c[index].float().sigmoid() * t[index].float().sigmoid()),
                    r[index],
                    image_size,
                )
                for level_anchors, c, t, r in zip(anchors, logits, centerness, rays)
            ]
            found = Instances.cat(levels)
            keep = batched_nms(
                found.pred_boxes.tensor, found.scores, found.pred_classes, self.test_nms_thresh
            )
            results.append(found[keep[: self.max_detections_per_image]])
        return results

    def _decode_level(
        self, anchors: Boxes, scores: Tensor, rays: Tensor, image_size: tuple[int, int]
    ) -> Instances:
        """The best candidates of one level: ``scores`` (Si, K), ``rays`` (Si, R)."""
        above = scores > self.test_score_thresh
        candidates = above.nonzero()  # rows of location and class
        best, order = scores[above].topk(min(len(candidates), self.test_topk_candidates))
        location, classes = candidates[order].unbind(dim=1)
        polygons = rays_to_polygons(anchors.get_centers()[location], rays[location])
        boxes = Boxes(polygons_to_boxes(polygons))
        boxes.clip(image_size)
        return Instances(
            image_size, pred_boxes=boxes, scores=best, pred_classes=classes, pred_polygons=polygons
        )


def _check(keys: CfgNode) -> None:
    if keys.CENTER not in CENTERS:
        raise ConfigError(
            f"MODEL.POLARMASK.CENTER is {keys.CENTER!r}; it must be one of {', '.join(CENTERS)}"
        )
    least = {"NUM_RAYS": 3, "NUM_CONVS": 1, "CENTER_SAMPLING_RADIUS": 0.5}
    for key, value in least.items():
        if keys[key] < value:
            raise ConfigError(f"MODEL.POLARMASK.{key} is {keys[key]}; it must be at least {value}")
    if keys.MIN_RAY_LENGTH <= 0:
        raise ConfigError(
            f"MODEL.POLARMASK.MIN_RAY_LENGTH is {keys.MIN_RAY_LENGTH}; it must be above 0, since "
            "lengths are divided by one another"
        )
    if not keys.IN_FEATURES:
        raise ConfigError("MODEL.POLARMASK.IN_FEATURES is empty; name feature maps, finest first")
