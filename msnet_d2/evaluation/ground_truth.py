"""What predictions are compared with, built in memory from a registered data set."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from msnet_d2.errors import DatasetError
from msnet_d2.structures.rle import segmentation_to_rle

__all__ = ["GroundTruth", "build_ground_truth", "load_ground_truth"]


@dataclass
class GroundTruth:
    """Boxes and masks of one data set.

    The lists hold dicts with ``image_id``, ``category_id`` (contiguous), ``bbox`` (XYWH, pixels),
    ``area`` (pixels) and ``iscrowd``. Those of ``parts`` have ``segmentation`` too, as the data set
    gives it.

    Attributes:
        name: of the data set.
        image_sizes: image id -> (height, width).
        category_ids: the data set's own id of each contiguous one.
        class_names: name of each contiguous id.
        parts: the damaged parts. ``area`` is the mask's, as in COCO's files; it decides which is
            small and large.
        parents: the buildings, each once, all of category 0; ``area`` is the box's.
        part_parents: for each part the box of its building under the part's category; ``area`` is
            the box's.
        annotated: whether the data set has annotations at all (a test set may not).
        ids_of_files: image id by file name without folder, and by its stem; None where several
            images have it.
    """

    name: str
    image_sizes: dict[int | str, tuple[int, int]]
    category_ids: list[int]
    class_names: list[str]
    parts: list[dict] = field(default_factory=list)
    parents: list[dict] = field(default_factory=list)
    part_parents: list[dict] = field(default_factory=list)
    annotated: bool = False
    ids_of_files: dict[str, int | str | None] = field(default_factory=dict)

    @property
    def has_masks(self) -> bool:
        """Whether parts have segmentations."""
        return any(part["segmentation"] for part in self.parts)

    def part_masks(self) -> list[dict]:
        """:attr:`parts` with ``segmentation`` as compressed RLE.

        Raises:
            DatasetError: naming the first part without a segmentation, or with a broken one.
        """
        masks = []
        for part in self.parts:
            height, width = self.image_sizes[part["image_id"]]
            try:
                rle = segmentation_to_rle(part["segmentation"], height, width)
            except (ValueError, TypeError) as error:
                raise DatasetError(
                    f"{self.name}: annotation {part['id']} of image {part['image_id']} has no "
                    f"usable segmentation ({error}); mend it, or evaluate boxes alone "
                    "(tasks 'bbox', 'isbda_bbox')"
                ) from error
            masks.append({**part, "segmentation": rle})
        return masks


def load_ground_truth(dataset_name: str) -> GroundTruth:
    """Ground truth of a registered data set; see :func:`build_ground_truth`."""
    return build_ground_truth(
        DatasetCatalog.get(dataset_name), MetadataCatalog.get(dataset_name), name=dataset_name
    )


def build_ground_truth(
    dataset_dicts: Iterable[dict], metadata: Metadata, *, name: str = ""
) -> GroundTruth:
    """Ground truth of Detectron2's standard dataset dicts.

    A part belongs to the building named by ``parent_id``, or by its ``parent_bbox`` where there is
    no id. Buildings of different images are different.

    Args:
        dataset_dicts: with ``image_id``, ``height``, ``width`` and, unless nothing is annotated,
            ``annotations``.
        metadata: with ``thing_classes`` and, unless the ids are contiguous,
            ``thing_dataset_id_to_contiguous_id``.
        name: of the data set, for messages.

    Raises:
        DatasetError: if two images share an id.
    """
    class_names = list(metadata.get("thing_classes") or ())
    to_contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {
        index: index for index in range(len(class_names))
    }
    to_dataset = {contiguous: own for own, contiguous in to_contiguous.items()}
    for index in range(len(class_names)):
        # A class that the file does not have, but the model may predict all the same.
        unused = index + 1 if index + 1 not in to_contiguous else max(to_dataset.values()) + 1
        to_dataset.setdefault(index, unused)
    truth = GroundTruth(
        name=name,
        image_sizes={},
        category_ids=[to_dataset[index] for index in range(len(to_dataset))],
        class_names=class_names,
    )
    for record in dataset_dicts:
        image_id = record["image_id"]
        if image_id in truth.image_sizes:
            raise DatasetError(f"{name}: two images have the id {image_id!r}; each needs its own")
        truth.image_sizes[image_id] = (int(record["height"]), int(record["width"]))
        name_of_file = os.path.basename(record.get("file_name") or "")
        for key in {name_of_file, os.path.splitext(name_of_file)[0]}:
            truth.ids_of_files[key] = None if key in truth.ids_of_files else image_id
        if "annotations" in record:
            truth.annotated = True
            _add_image(truth, record)
    return truth


def _add_image(truth: GroundTruth, record: dict) -> None:
    image_id = record["image_id"]
    seen = set()
    for index, annotation in enumerate(record["annotations"]):
        mode = annotation["bbox_mode"]
        part = {
            "id": annotation.get("id", f"number {index}"),
            "image_id": image_id,
            "category_id": annotation["category_id"],
            "bbox": _xywh(annotation["bbox"], mode),
            "iscrowd": int(annotation.get("iscrowd", 0)),
            "segmentation": annotation.get("segmentation"),
        }
        part["area"] = _area(annotation, part, truth.image_sizes[image_id])
        truth.parts.append(part)

        if annotation.get("parent_bbox") is None:
            continue
        box = _xywh(annotation["parent_bbox"], mode)
        parent = {"image_id": image_id, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        truth.part_parents.append(
            {**parent, "category_id": part["category_id"], "iscrowd": part["iscrowd"]}
        )
        identity = annotation.get("parent_id")
        identity = tuple(box) if identity is None else identity
        if identity not in seen:
            seen.add(identity)
            truth.parents.append({**parent, "category_id": 0})


def _xywh(box, mode: BoxMode) -> list[float]:
    return [float(value) for value in BoxMode.convert(list(box), mode, BoxMode.XYWH_ABS)]


def _area(annotation: dict, part: dict, size: tuple[int, int]) -> float:
    """Area by the data set; Detectron2's COCO loader drops it: then the mask's or the box's."""
    if annotation.get("area") is not None:
        return float(annotation["area"])
    if part["segmentation"]:
        try:
            return float(mask_util.area(segmentation_to_rle(part["segmentation"], *size)))
        except (ValueError, TypeError):
            pass  # part_masks reports it, if masks are asked for
    return part["bbox"][2] * part["bbox"][3]
