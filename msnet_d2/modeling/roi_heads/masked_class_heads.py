"""ROI heads for data sets in which some classes have no masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances

from msnet_d2.errors import ConfigError

__all__ = ["MaskedClassROIHeads", "classes_with_masks", "parent_class"]


def classes_with_masks(cfg: CfgNode) -> list[int]:
    """Classes that have masks, ascending.

    They are ``MODEL.ROI_HEADS.CLASSES_WITH_MASKS``; if that is empty, what the metadata of the
    first training set name as ``classes_with_masks`` (indices or names); without these, all. The
    class ``MODEL.ROI_HEADS.PARENT_CLASS`` never has any.

    Raises:
        ConfigError: if a class is none of the model's.
    """
    heads = cfg.MODEL.ROI_HEADS
    parent = parent_class(cfg)
    source, chosen = "MODEL.ROI_HEADS.CLASSES_WITH_MASKS", list(heads.CLASSES_WITH_MASKS)
    if not chosen and cfg.DATASETS.TRAIN and cfg.DATASETS.TRAIN[0] in MetadataCatalog.list():
        # Asking for the metadata of an unknown data set would create them.
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        source = f"classes_with_masks in the metadata of {cfg.DATASETS.TRAIN[0]}"
        chosen = list(metadata.get("classes_with_masks") or ())
        names = list(metadata.get("thing_classes") or ())
        chosen = [names.index(c) if c in names else c for c in chosen]
    chosen = chosen or list(range(heads.NUM_CLASSES))
    wrong = [c for c in chosen if not (isinstance(c, int) and 0 <= c < heads.NUM_CLASSES)]
    if wrong:
        raise ConfigError(
            f"{source} has {wrong[0]!r}, which is none of the model's {heads.NUM_CLASSES} classes, "
            f"0 to {heads.NUM_CLASSES - 1}; mend it, or MODEL.ROI_HEADS.NUM_CLASSES"
        )
    return sorted(set(chosen) - {parent})


def parent_class(cfg: CfgNode) -> int | None:
    """``MODEL.ROI_HEADS.PARENT_CLASS``; None if there is no such class.

    Raises:
        ConfigError: if it is not the last of the model's classes, since those before it are the
            data set's.
    """
    heads = cfg.MODEL.ROI_HEADS
    if heads.PARENT_CLASS < 0:
        return None
    if heads.PARENT_CLASS != heads.NUM_CLASSES - 1:
        raise ConfigError(
            f"MODEL.ROI_HEADS.PARENT_CLASS is {heads.PARENT_CLASS} and NUM_CLASSES is "
            f"{heads.NUM_CLASSES}; parents must be the last class, {heads.NUM_CLASSES - 1}, after "
            "those of the data set"
        )
    return heads.PARENT_CLASS


@ROI_HEADS_REGISTRY.register()
class MaskedClassROIHeads(StandardROIHeads):
    """Standard ROI heads that train masks of some classes only.

    All classes train the box head. The mask loss is taken over the proposals matched to classes
    with masks; where there are none it is 0, with gradients. Targets of other classes need no
    ``gt_masks``, if an image has no others. In inference, detections of classes without masks get
    empty ones, and the mask head is not run for them.
    """

    @configurable
    def __init__(self, *, classes_with_masks: Sequence[int] | None = None, **arguments):
        """Build the heads.

        Args:
            classes_with_masks: indices of classes; None: all.
            arguments: those of Detectron2's StandardROIHeads.
        """
        super().__init__(**arguments)
        # One entry more for the background, which has no mask either.
        has_mask = torch.zeros(self.num_classes + 1, dtype=torch.bool)
        chosen = range(self.num_classes) if classes_with_masks is None else classes_with_masks
        has_mask[list(chosen)] = True
        self.register_buffer("has_mask", has_mask, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Detectron2's arguments, and :func:`classes_with_masks`."""
        return {
            **super().from_config(cfg, input_shape),
            "classes_with_masks": classes_with_masks(cfg),
        }

    def _forward_mask(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """Loss of, or masks for, N images; only classes with masks reach Detectron2's method."""
        if not self.mask_on:
            return super()._forward_mask(features, instances)
        if self.training:
            masked = [x[self.has_mask[x.gt_classes]] for x in instances]
            return super()._forward_mask(features, masked)
        rows = [self.has_mask[x.pred_classes] for x in instances]
        masked = super()._forward_mask(features, [x[row] for x, row in zip(instances, rows)])
        for all_of_image, with_mask, row in zip(instances, masked, rows):
            masks = with_mask.pred_masks
            everyone = masks.new_zeros((len(all_of_image), *masks.shape[1:]))
            everyone[row] = masks
            all_of_image.pred_masks = everyone
        return instances
