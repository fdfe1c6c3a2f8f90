"""Which of several detections show the same object, and what that makes of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from msnet_d2.structures.mask_crop import MaskCrop, MaskCropper, as_numpy

if TYPE_CHECKING:
    from detectron2.structures import Instances
    from torch import Tensor

__all__ = ["distinct_objects", "mask_soft_nms"]


def distinct_objects(
    boxes: np.ndarray,
    classes: np.ndarray | None = None,
    masks: Sequence[MaskCrop | None] | None = None,
    max_overlap: float = 0.7,
) -> list[int]:
    """Objects that are no duplicates of better ones: NMS by the share of the smaller that is
    common, which unlike IoU is high for an object nested in another.

    Args:
        boxes: (N, 4) XYXY, the best first.
        classes: (N,); only objects of one class are duplicates. None: all are of one.
        masks: N masks; None, or an entry None: the box stands for it.
        max_overlap: the largest share of the smaller one of two objects that both may cover; 1:
            nothing is a duplicate.

    Returns:
        Indices, ascending. N = 0 gives an empty list.
    """
    if max_overlap >= 1:
        return list(range(len(boxes)))
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    masks = [None] * len(boxes) if masks is None else masks
    pixels = [0 if m is None else np.count_nonzero(m.mask) for m in masks]
    classes = None if classes is None else np.asarray(classes)
    kept: list[int] = []
    for i, (box, mask) in enumerate(zip(boxes, masks)):
        # All at once: pair by pair, a frame of hundreds would take longer here than in drawing.
        others = boxes[kept]
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        near = (sides > 0).all(axis=1)
        if classes is not None:
            near &= classes[kept] == classes[i]
        for k in near.nonzero()[0].tolist():
            j = kept[k]
            if mask is None or masks[j] is None:
                common, smaller = sides[k, 0] * sides[k, 1], min(area[i], area[j])
            else:
                common, smaller = mask.overlap(masks[j]), min(pixels[i], pixels[j])
            if common > max_overlap * smaller:
                break
        else:
            kept.append(i)
    return kept


def mask_soft_nms(instances: Instances, iou_thresh: float) -> Tensor:
    """Scores lowered where a better detection covers the same pixels (soft NMS by masks).

    A score s_i becomes s_i · √(1 − max s_j) over all detections j, of any class, that have a higher
    score and a mask IoU with i above ``iou_thresh``. Box NMS works class by class and lets pass
    what has another box or another class; a part has one outline and one level of damage.

    Args:
        instances: N detections with ``pred_boxes`` and ``scores`` in [0, 1], in the resolution of
            the output. Their ``pred_masks`` may have any form that
            :class:`.mask_crop.MaskCropper` takes; without them a box stands for its mask.
        iou_thresh: in [0, 1]; 1: no score changes.

    Returns:
        (N,) in the order of the detections, which are not changed.
    """
    scores = instances.scores
    if iou_thresh >= 1 or len(instances) < 2:
        return scores
    values = as_numpy(scores.float())
    best = np.zeros_like(values)
    for i, j in _overlapping_pairs(instances, iou_thresh):
        low, high = (i, j) if values[i] < values[j] else (j, i)
        if values[low] < values[high]:
            best[low] = max(best[low], values[high])
    factor = np.sqrt(np.clip(1 - best, 0, 1))
    return scores * scores.new_tensor(factor)


def _overlapping_pairs(instances: Instances, iou_thresh: float) -> list[tuple[int, int]]:
    """Pairs i < j whose mask IoU, or box IoU without masks, is above ``iou_thresh``."""
    boxes = as_numpy(instances.pred_boxes).astype(np.float64)
    masks = instances.pred_masks if instances.has("pred_masks") else None
    # Detectron2 pastes a mask into its box rounded outwards by a pixel.
    cropper = MaskCropper(masks, len(boxes), instances.image_size, margin=1)
    crops = [cropper.crop(i, box) for i, box in enumerate(boxes)]
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    if masks is not None:
        area = np.array([0 if crop is None else np.count_nonzero(crop.mask) for crop in crops])
    pairs = []
    for i in range(len(boxes) - 1):
        low = np.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        sides = np.minimum(boxes[i, 2:], boxes[i + 1 :, 2:]) - low
        if masks is not None:
            sides += 4  # a margin of a pixel and its rounding, on both ends
        common = np.prod(np.maximum(sides, 0), axis=1)
        # The union is at least the larger one: most pairs need no look at their pixels.
        near = common > iou_thresh * np.maximum(area[i], area[i + 1 :])
        for j in (near.nonzero()[0] + i + 1).tolist():
            both = common[j - i - 1]
            if masks is not None:
                one, other = crops[i], crops[j]
                both = 0 if one is None or other is None else one.overlap(other)
            if both > iou_thresh * (area[i] + area[j] - both):
                pairs.append((i, j))
    return pairs
