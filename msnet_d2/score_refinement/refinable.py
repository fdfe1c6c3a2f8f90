"""Detectors with f beside them: trained on triplets, and giving what score refinement needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor, nn

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.refinement_frame import attach_refinement_frames
from msnet_d2.score_refinement.triplet_loss import triplet_losses

__all__ = ["TRIPLET_KEY", "RefinableRCNN", "SRNTraining", "captured_features"]

# A training batch's item with this key is a triplet, any other an annotated image.
TRIPLET_KEY = "triplet"


@dataclass(frozen=True)
class SRNTraining:
    """How f is trained: MODEL.SRN's keys of these names.

    Attributes:
        freeze_detector: train f alone, and leave every weight and statistic of the detector as it
            is; otherwise train both, ``loss_mcl`` being one more loss.
        margin: see :func:`msnet_d2.score_refinement.losses.multi_scale_consistency_loss`.
        hardest_k: negatives of a triplet that are optimised.
        loss_weight: factor of ``loss_mcl``.
    """

    freeze_detector: bool = True
    margin: float = 1.0
    hardest_k: int = 1
    loss_weight: float = 1.0


@META_ARCH_REGISTRY.register()
class RefinableRCNN(GeneralizedRCNN):
    """Detectron2's R-CNN, of any heads, with f of the Score Refinement Network beside it.

    Without ``srn`` it is GeneralizedRCNN, and its checkpoints are interchangeable with that one's.

    With it, training takes batches whose items with the key "triplet" (see
    :class:`msnet_d2.data.TripletDataset`) train f, by ``loss_mcl``, and whose other items train the
    detector, if it is not frozen. In inference the output of an input with a ``video_id`` carries a
    :class:`~msnet_d2.score_refinement.refinement_frame.RefinementFrame`, for a
    :class:`~msnet_d2.score_refinement.refiner.ScoreRefiner`.
    """

    @configurable
    def __init__(
        self,
        *,
        srn: ScoreRefinementNetwork | None = None,
        srn_training: SRNTraining | None = None,
        **rcnn_arguments,
    ) -> None:
        """Take f, None for none, and how it is trained; the others are those of the base class."""
        super().__init__(**rcnn_arguments)
        self.srn = srn
        self.srn_training = srn_training or SRNTraining()
        if self._frozen:
            for module in self._detector_parts():
                module.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the arguments of the constructor."""
        arguments = super().from_config(cfg)
        if cfg.MODEL.SRN.ENABLED:
            srn = cfg.MODEL.SRN
            shape = arguments["backbone"].output_shape()
            arguments["srn"] = ScoreRefinementNetwork(cfg, shape)
            arguments["srn_training"] = SRNTraining(
                srn.FREEZE_DETECTOR, srn.MARGIN, srn.HARDEST_K, srn.LOSS_WEIGHT
            )
        return arguments

    def train(self, mode: bool = True) -> RefinableRCNN:
        """Set the mode; a frozen detector stays in evaluation mode, its statistics with it."""
        super().train(mode)
        if self._frozen:
            for module in self._detector_parts():
                module.eval()
        return self

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, outputs in inference.

        Raises:
            ConfigError: if f is to be trained, but there is no triplet in the batch.
        """
        if not self.training or self.srn is None:
            return super().forward(batched_inputs)
        triplets = [x[TRIPLET_KEY] for x in batched_inputs if TRIPLET_KEY in x]
        if not triplets:
            raise ConfigError(
                "with MODEL.SRN.ENABLED training needs triplets (DATASETS.SRN_VIDEOS), but a batch "
                "has none"
            )
        losses = {}
        if not self._frozen:
            losses.update(super().forward([x for x in batched_inputs if TRIPLET_KEY not in x]))
        training = self.srn_training
        losses.update(
            triplet_losses(
                self.srn,
                self._extract_features,
                triplets,
                margin=training.margin,
                hardest_k=training.hardest_k,
                loss_weight=training.loss_weight,
            )
        )
        return losses

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
        """Detect; arguments and results are Detectron2's.

        With f, each output dict also carries what refinement needs of the frame (see
        :mod:`msnet_d2.score_refinement.refinement_frame`), unless boxes were given or nothing is
        post-processed, as in test-time augmentation.
        """
        if self.srn is None or detected_instances is not None or not do_postprocess:
            return super().inference(batched_inputs, detected_instances, do_postprocess)
        with captured_features(self.backbone) as features:
            outputs = super().inference(batched_inputs)
        attach_refinement_frames(outputs, batched_inputs, self.srn, features)
        return outputs

    @property
    def _frozen(self) -> bool:
        return self.srn is not None and self.srn_training.freeze_detector

    def _detector_parts(self) -> list[nn.Module]:
        return [module for name, module in self.named_children() if name != "srn"]

    def _extract_features(self, frames: Tensor) -> dict[str, Tensor]:
        """Feature maps of the frames (F, 3, H, W) of a triplet, with gradients if wanted."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            images = self.preprocess_image([{"image": frame} for frame in frames])
            return self.backbone(images.tensor)


@contextmanager
def captured_features(backbone: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What ``backbone`` returns (maps by name) when it is called inside the ``with`` block.

    If it is called more than once, the last call's.
    """
    features: dict[str, Tensor] = {}
    handle = backbone.register_forward_hook(lambda _, __, output: features.update(output))
    try:
        yield features
    finally:
        handle.remove()
