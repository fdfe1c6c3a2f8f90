"""What hides the objects of an image: truth for the occluder layer."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou

from msnet_d2.data import MAPPER_REGISTRY
from msnet_d2.data.loading.kind_mappers import AmodalDatasetMapper
from msnet_d2.errors import ConfigError

__all__ = ["OCCLUDERS", "TARGETS", "OccluderMapper", "masks_in_front", "neighbor_masks"]

OCCLUDERS = ("others", "front", "front+cover")
TARGETS = ("visible", "amodal")
_AMODAL_FIELDS = ("gt_amodal_masks", "gt_visible_masks")


def neighbor_masks(
    masks: torch.Tensor,
    boxes: torch.Tensor,
    *,
    min_iou: float = 0.05,
    min_pixels: int = 20,
    related: torch.Tensor | None = None,
) -> torch.Tensor:
    """For each object the union of the masks of its neighbors, whoever is in front.

    Args:
        masks: (N, H, W) bool.
        boxes: (N, 4) XYXY, in pixels.
        min_iou: neighbors are objects whose boxes have a larger IoU.
        min_pixels: a union with no more pixels than this in the object's box is left empty.
        related: (N, N) bool, pairs that are no neighbors; None: none.

    Returns:
        (N, H, W) bool.
    """
    near = pairwise_iou(Boxes(boxes), Boxes(boxes)) > min_iou
    near.fill_diagonal_(False)
    if related is not None:
        near &= ~related
    unions = torch.zeros_like(masks)
    for number, row in enumerate(near):
        union = masks[row].any(0)
        x0, y0 = boxes[number, :2].floor().long().clamp(min=0).tolist()
        x1, y1 = boxes[number, 2:].ceil().long().tolist()
        if union[y0:y1, x0:x1].sum() > min_pixels:
            unions[number] = union
    return unions


def masks_in_front(occluders: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """What of each object other objects hide, leaving out what is no object.

    Args:
        occluders: (N, H, W) bool, what of each object anything hides.
        visible: (N, H, W) bool, what is seen of each.

    Returns:
        (N, H, W) bool. An object is not seen where it is hidden, so that the others are in front.
    """
    return occluders & visible.any(0)


@MAPPER_REGISTRY.register()
class OccluderMapper(AmodalDatasetMapper):
    """Images whose ``instances`` have ``gt_occluder_masks``, BitMasks (N, H, W).

    ``occluders`` "others" works with any data set that has masks, "front" and "front+cover" with
    amodal ones. With ``target`` "amodal", ``gt_masks`` are whole masks and ``gt_boxes`` their
    boxes, for any of Detectron2's mask heads. Other amodal fields are left out: ROI heads would
    copy them once for every proposal.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        occluders: str = "others",
        target: str = "visible",
        min_iou: float = 0.05,
        min_pixels: int = 20,
        **arguments,
    ):
        """Make a mapper.

        Args:
            is_train: whether instances are wanted.
            occluders: one of :data:`OCCLUDERS`.
            target: one of :data:`TARGETS`.
            min_iou, min_pixels: of "others", see :func:`neighbor_masks`; fewer pixels than
                ``min_pixels`` are no occluder of the other two, either.
            arguments: those of the base class.

        Raises:
            ConfigError: if ``occluders`` or ``target`` is none of these.
        """
        super().__init__(is_train, **arguments)
        for key, value, known in (
            ("OCCLUDERS", occluders, OCCLUDERS),
            ("TARGET", target, TARGETS),
        ):
            if value not in known:
                raise ConfigError(
                    f"MODEL.BCNET.{key} is {value!r}; expected one of {', '.join(known)}"
                )
        self.occluders, self.target = occluders, target
        self.min_iou, self.min_pixels = min_iou, min_pixels

    @classmethod
    def from_config(cls, cfg, is_train: bool = True):
        """Arguments of the base class, and those of ``MODEL.BCNET``."""
        keys = cfg.MODEL.BCNET
        return {
            **super().from_config(cfg, is_train),
            "occluders": keys.OCCLUDERS,
            "target": keys.TARGET,
            "min_iou": keys.MIN_IOU,
            "min_pixels": keys.MIN_PIXELS,
        }

    @property
    def _needs_amodal(self) -> bool:
        return self.occluders != "others" or self.target == "amodal"

    def _add_fields(self, instances: Instances, annotations: list[dict], transforms) -> None:
        if all("amodal_segmentation" in a for a in annotations):
            super()._add_fields(instances, annotations, transforms)
        elif self._needs_amodal:
            raise ConfigError(
                f"MODEL.BCNET.OCCLUDERS {self.occluders!r} with TARGET {self.target!r} needs "
                "amodal truth, which the data set does not have: name it amodal@FOLDER, or set "
                "them to 'others' and 'visible'"
            )
        if self.target == "amodal":
            instances.gt_masks = instances.gt_amodal_masks
            instances.gt_boxes = instances.gt_amodal_masks.get_bounding_boxes()
        occluders = self._occluders(instances, annotations)
        instances.gt_occluder_masks = BitMasks(occluders)
        _drop(instances)

    def _occluders(self, instances: Instances, annotations: list[dict]) -> torch.Tensor:
        if self.occluders == "others":
            return neighbor_masks(
                instances.gt_masks.tensor,
                instances.gt_boxes.tensor,
                min_iou=self.min_iou,
                min_pixels=self.min_pixels,
                related=_parts_and_wholes(annotations),
            )
        masks = instances.gt_occluder_masks.tensor
        if self.occluders == "front":
            masks = masks_in_front(masks, instances.gt_visible_masks.tensor)
        enough = masks.flatten(1).sum(1) > self.min_pixels
        return masks & enough[:, None, None]

    def _no_instances(self, image_shape: tuple[int, int]) -> Instances:
        instances = super()._no_instances(image_shape)
        _drop(instances)
        return instances


def _drop(instances: Instances) -> None:
    for name in _AMODAL_FIELDS:
        if instances.has(name):
            instances.remove(name)


def _parts_and_wholes(annotations: list[dict]) -> torch.Tensor:
    """Pairs of a building and one of its parts, (N, N) bool: a part does not hide its building."""
    buildings = torch.tensor([a.get("building_id", -1) for a in annotations])
    parts = torch.tensor([a.get("part_id") is not None for a in annotations])
    same = (buildings[:, None] == buildings) & (buildings[:, None] >= 0)
    return same & (parts[:, None] ^ parts)
