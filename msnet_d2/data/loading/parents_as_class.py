"""Parents (buildings) as objects of a class of their own, for detectors without a parent RPN."""

from __future__ import annotations

from detectron2.structures import BoxMode

__all__ = ["add_parents_as_class"]


def add_parents_as_class(dataset_dict: dict, parent_class: int) -> dict:
    """Copy of a dataset dict in which each parent is an annotation too.

    A parent has no mask. Yet Detectron2 wants a segmentation of every annotation or of none, and
    drops instances whose mask is empty; so where the parts have one, a parent gets the outline of
    its box, which goes through all augmentations as the box does.
    :class:`msnet_d2.modeling.MaskedClassROIHeads` never looks at it.

    Args:
        dataset_dict: an image with ``annotations``, which may be none. Of these, ``parent_bbox``
            (in ``bbox_mode``) and, if there, ``parent_id`` say which parents there are. Parts of
            one parent share it by its id, or else by its box. Crowds are left out, as Detectron2
            leaves them out of training.
        parent_class: ``category_id`` of the parents.

    Returns:
        A dict that shares all but the list of annotations with the one given. The parents follow
        the parts, in the order of their first parts.
    """
    annotations = dataset_dict.get("annotations") or ()
    parents: dict = {}
    for annotation in annotations:
        box = annotation.get("parent_bbox")
        if box is None or annotation.get("iscrowd", 0):
            continue
        identity = annotation.get("parent_id")
        parents.setdefault(tuple(box) if identity is None else identity, annotation)
    if not parents:
        return dataset_dict
    with_masks = any(annotation.get("segmentation") for annotation in annotations)
    added = [_as_object(first, parent_class, with_masks) for first in parents.values()]
    return {**dataset_dict, "annotations": [*annotations, *added]}


def _as_object(part: dict, parent_class: int, with_mask: bool) -> dict:
    """The annotation of the parent of ``part``; it is its own parent."""
    box = [float(value) for value in part["parent_bbox"]]
    x0, y0, x1, y1 = BoxMode.convert(box, part["bbox_mode"], BoxMode.XYXY_ABS)
    annotation = {
        "bbox": box,
        "bbox_mode": part["bbox_mode"],
        "category_id": parent_class,
        "iscrowd": 0,
        "area": (x1 - x0) * (y1 - y0),
        "parent_bbox": list(box),
    }
    if part.get("parent_id") is not None:
        annotation["parent_id"] = part["parent_id"]
    if with_mask:
        annotation["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    return annotation
