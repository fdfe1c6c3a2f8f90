"""The meta-architecture: an R-CNN on a hierarchical RPN, which returns the parents too."""

from __future__ import annotations

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from msnet_d2.errors import ConfigError
from msnet_d2.modeling.roi_heads.parent_heads import detect_parents
from msnet_d2.structures.parents import assign_parents, select_parents

__all__ = ["MSNet"]


@META_ARCH_REGISTRY.register()
class MSNet(GeneralizedRCNN):
    """Generalized R-CNN with parents (paper, figure 2; buildings there).

    Training is Detectron2's own, with the losses of the hierarchical RPN. In inference each output
    dict has

    ``"instances"``
        Detectron2's Instances (``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks`` …) and
        for each instance ``pred_parent_boxes`` (Boxes) and ``parent_scores``: the parent it lies in
        best (see :func:`assign_parents`).
    ``"parents"``
        Instances with ``pred_boxes`` and ``scores`` (probabilities), best first: the parent RPN's
        (see :func:`select_parents`), or with MODEL.HRPN.PARENT_ROI_HEADS those of a second stage.

    Boxes and masks are in the output resolution (``"height"`` and ``"width"`` of the input).

    Detectron2's test-time augmentation (``GeneralizedRCNNWithTTA``) merges ``pred_boxes``,
    ``scores``, ``pred_classes`` and ``pred_masks`` of many views, and knows of nothing else: its
    outputs have no parents, and evaluation leaves these out.
    """

    @configurable
    def __init__(
        self,
        *,
        parent_score_thresh: float = 0.05,
        parent_nms_thresh: float = 0.5,
        parents_per_image: int = 100,
        **rcnn_arguments,
    ):
        """The first three are those of :func:`select_parents`, the others of the base class.

        Raises:
            ConfigError: if the proposal generator proposes no parents.
        """
        super().__init__(**rcnn_arguments)
        if not hasattr(self.proposal_generator, "forward_with_parents"):
            raise ConfigError(
                f"MSNet got the proposal generator {type(self.proposal_generator).__name__}, which "
                "proposes no parents; set MODEL.PROPOSAL_GENERATOR.NAME to HierarchicalRPN, or "
                "MODEL.META_ARCHITECTURE to GeneralizedRCNN"
            )
        self.parent_score_thresh = parent_score_thresh
        self.parent_nms_thresh = parent_nms_thresh
        self.parents_per_image = parents_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Translate the config into the arguments of the constructor."""
        return {
            **super().from_config(cfg),
            "parent_score_thresh": cfg.MODEL.HRPN.PARENT_SCORE_THRESH_TEST,
            "parent_nms_thresh": cfg.MODEL.HRPN.PARENT_NMS_THRESH_TEST,
            "parents_per_image": cfg.MODEL.HRPN.PARENT_DETECTIONS_PER_IMAGE,
        }

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
        """Detect, or with ``detected_instances`` predict masks for given boxes.

        Args:
            batched_inputs: N dicts, see :meth:`GeneralizedRCNN.forward`.
            detected_instances: None, or N Instances with ``pred_boxes`` and ``pred_classes`` in
                network input resolution. They keep their parents if they have them; none are looked
                for.
            do_postprocess: whether to scale to output resolution and paste masks.

        Returns:
            N dicts as described above (without ``"parents"`` where boxes were given), or without
            post-processing N Instances in network input resolution, with the same fields but for
            masks still per box.
        """
        assert not self.training
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            instances, parents = self._detect(images, features)
        else:
            detected_instances = [x.to(self.device) for x in detected_instances]
            instances = self.roi_heads.forward_with_given_boxes(features, detected_instances)
            parents = None
        if not do_postprocess:
            return instances

        outputs = self._postprocess(instances, batched_inputs, images.image_sizes)
        if parents is not None:
            scaled = self._postprocess(parents, batched_inputs, images.image_sizes)
            for output, parents_per_image in zip(outputs, scaled):
                output["parents"] = parents_per_image["instances"]
        return outputs

    def _detect(self, images, features) -> tuple[list[Instances], list[Instances]]:
        """Instances and parents of N images, in network input resolution."""
        proposals, parents, _ = self.proposal_generator.forward_with_parents(images, features)
        instances, _ = self.roi_heads(images, features, proposals, None)
        heads = getattr(self.proposal_generator, "parent_roi_heads", None)
        if heads is not None:
            parents = detect_parents(heads, images, features, parents)
        else:
            parents = [
                select_parents(
                    p,
                    score_thresh=self.parent_score_thresh,
                    nms_thresh=self.parent_nms_thresh,
                    topk=self.parents_per_image,
                )
                for p in parents
            ]
        for instances_per_image, parents_per_image in zip(instances, parents):
            assign_parents(instances_per_image, parents_per_image)
        return instances, parents

    @staticmethod
    def _postprocess(instances, batched_inputs, image_sizes) -> list[dict]:
        """Detectron2's post-processing, and ``pred_parent_boxes`` scaled as well."""
        outputs = []
        for result, inputs, image_size in zip(instances, batched_inputs, image_sizes):
            height = inputs.get("height", image_size[0])
            width = inputs.get("width", image_size[1])
            scale = width / result.image_size[1], height / result.image_size[0]
            result = detector_postprocess(result, height, width)
            if result.has("pred_parent_boxes"):
                result.pred_parent_boxes.scale(*scale)
                result.pred_parent_boxes.clip((height, width))
            outputs.append({"instances": result})
        return outputs
