"""Mappers of the other kinds of data sets: what the model takes, through every augmentation."""

from __future__ import annotations

import copy

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, Instances
from pycocotools import mask as mask_util

from msnet_d2.data.kinds.label_images import read_labels, read_segment_ids
from msnet_d2.data.loading.dataset_mapper import ISBDADatasetMapper
from msnet_d2.errors import ConfigError, DatasetError

__all__ = ["AmodalDatasetMapper", "PanopticDatasetMapper", "SemanticDatasetMapper"]

IGNORED = 255


class SemanticDatasetMapper(ISBDADatasetMapper):
    """Images with ``sem_seg``, (H, W) int64: the class of each pixel, 255 where it is ignored.

    The label table is looked up behind the augmentations: nearest resampling and a table commute,
    so that one label picture serves every table.
    """

    def __call__(self, dataset_dict: dict) -> dict:
        """Read, augment and convert one image.

        Raises:
            DatasetError: if the image or its labels cannot be used, with their path.
        """
        if self.is_train:
            _check_size(read_labels(dataset_dict["sem_seg_file_name"]), dataset_dict)
        mapped = super().__call__(dataset_dict)
        lut = mapped.pop("label_lut", None)
        if "sem_seg" in mapped and lut is not None:
            mapped["sem_seg"] = torch.from_numpy(lut)[mapped["sem_seg"]].long()
        return mapped


class PanopticDatasetMapper(ISBDADatasetMapper):
    """Images with ``instances`` of things and ``sem_seg`` of stuff, both of the segments' picture.

    ``instances`` has ``gt_masks`` and, where segments name a parent, ``gt_parent_boxes``;
    ``sem_seg`` (H, W) int64 has 0 for things, stuff from 1, and 255 for void, as Detectron2's
    ``PanopticFPN`` takes them.
    """

    def __call__(self, dataset_dict: dict) -> dict:
        """Read, augment and convert one image.

        Raises:
            DatasetError: if the image or its segments cannot be used, with their path.
        """
        if not self.is_train:
            return super().__call__(dataset_dict)
        ids = read_segment_ids(dataset_dict["pan_seg_file_name"])
        _check_size(ids, dataset_dict)
        dataset_dict = copy.copy(dataset_dict)
        dataset_dict["annotations"] = _thing_annotations(ids, dataset_dict["segments_info"])
        dataset_dict["stuff_labels"] = _stuff_labels(ids, dataset_dict["segments_info"])
        return super().__call__(dataset_dict)

    def _transform_annotations(self, dataset_dict: dict, transforms, image_shape) -> None:
        labels = transforms.apply_segmentation(dataset_dict.pop("stuff_labels"))
        dataset_dict["sem_seg"] = torch.as_tensor(labels.astype("long"))
        super()._transform_annotations(dataset_dict, transforms, image_shape)


def _thing_annotations(ids: np.ndarray, segments: list[dict]) -> list[dict]:
    boxes, annotations = {}, []
    for segment in segments:
        mask = ids == segment["id"]
        if not segment["isthing"] or not mask.any():
            continue
        rle = mask_util.encode(np.asfortranarray(mask))
        boxes[segment["id"]] = mask_util.toBbox(rle)
        annotations.append(
            {
                "bbox": boxes[segment["id"]].tolist(),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": segment["category_id"],
                "iscrowd": segment["iscrowd"],
                "segmentation": rle,
                "segment": segment,
            }
        )
    for annotation in annotations:
        segment = annotation.pop("segment")
        parent = boxes.get(segment.get("parent_id"))
        if parent is not None:
            # A part cuts a hole into its parent, which may reach to the parent's edge.
            both = np.stack([parent, boxes[segment["id"]]])
            low, high = both[:, :2].min(0), (both[:, :2] + both[:, 2:]).max(0)
            annotation["parent_bbox"] = [*low.tolist(), *(high - low).tolist()]
    return annotations


def _stuff_labels(ids: np.ndarray, segments: list[dict]) -> np.ndarray:
    numbers, inverse = np.unique(ids, return_inverse=True)
    by_id = {s["id"]: 0 if s["isthing"] else s["category_id"] for s in segments}
    classes = np.array([by_id.get(n, IGNORED) for n in numbers.tolist()], np.uint8)
    return classes[inverse].reshape(ids.shape)


class AmodalDatasetMapper(ISBDADatasetMapper):
    """Images whose ``instances`` also have what is hidden of them.

    ``gt_amodal_masks`` (all of it), ``gt_visible_masks`` (equal to ``gt_masks``) and
    ``gt_occluder_masks`` (what of the whole other things hide) are BitMasks (N, H, W), carried
    through every geometric augmentation as the masks are. ROI heads copy them to their proposals,
    as they do with every field that begins with ``gt_``.
    """

    def _transform_annotations(self, dataset_dict: dict, transforms, image_shape) -> None:
        if not self.use_instance_mask or self.instance_mask_format != "bitmask":
            raise ConfigError(
                f"{type(self).__name__} needs MODEL.MASK_ON True and INPUT.MASK_FORMAT 'bitmask'"
            )
        super()._transform_annotations(dataset_dict, transforms, image_shape)

    def _add_fields(
        self, instances: Instances, annotations: list[dict], transforms: T.TransformList
    ) -> None:
        instances.gt_visible_masks = instances.gt_masks
        for key in ("amodal", "occluder"):
            masks = [
                transforms.apply_segmentation(mask_util.decode(a[f"{key}_segmentation"]))
                for a in annotations
            ]
            stacked = np.stack(masks) if masks else np.zeros((0, *instances.image_size))
            instances.set(f"gt_{key}_masks", BitMasks(torch.from_numpy(stacked.astype(bool))))

    def _no_instances(self, image_shape: tuple[int, int]) -> Instances:
        instances = super()._no_instances(image_shape)
        for key in ("amodal", "visible", "occluder"):
            empty = BitMasks(torch.zeros((0, *image_shape), dtype=torch.bool))
            instances.set(f"gt_{key}_masks", empty)
        return instances


def _check_size(pixels: np.ndarray, dataset_dict: dict) -> None:
    wanted = dataset_dict.get("height"), dataset_dict.get("width")
    if pixels.shape != wanted:
        name = dataset_dict.get("sem_seg_file_name") or dataset_dict["pan_seg_file_name"]
        raise DatasetError(
            f"{name} is {pixels.shape[1]}x{pixels.shape[0]}, but its image is "
            f"{wanted[1]}x{wanted[0]}; `msnet check` finds all such files"
        )
