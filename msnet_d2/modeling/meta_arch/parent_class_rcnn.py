"""The baseline of the paper's table 2 that detects parents as one more class."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Instances

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.roi_heads.masked_class_heads import parent_class
from msnet_d2.structures.parents import assign_parents

__all__ = ["ParentClassRCNN"]


@META_ARCH_REGISTRY.register()
class ParentClassRCNN(GeneralizedRCNN):
    """Generalized R-CNN whose last class is the parents of the others.

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
