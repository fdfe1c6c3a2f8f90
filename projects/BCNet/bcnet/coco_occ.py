"""COCO-OCC: the images of a COCO data set in which objects overlap."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path

from msnet_d2.errors import DatasetError
from msnet_d2.utils.file_io import read_json_file

__all__ = ["box_iou", "crowded_images", "make_split"]


def box_iou(first: list[float], second: list[float]) -> float:
    """IoU of two boxes XYWH; 0 if either is empty."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (first[2] * first[3] + second[2] * second[3] - both)


def crowded_images(annotations: list[dict], min_overlap: float) -> set:
    """Ids of images in which the boxes of two objects have an IoU of at least ``min_overlap``.

    Crowds (``iscrowd``) are no objects.
    """
    boxes: dict = defaultdict(list)
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            boxes[annotation["image_id"]].append(annotation["bbox"])
    return {
        image
        for image, of_image in boxes.items()
        if any(box_iou(a, b) >= min_overlap for a, b in combinations(of_image, 2))
    }


def make_split(json_file: str | Path, min_overlap: float = 0.2) -> dict:
    """The document of a COCO data set, reduced to the images of :func:`crowded_images`.

    Args:
        json_file: COCO's JSON.
        min_overlap: least IoU of two boxes.

    Returns:
        Its ``images`` and ``annotations`` of these images, all else as it was.

    Raises:
        DatasetError: if the file is no COCO data set, or an annotation has no box.
    """
    document = read_json_file(json_file)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        raise DatasetError(f"{json_file} is no COCO data set: expected lists images, annotations")
    try:
        chosen = crowded_images(document["annotations"], min_overlap)
        return {
            **document,
            "images": [i for i in document["images"] if i["id"] in chosen],
            "annotations": [a for a in document["annotations"] if a["image_id"] in chosen],
        }
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{json_file} has an image or annotation without id, image_id or a bbox of four "
            f"numbers ({type(error).__name__}: {error}); `msnet check` lists them"
        ) from error
