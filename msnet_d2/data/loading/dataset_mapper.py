"""From dataset dicts to what the model takes: Detectron2's mapper, with the parents' boxes."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from msnet_d2.data.loading.parents_as_class import add_parents_as_class
from msnet_d2.data.loading.resizing import with_quick_resizing
from msnet_d2.data.loading.scaled_images import scaled_path
from msnet_d2.errors import ConfigError, DatasetError, DependencyError, MSNetError
from msnet_d2.utils.image_io import DEFAULT_LIMITS, Limits, keep_stored_colors, open_image
from msnet_d2.utils.image_layout import checked_depth, layout_of, too_deep

__all__ = ["ISBDADatasetMapper"]


class ISBDADatasetMapper(DatasetMapper):
    """Detectron2's mapper that also carries the parents' (buildings') boxes through augmentations.

    In training, ``instances`` has ``gt_parent_boxes``: Boxes (N, 4), row i being the parent of row
    i of ``gt_boxes``, transformed by the same augmentations and clipped to the image. Equal boxes
    stay equal, so that the unique rows are the image's parents. Data without ``parent_bbox`` have
    no such field, images without annotations have it with N = 0. All other keys of a dataset dict,
    those of videos included, pass through.

    Built by ``ISBDADatasetMapper(cfg, is_train)`` or from arguments.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        parent_class: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        depth: str = "refuse",
        **arguments,
    ):
        """Make a mapper.

        Args:
            is_train: whether instances are wanted.
            parent_class: class that the parents become objects of, see
                :func:`.parents_as_class.add_parents_as_class`; None: they do not.
            limits: larger images are refused before they are decoded.
            depth: what becomes of images of more than 8 bits, see
                :func:`~msnet_d2.utils.image_layout.scale_to_8_bits`.
            arguments: those of Detectron2's ``DatasetMapper``.
        """
        super().__init__(is_train, **arguments)
        self.limits = limits
        self.depth = depth
        self.parent_class = parent_class

    @classmethod
    def from_config(cls, cfg, is_train: bool = True):
        """Arguments from a config: Detectron2's own, ``INPUT.COLOR_JITTER``, the parents' class."""
        arguments = super().from_config(cfg, is_train)
        if cfg.MODEL.ROI_HEADS.PARENT_CLASS >= 0:
            arguments["parent_class"] = cfg.MODEL.ROI_HEADS.PARENT_CLASS
        arguments["depth"] = checked_depth(cfg)
        arguments["limits"] = Limits(cfg.INPUT.MAX_PIXELS, cfg.INPUT.MAX_BYTES)
        jitter = cfg.INPUT.COLOR_JITTER
        if not 0 <= jitter < 1:
            raise ConfigError(f"INPUT.COLOR_JITTER is {jitter}; it must be at least 0 and below 1")
        if is_train and jitter > 0:
            low, high = 1 - jitter, 1 + jitter
            arguments["augmentations"] += [
                T.RandomBrightness(low, high),
                T.RandomContrast(low, high),
                T.RandomSaturation(low, high),
            ]
        arguments["augmentations"] = with_quick_resizing(arguments["augmentations"])
        return arguments

    def __call__(self, dataset_dict: dict) -> dict:
        """Read, augment and convert one image.

        Raises:
            DatasetError: if the image cannot be used, with its path.
        """
        path = dataset_dict["file_name"]
        try:
            if not self._reads_as_it_is(path):
                scaled = {**dataset_dict, "file_name": scaled_path(path, self.depth)}
                return {**super().__call__(scaled), "file_name": path}
            return super().__call__(dataset_dict)
        # SyntaxError is what Pillow raises for damaged PNG files.
        except (OSError, SyntaxError, SizeMismatchError, MemoryError) as error:
            if isinstance(error, MSNetError):
                raise
            raise DatasetError(
                f"the image {path} cannot be used: {error}; `msnet check` finds all such images"
            ) from error

    def _reads_as_it_is(self, path: str) -> bool:
        """Whether Detectron2 reads a picture as it is meant; otherwise it is scaled first.

        The header is read, and of a PNG the check sums too: Detectron2 swallows the error on
        decoding and goes on with half a picture.
        """
        try:
            with open_image(path, self.limits) as image:
                layout = layout_of(image)
                if layout.problem:
                    raise ValueError(layout.problem)
                if layout.is_deep and self.depth == "refuse":
                    raise ValueError(too_deep(layout))
                divided = keep_stored_colors(image)
                image.verify()
        except ValueError as error:
            raise DatasetError(
                f"the image {path} cannot be used: {error}; `msnet check` finds all such images"
            ) from error
        return not (layout.is_deep or divided)

    def _transform_annotations(self, dataset_dict: dict, transforms, image_shape) -> None:
        if self.parent_class is not None:
            dataset_dict.update(add_parents_as_class(dataset_dict, self.parent_class))
        annotations = dataset_dict["annotations"]
        if all(annotation.get("iscrowd", 0) for annotation in annotations):
            # Detectron2 would make Instances without masks, which fit into no batch and which
            # cropping cannot handle.
            del dataset_dict["annotations"]
            dataset_dict["instances"] = self._no_instances(image_shape)
            return
        classes = [annotation["category_id"] for annotation in annotations]
        parents = _parent_boxes(annotations)
        # Detectron2 drops crowds, and instances that the augmentations left empty. Running numbers
        # in place of the classes tell which ones it kept.
        for number, annotation in enumerate(annotations):
            annotation["category_id"] = number
        try:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        except ValueError as error:
            if self.instance_mask_format == "polygon" and _has_rle(annotations):
                raise ConfigError(
                    f"{dataset_dict['file_name']} has run-length masks: set INPUT.MASK_FORMAT to "
                    "'bitmask'"
                ) from error
            raise
        except ModuleNotFoundError as error:
            raise DependencyError(
                f"cropping polygons needs the package {error.name}, which is not installed: "
                f"pip install {error.name}, or set INPUT.MASK_FORMAT to 'bitmask'"
            ) from error
        instances = dataset_dict["instances"]
        kept = instances.gt_classes
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)[kept]
        self._add_fields(instances, [annotations[n] for n in kept.tolist()], transforms)
        if parents is None:
            return
        boxes = Boxes(transforms.apply_box(parents)[kept.numpy()])
        boxes.clip(image_shape)
        # A parent outside of a crop that its part is in (a mistake in the labels) would have an
        # infinite loss. All that is certain then is that the part belongs to it.
        outside = ~boxes.nonempty()
        boxes.tensor[outside] = instances.gt_boxes.tensor[outside]
        instances.gt_parent_boxes = boxes

    def _add_fields(self, instances: Instances, annotations: list[dict], transforms) -> None:
        """Add fields of a subclass; ``annotations`` are those of the instances, in their order."""

    def _no_instances(self, image_shape: tuple[int, int]) -> Instances:
        instances = Instances(image_shape)
        instances.gt_boxes = Boxes(torch.zeros(0, 4))
        instances.gt_classes = torch.zeros(0, dtype=torch.int64)
        if self.use_instance_mask:
            no_masks = torch.zeros((0, *image_shape), dtype=torch.bool)
            polygon = self.instance_mask_format == "polygon"
            instances.gt_masks = PolygonMasks([]) if polygon else BitMasks(no_masks)
        instances.gt_parent_boxes = Boxes(torch.zeros(0, 4))
        return instances


def _parent_boxes(annotations: list[dict]) -> np.ndarray | None:
    """Parents' boxes (N, 4) as x1, y1, x2, y2, in pixels; None if the data have none.

    An annotation without a parent among others that have one (a crowd) gets its own box.
    """
    if not any("parent_bbox" in annotation for annotation in annotations):
        return None
    boxes = [
        BoxMode.convert(a.get("parent_bbox", a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)
        for a in annotations
    ]
    return np.asarray(boxes, dtype=np.float64)


def _has_rle(annotations: list[dict]) -> bool:
    # Transformed already: an RLE has become an array.
    return any(not isinstance(a.get("segmentation", []), list) for a in annotations)
