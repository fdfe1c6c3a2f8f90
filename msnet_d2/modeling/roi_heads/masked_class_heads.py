"""Mask R-CNN on classes of which some have no masks, and one may be the parents of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.meta_arch.msnet import assign_parents
from msnet_d2.score_refinement.refinable import RefinableRCNN

__all__ = ["MaskedClassROIHeads", "ParentClassRCNN", "classes_with_masks"]


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


@META_ARCH_REGISTRY.register()
class ParentClassRCNN(RefinableRCNN):
    """Generalized R-CNN whose last class is the parents of the others; f may stand beside it.

    Detections of that class are not among the ``"instances"`` it returns but apart, as
    ``"parents"`` (``pred_boxes`` and ``scores``), and each instance gets ``pred_parent_boxes`` and
    ``parent_scores``, as :class:`msnet_d2.modeling.MSNet` returns them. So it is evaluated on the
    parts alone, and its parents can be scored as well.
    """

    @configurable
    def __init__(self, *, parent_class: int, **rcnn_arguments):
        """``parent_class`` is the index of the class; the rest as in GeneralizedRCNN."""
        super().__init__(**rcnn_arguments)
        self.parent_class = parent_class

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Detectron2's arguments, and :func:`parent_class`.

        Raises:
            ConfigError: if the config names no parent class, or one that is not the last.
        """
        parent = parent_class(cfg)
        if parent is None:
            raise ConfigError(
                "MODEL.META_ARCHITECTURE is ParentClassRCNN, but MODEL.ROI_HEADS.PARENT_CLASS is "
                f"{cfg.MODEL.ROI_HEADS.PARENT_CLASS}; set it to the last class, "
                f"{cfg.MODEL.ROI_HEADS.NUM_CLASSES - 1}, or take GeneralizedRCNN"
            )
        return {**super().from_config(cfg), "parent_class": parent}

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
        """Detect; arguments are Detectron2's, and its results have the parents apart.

        They are dropped where nothing is post-processed, since Instances alone are returned then.
        Boxes that were given come back all, in their order.
        """
        results = super().inference(batched_inputs, detected_instances, do_postprocess)
        if detected_instances is not None:
            return results
        if not do_postprocess:
            return [x[x.pred_classes != self.parent_class] for x in results]
        return [{**result, **self._set_apart(result["instances"])} for result in results]

    def _set_apart(self, detections: Instances) -> dict[str, Instances]:
        is_parent = detections.pred_classes == self.parent_class
        instances = detections[~is_parent]
        parents = Instances(
            detections.image_size,
            pred_boxes=detections.pred_boxes[is_parent],
            scores=detections.scores[is_parent],
        )
        assign_parents(instances, parents)
        return {"instances": instances, "parents": parents}
