"""Hierarchical RPN: a parent RPN decides which anchors the part RPN uses (paper, section 4.2).

In the paper parents are buildings and parts are their damaged parts; nothing here depends on that.

Shape shorthand in this module:

    N: number of images in the batch
    L: number of feature maps (levels)
    A: number of anchors per position
    Hi, Wi: height and width of the i-th feature map
    R: number of anchors of an image over all levels, the sum of Hi * Wi * A
    P: number of parent proposals of an image

Naming conventions:

    logits: objectness before the sigmoid, per level (N, Hi * Wi * A)
    deltas: box regression, per level (N, Hi * Wi * A, 4)
    kept: the anchors that the part RPN uses: per image and level their indices, ascending, each
        counted from the start of its level; None if all are kept
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

from msnet_d2.errors import ConfigError, InputError
from msnet_d2.modeling.proposal_generator.anchor_filter import canonical_metric, filter_anchors
from msnet_d2.modeling.roi_heads.parent_heads import build_parent_roi_heads, parent_roi_losses

__all__ = ["HierarchicalRPN", "OverlapMatcher", "parent_head_sources"]


class OverlapMatcher(Matcher):
    """Detectron2's matcher, except that a ground truth which overlaps no prediction claims none.

    ``allow_low_quality_matches`` gives each ground truth the predictions of its highest quality. If
    that is zero, these are *all* predictions it does not overlap. With all anchors of an image this
    cannot happen; with a subset it does, for every object whose parent was not found.
    """

    def set_low_quality_matches_(
        self, match_labels: torch.Tensor, match_quality_matrix: torch.Tensor
    ) -> None:
        """Set the labels of each overlapped ground truth's best predictions to 1, in place.

        Args:
            match_labels: (R,) int8.
            match_quality_matrix: (G, R) IoU of G ground truths and R predictions; both may be 0.
        """
        overlapped = match_quality_matrix.amax(dim=1) > 0
        # Selecting rows copies the largest matrix of training; nearly always there is nothing to
        # drop.
        if not overlapped.all():
            match_quality_matrix = match_quality_matrix[overlapped]
        if len(match_quality_matrix):
            super().set_low_quality_matches_(match_labels, match_quality_matrix)


@PROPOSAL_GENERATOR_REGISTRY.register()
class HierarchicalRPN(RPN):
    """The part RPN, which holds the parent RPN as ``parent_rpn``; both read the same features.

    1. The parent RPN is an ordinary RPN, trained on the distinct rows of ``gt_parent_boxes``.
    2. An anchor is kept if its sampling score against the parent proposals of its image (see
       :mod:`.anchor_filter`) is strictly greater than the threshold.
    3. Only kept anchors are matched, sampled for the loss, and turned into proposals. The authors'
       code samples labels before it filters, which leaves fewer than the intended number. Each
       ground truth that overlaps a kept anchor keeps its best one.

    No gradient flows from the part RPN through the parent proposals. An image without parent
    proposals has no part proposals. With a threshold below 0, proposals and part losses equal
    Detectron2's ``RPN`` bit for bit (given equal weights, labels and random state: the part RPN
    draws its sample before the parent RPN does).
    """

    @configurable
    def __init__(
        self,
        *,
        parent_rpn: RPN,
        metric: str = "ioa",
        threshold: float = 0.1,
        parent_objectness_thresh: float = 0.0,
        parent_topk: tuple[int, int] = (-1, -1),
        parent_roi_heads: ROIHeads | None = None,
        parent_roi_loss_weight: float = 1.0,
        **rpn_arguments,
    ):
        """Both RPNs are given whole, so that they can differ in features, anchors and losses.

        Args:
            parent_rpn: proposes the parents. Its losses are weighted by its own ``loss_weight``.
            metric: one of :data:`.anchor_filter.METRICS`.
            threshold: S of the paper.
            parent_objectness_thresh: probability in [0, 1] below which a parent proposal keeps no
                anchor.
            parent_topk: (train, test) number of parent proposals per image, best first, that keep
                anchors; -1: all.
            parent_roi_heads: a second stage for parents, trained with the RPNs; None, as in the
                paper: there is none. What it detects is for the meta-architecture, see
                :mod:`..roi_heads.parent_heads`; anchors are chosen by the proposals.
            parent_roi_loss_weight: factor of these losses.
            rpn_arguments: those of :class:`RPN`, for the part RPN. Its ``anchor_matcher`` should be
                an :class:`OverlapMatcher`.

        Raises:
            ConfigError: if a value is out of its range.
        """
        super().__init__(**rpn_arguments)
        if not 0.0 <= parent_objectness_thresh <= 1.0:
            raise ConfigError(
                f"MODEL.HRPN.PARENT_OBJECTNESS_THRESH is {parent_objectness_thresh}; expected a "
                "probability in [0, 1]"
            )
        for name, topk in zip(("TRAIN", "TEST"), parent_topk, strict=True):
            if topk < -1:
                raise ConfigError(
                    f"MODEL.HRPN.PARENT_TOPK_{name} is {topk}; expected a number of proposals, or "
                    "-1 for all"
                )
        self.parent_rpn = parent_rpn
        self.parent_roi_heads = parent_roi_heads
        self.parent_roi_loss_weight = parent_roi_loss_weight
        self.metric = canonical_metric(metric)
        self.threshold = float(threshold)
        self.parent_objectness_thresh = float(parent_objectness_thresh)
        # Map from self.training to the setting, as RPN does.
        self.parent_topk = {True: parent_topk[0], False: parent_topk[1]}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Translate MODEL.RPN and MODEL.HRPN into the arguments of the constructor.

        Raises:
            ConfigError: if MODEL.HRPN.PARENT_IN_FEATURES has no anchors.
        """
        ret = super().from_config(cfg, input_shape)
        ret["anchor_matcher"] = OverlapMatcher(
            cfg.MODEL.RPN.IOU_THRESHOLDS, cfg.MODEL.RPN.IOU_LABELS, allow_low_quality_matches=True
        )
        ret["parent_rpn"] = RPN(_parent_config(cfg), input_shape)
        ret["metric"] = cfg.MODEL.HRPN.METRIC
        ret["threshold"] = cfg.MODEL.HRPN.THRESHOLD
        ret["parent_objectness_thresh"] = cfg.MODEL.HRPN.PARENT_OBJECTNESS_THRESH
        ret["parent_topk"] = (cfg.MODEL.HRPN.PARENT_TOPK_TRAIN, cfg.MODEL.HRPN.PARENT_TOPK_TEST)
        ret["parent_roi_heads"] = build_parent_roi_heads(cfg, input_shape)
        ret["parent_roi_loss_weight"] = cfg.MODEL.HRPN.PARENT_ROI_LOSS_WEIGHT
        return ret

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        """Set a parent head that the checkpoint lacks from its one RPN head (a stock R-CNN's)."""
        for name, source in parent_head_sources(state_dict, prefix).items():
            state_dict[name] = state_dict[source]
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Part proposals and losses: the pair that every Detectron2 meta-architecture expects.

        See :meth:`forward_with_parents`.
        """
        proposals, _, losses = self.forward_with_parents(images, features, gt_instances)
        return proposals, losses

    def forward_with_parents(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], list[Instances], dict[str, torch.Tensor]]:
        """Part proposals, parent proposals and losses.

        Args:
            images: N images.
            features: feature maps by name, (N, C, Hi, Wi) each.
            gt_instances: in training, N Instances with ``gt_boxes`` and ``gt_parent_boxes``,
                aligned. A row of ``gt_parent_boxes`` without area means that the part has no known
                parent.

        Returns:
            ``(proposals, parents, losses)``. The proposals are N Instances with ``proposal_boxes``
            and ``objectness_logits``, best first. The parents are the same of the parent RPN: all
            that it proposes, whether or not they keep anchors. The losses are in training
            ``loss_rpn_cls``, ``loss_rpn_loc``, ``loss_rpn_parent_cls`` and
            ``loss_rpn_parent_loc``, all four always present, and those of ``parent_roi_heads``
            (``loss_parent_cls``, ``loss_parent_box_reg``); otherwise empty.

        Raises:
            InputError: in training, if the ground truth lacks ``gt_parent_boxes``.
            FloatingPointError: in training, if a logit or a box is not finite. In inference those
            are left out.
        """
        gt_parents = self._parent_ground_truth(gt_instances) if self.training else []

        parent_outputs = _predict(self.parent_rpn, features)
        parents = self.parent_rpn.predict_proposals(*parent_outputs, images.image_sizes)
        anchors, logits, deltas = _predict(self, features)
        kept = self._keep_anchors(anchors, parents)

        losses = {}
        if self.training:
            labels, matched = self._label_and_sample_kept(anchors, kept, gt_instances)
            losses = self.losses(anchors, logits, labels, deltas, matched)
            losses.update(self._parent_losses(parent_outputs, gt_parents))
            if self.parent_roi_heads is not None:
                heads, weight = self.parent_roi_heads, self.parent_roi_loss_weight
                losses.update(
                    parent_roi_losses(heads, images, features, parents, gt_parents, weight)
                )
        proposals = self._predict_kept(anchors, logits, deltas, kept, images.image_sizes)
        return proposals, parents, losses

    def __prepare_scriptable__(self):
        """Say so when scripting begins: torch would name a line of this file."""
        raise ConfigError(
            "HierarchicalRPN cannot be scripted, since each image keeps its own anchors; trace the "
            "model (detectron2.export.TracingAdapter), or set MODEL.PROPOSAL_GENERATOR.NAME RPN"
        )

    @torch.no_grad()
    def _keep_anchors(
        self, anchors: list[Boxes], parents: list[Instances]
    ) -> list[list[torch.Tensor]] | None:
        """The one place that turns parent proposals into kept anchors (see the module's head).

        Args:
            anchors: per level, Hi * Wi * A boxes.
            parents: N Instances.
        """
        if self.threshold < 0:
            return None
        if torch.jit.is_tracing():
            # Counts of anchors would be those of the traced picture for ever, so none is asked for.
            settings = (self.metric, self.threshold)
            parent_boxes = [self._filtering_parents(p) for p in parents]
            return [
                [filter_anchors(level, boxes, *settings).nonzero()[:, 0] for level in anchors]
                for boxes in parent_boxes
            ]
        level_sizes = [len(level) for level in anchors]
        together = Boxes.cat(anchors)
        masks = torch.stack(
            [
                filter_anchors(together, self._filtering_parents(p), self.metric, self.threshold)
                for p in parents
            ]
        )
        # The host needs the counts; asking for all of them at once makes it wait for the device
        # twice a batch, not twice a level and image.
        counts = [level.sum(dim=1) for level in masks.split(level_sizes, dim=1)]
        counts = torch.stack(counts, dim=1).tolist()
        flat = masks.nonzero()[:, 1]
        kept, start = [], 0
        for image_counts in counts:
            levels, offset = [], 0
            for count, level_size in zip(image_counts, level_sizes):
                levels.append(flat[start : start + count] - offset)
                start += count
                offset += level_size
            kept.append(levels)
        if self.training:
            share = sum(map(sum, counts)) / max(masks.numel(), 1)
            get_event_storage().put_scalar("hrpn/kept_anchors", share)
        return kept

    def _filtering_parents(self, parents: Instances) -> Boxes:
        """The parent proposals of an image that keep anchors: (P, 4)."""
        boxes = parents.proposal_boxes
        if self.parent_objectness_thresh > 0:
            probabilities = parents.objectness_logits.float().sigmoid()
            boxes = boxes[probabilities >= self.parent_objectness_thresh]
        topk = self.parent_topk[self.training]
        return boxes if topk < 0 else boxes[:topk]  # sorted, best first

    def _label_and_sample_kept(
        self,
        anchors: list[Boxes],
        kept: list[list[torch.Tensor]] | None,
        gt_instances: list[Instances] | None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """As :meth:`label_and_sample_anchors`, the dropped anchors labelled -1 (ignored)."""
        if kept is None:
            return self.label_and_sample_anchors(anchors, gt_instances)
        labels, matched = [], []
        for levels, gt in zip(kept, gt_instances or []):
            subset = [level[index] for level, index in zip(anchors, levels)]
            (kept_labels,), (kept_matched,) = self.label_and_sample_anchors(subset, [gt])
            index = _index_over_levels(levels, anchors)
            num_anchors = sum(map(len, anchors))
            labels.append(kept_labels.new_full((num_anchors,), -1).scatter_(0, index, kept_labels))
            matched.append(
                kept_matched.new_zeros(num_anchors, 4).index_copy_(0, index, kept_matched)
            )
        return labels, matched

    def _predict_kept(
        self,
        anchors: list[Boxes],
        logits: list[torch.Tensor],
        deltas: list[torch.Tensor],
        kept: list[list[torch.Tensor]] | None,
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Instances]:
        """Proposals from the kept anchors alone.

        Dropped anchors are left out rather than given a logit of -inf, which Detectron2 takes for
        divergence in training, and which would fill the top k wherever fewer than k anchors are
        kept. Each image keeps its own, so this goes by image; levels stay apart, as top k and NMS
        are per level.
        """
        if kept is None:
            return self.predict_proposals(anchors, logits, deltas, image_sizes)
        proposals = []
        for i, (levels, image_size) in enumerate(zip(kept, image_sizes)):
            proposals += self.predict_proposals(
                [level[index] for level, index in zip(anchors, levels)],
                [level[i : i + 1, index] for level, index in zip(logits, levels)],
                [level[i : i + 1, index] for level, index in zip(deltas, levels)],
                [image_size],
            )
        return proposals

    def _parent_losses(
        self, parent_outputs, gt_parents: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """The parent RPN's losses under names of their own, its scalars under ``rpn_parent/``."""
        anchors, logits, deltas = parent_outputs
        labels, matched = self.parent_rpn.label_and_sample_anchors(anchors, gt_parents)
        with get_event_storage().name_scope("rpn_parent"):
            losses = self.parent_rpn.losses(anchors, logits, labels, deltas, matched)
        return {name.replace("loss_rpn_", "loss_rpn_parent_"): v for name, v in losses.items()}

    @staticmethod
    def _parent_ground_truth(gt_instances: list[Instances] | None) -> list[Instances]:
        """N Instances whose ``gt_boxes`` are the parents, each once however many parts it has."""
        if gt_instances is None:
            raise InputError(
                'HierarchicalRPN got no ground truth in training; give every input its "instances"'
            )
        result = []
        for gt in gt_instances:
            if not gt.has("gt_parent_boxes"):
                raise InputError(
                    "HierarchicalRPN got ground truth without gt_parent_boxes in training: the "
                    "annotations have no parent_bbox (Detectron2's load_coco_json drops it without "
                    "extra_annotation_keys=['parent_bbox']; msnet_d2's register_isbda_instances "
                    "reads it), or the mapper is not msnet_d2.data.ISBDADatasetMapper"
                )
            boxes = gt.gt_parent_boxes
            boxes = Boxes(torch.unique(boxes.tensor[boxes.nonempty()], dim=0))
            result.append(Instances(gt.image_size, gt_boxes=boxes))
        return result


def parent_head_sources(state_dict: Mapping[str, object], prefix: str) -> dict[str, str]:
    """What to set the parent RPN's head from if a checkpoint has but one RPN head.

    Args:
        state_dict: tensors by name.
        prefix: the name of the :class:`HierarchicalRPN` in it, with a dot at its end.

    Returns:
        Names of the parent head's tensors -> names of the part head's in ``state_dict``. Empty if
        it has a parent head, or none at all.
    """
    head, parent = f"{prefix}rpn_head.", f"{prefix}parent_rpn."
    if any(name.startswith(parent) for name in state_dict):
        return {}
    return {f"{parent}{name[len(prefix) :]}": name for name in state_dict if name.startswith(head)}


def _predict(rpn: RPN, features: dict[str, torch.Tensor]):
    """Anchors, logits and deltas of ``rpn``: lists of L, in the order of the anchors."""
    levels = [features[name] for name in rpn.in_features]
    anchors = rpn.anchor_generator(levels)
    logits, deltas = rpn.rpn_head(levels)
    box_dim = rpn.anchor_generator.box_dim
    return (
        anchors,
        [_by_anchor(level, 1).squeeze(2) for level in logits],
        [_by_anchor(level, box_dim) for level in deltas],
    )


def _by_anchor(level: torch.Tensor, channels: int) -> torch.Tensor:
    """(N, A * channels, Hi, Wi) -> (N, Hi * Wi * A, channels)."""
    return level.unflatten(1, (-1, channels)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def _index_over_levels(levels: list[torch.Tensor], anchors: list[Boxes]) -> torch.Tensor:
    """Indices counted from the start of each level -> indices over all levels together."""
    index, offset = [], 0
    for level, level_anchors in zip(levels, anchors):
        index.append(level + offset)
        offset += len(level_anchors)
    return torch.cat(index)


def _parent_config(cfg: CfgNode) -> CfgNode:
    """``cfg`` in which MODEL.RPN and MODEL.ANCHOR_GENERATOR describe the parent RPN."""
    part_features = cfg.MODEL.RPN.IN_FEATURES
    features = list(cfg.MODEL.HRPN.PARENT_IN_FEATURES) or list(part_features)
    unknown = [name for name in features if name not in part_features]
    if unknown:
        raise ConfigError(
            f"MODEL.HRPN.PARENT_IN_FEATURES has {', '.join(unknown)}, not among "
            f"MODEL.RPN.IN_FEATURES ({', '.join(part_features)}), whose anchors it shares"
        )
    cfg = copy.deepcopy(cfg)
    cfg.defrost()
    for key in ("SIZES", "ASPECT_RATIOS"):
        values = cfg.MODEL.ANCHOR_GENERATOR[key]
        # One entry serves all levels; otherwise each level has its own.
        if len(values) > 1 and len(values) == len(part_features):
            cfg.MODEL.ANCHOR_GENERATOR[key] = [values[part_features.index(f)] for f in features]
    cfg.MODEL.RPN.IN_FEATURES = features
    cfg.MODEL.RPN.LOSS_WEIGHT = cfg.MODEL.HRPN.PARENT_LOSS_WEIGHT
    cfg.freeze()
    return cfg
