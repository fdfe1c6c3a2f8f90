"""Which of several detections show the same object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msnet_d2.structures.mask_crop import MaskCrop

__all__ = ["distinct_objects"]


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
