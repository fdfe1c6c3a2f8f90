"""A trained model for pictures: from BGR arrays to detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.modeling import build_model

from msnet_d2.checkpoint.classes import with_classes_of_weights
from msnet_d2.checkpoint.load_weights import load_trained_weights
from msnet_d2.config.classes import is_semantic, num_classes
from msnet_d2.config.ranges import check_ranges
from msnet_d2.config.registered import check_registered
from msnet_d2.data.isbda.categories import ISBDA_CATEGORIES
from msnet_d2.data.loading.resizing import QuickResizeShortestEdge
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.inference.acceleration import InferenceOptions, accelerate
from msnet_d2.inference.regions import with_regions
from msnet_d2.modeling.soft_nms import add_mask_soft_nms

__all__ = ["Predictor", "metadata_for"]


class Predictor:
    """A model with its weights and the preprocessing of its config.

    As Detectron2's DefaultPredictor, but for batches too, and it refuses to run on weights that are
    missing, do not fit, or are not finite.

    Attributes:
        cfg: a copy of the config.
        model: the model, in evaluation mode.
        metadata: class names and colors.
        weights_sha256: digest of the weights' file; None if the weights are random.
        acceleration: how the model computes.
    """

    def __init__(
        self,
        cfg: CfgNode,
        *,
        metadata: Metadata | None = None,
        allow_random_weights: bool = False,
        allow_partial_weights: bool = False,
        acceleration: InferenceOptions | None = None,
    ):
        """Build the model and load ``MODEL.WEIGHTS``.

        Args:
            cfg: config of the model.
            metadata: class names and colors; None: those of the weights or the config, see
                :func:`~msnet_d2.checkpoint.classes.with_classes_of_weights`.
            allow_random_weights: whether ``MODEL.WEIGHTS`` may be empty.
            allow_partial_weights: whether weights may miss parts of the model, which stay random.
            acceleration: how the model is to compute, such as ``InferenceOptions.fast()``; None: as
                Detectron2 does, to the bit.

        Raises:
            ConfigError: if ``INPUT.FORMAT`` is neither BGR nor RGB, or a value is out of its range,
                see :mod:`msnet_d2.config.ranges`.
            WeightsError: if the weights are missing, do not fit, or are not finite.
        """
        if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
            raise ConfigError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; there are: BGR, RGB")
        check_ranges(cfg)
        check_registered(cfg)
        self.cfg = cfg.clone()
        self.model = add_mask_soft_nms(build_model(self.cfg), self.cfg)
        self.model.eval()
        self.weights_sha256, classes = load_trained_weights(
            self.model,
            cfg.MODEL.WEIGHTS,
            allow_random=allow_random_weights,
            allow_partial=allow_partial_weights,
        )
        if metadata is None:
            self.cfg = with_classes_of_weights(self.cfg, classes, cfg.MODEL.WEIGHTS)
        self.acceleration = accelerate(self.model, acceleration or InferenceOptions())
        self.metadata = metadata or metadata_for(self.cfg)
        resize = QuickResizeShortestEdge if self.acceleration.quick_resize else T.ResizeShortestEdge
        self._resize = resize([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """Detect in one picture; see :meth:`predict_batch`."""
        return self.predict_batch([image])[0]

    @torch.no_grad()
    def predict_batch(
        self, images: Sequence[np.ndarray], extras: Sequence[dict] | None = None
    ) -> list[dict[str, Any]]:
        """Detect in several pictures at once.

        Args:
            images: N arrays (H, W, 3), uint8, BGR; sizes may differ.
            extras: N dicts that go to the model with the pictures, such as ``video_id`` and
                ``frame_index``; None: nothing.

        Returns:
            N outputs of the model in the pictures' own resolution; for MSNet ``instances`` and
            ``parents``. A model that gives a class for every pixel (``sem_seg``, (K, H, W) logits)
            has a region of each class as ``instances``, see
            :func:`~msnet_d2.inference.regions.regions_of`. N = 0 gives an empty list.

        Raises:
            InputError: if a picture is no such array, or the numbers differ.
        """
        if extras is not None and len(extras) != len(images):
            raise InputError(f"{len(images)} pictures, but {len(extras)} extras")
        inputs = [self._prepare(image) for image in images]
        for prepared, extra in zip(inputs, extras or ()):
            # What describes the picture itself is not for others to say.
            prepared.update({key: extra[key] for key in extra.keys() - prepared.keys()})
        background = self.cfg.MODEL.SEM_SEG_HEAD.get("BACKGROUND_CLASS", -1)
        outputs = self.model(inputs) if inputs else []
        return [with_regions(output, background) for output in outputs]

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        if not (
            isinstance(image, np.ndarray)
            and image.dtype == np.uint8
            and image.ndim == 3
            and image.shape[2] == 3
            and image.size
        ):
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
            raise InputError(f"a picture is a uint8 array (height, width, 3) in BGR, got {got}")
        height, width = image.shape[:2]
        if self.cfg.INPUT.FORMAT == "RGB":
            image = image[:, :, ::-1]
        resized = self._resize.get_transform(image).apply_image(image)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return {"image": tensor, "height": height, "width": width}


def metadata_for(cfg: CfgNode) -> Metadata:
    """Class names and colors for drawing what the model of ``cfg`` finds.

    They are ``MODEL.CLASS_NAMES`` and ``CLASS_COLORS``; without names, ISBDA's levels for a model
    of three classes, and numbers otherwise. No data set is looked for on the disk.
    """
    names, colors = list(cfg.MODEL.CLASS_NAMES), list(cfg.MODEL.CLASS_COLORS)
    # A class of parents is none of the damage, and does not appear among the instances.
    count = num_classes(cfg)
    if not names and count == len(ISBDA_CATEGORIES):
        names = [category["name"] for category in ISBDA_CATEGORIES]
        colors = [category["color"] for category in ISBDA_CATEGORIES]
    metadata = Metadata(
        name="classes", thing_classes=names or [f"class {index}" for index in range(count)]
    )
    if is_semantic(cfg):
        metadata.regions = True  # of all pixels, not objects: drawn without boxes
    if colors:
        metadata.thing_colors = [tuple(color) for color in colors]
    return metadata
