"""Any detector with an embedding network beside it, whose detections can be matched over frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes
from torch import Tensor, nn

from msnet_d2.config.refinement import refinement_rule
from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.homography import gray_image
from msnet_d2.score_refinement.losses import triplet_losses
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.shots import thumbnail

__all__ = ["TRIPLET_KEY", "RefinedDetector", "captured_features", "detector_of"]

# A training batch's item with this key is a triplet, any other an annotated image.
TRIPLET_KEY = "triplet"
_DETECTOR, _SRN = "detector.", "srn."


@META_ARCH_REGISTRY.register()
class RefinedDetector(nn.Module):
    """A detector of any kind and the Score Refinement Network's embedding (paper, section 4.3).

    The detector is any registered meta-architecture with a ``backbone`` that returns feature maps
    by name: Detectron2's R-CNNs, RetinaNet and FCOS, MSNet, those of projects.

    In training, items of a batch with the key "triplet" (see
    :class:`msnet_d2.data.loading.triplets.TripletDataset`) train the embedding by ``loss_mcl``.
    The other items train the detector, if it is not frozen.

    In inference the outputs are the detector's. That of an input with a ``video_id`` has besides
    ``instances.embeddings`` (N, C, h, w), ``output["thumbnail"]`` (64, 64) and ``output["gray"]``
    (h, w), a small picture, for a :class:`~msnet_d2.score_refinement.refiner.ScoreRefiner`. With
    ``TEST.SCORE_REFINEMENT.RULE`` "geometry" it has the small picture alone.

    A state dict has the detector's tensors under the detector's own names, and beside them those of
    the embedding under ``srn.``. So the checkpoints of a detector and of the same detector refined
    can stand in for each other.
    """

    @configurable
    def __init__(
        self,
        *,
        detector: nn.Module,
        srn: ScoreRefinementNetwork,
        freeze_detector: bool = True,
        margin: float = 1.0,
        hardest_k: int = 1,
        loss_weight: float = 1.0,
        embeds: bool = True,
    ) -> None:
        """Explicit arguments, or ``RefinedDetector(cfg)`` from MODEL.SRN.

        Args:
            detector: takes Detectron2's list of inputs, returns a list of dicts with "instances".
            srn: the embedding network.
            freeze_detector: train the embedding alone, and leave every weight and statistic of the
                detector as it is; otherwise train both, ``loss_mcl`` being one more loss.
            margin: see :func:`.losses.multi_scale_consistency_loss`.
            hardest_k: negatives of a triplet that are optimized.
            loss_weight: factor of ``loss_mcl``.
            embeds: whether detections are embedded in inference; refinement by geometry needs none.

        Raises:
            ConfigError: if the detector has no backbone, or it lacks the maps that ``srn`` takes.
        """
        super().__init__()
        shapes = _backbone_of(detector).output_shape()
        missing = [name for name in srn.in_features if name not in shapes]
        if missing:
            raise ConfigError(
                f"the backbone of {type(detector).__name__} gives no maps {missing}: "
                f"{sorted(shapes)}"
            )
        self.detector = detector
        self.srn = srn
        self.freeze_detector = freeze_detector
        self.margin = margin
        self.hardest_k = hardest_k
        self.loss_weight = loss_weight
        self.embeds = embeds
        if freeze_detector:
            detector.requires_grad_(False)
        self._register_state_dict_hook(_drop_detector_prefix)
        self._register_load_state_dict_pre_hook(_add_detector_prefix)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the detector that MODEL.SRN.DETECTOR names, and translate MODEL.SRN.

        Raises:
            ConfigError: if there is no such detector, or it has no backbone.
        """
        srn = cfg.MODEL.SRN
        if cls.__name__ == srn.DETECTOR or srn.DETECTOR not in META_ARCH_REGISTRY:
            known = sorted(name for name, _ in META_ARCH_REGISTRY if name != cls.__name__)
            raise ConfigError(
                f"MODEL.SRN.DETECTOR is {srn.DETECTOR!r}, which is no detector; there are: "
                f"{', '.join(known)}"
            )
        detector = META_ARCH_REGISTRY.get(srn.DETECTOR)(cfg)
        return {
            "detector": detector,
            "srn": ScoreRefinementNetwork(cfg, _backbone_of(detector).output_shape()),
            "freeze_detector": srn.FREEZE_DETECTOR,
            "margin": srn.MARGIN,
            "hardest_k": srn.HARDEST_K,
            "loss_weight": srn.LOSS_WEIGHT,
            "embeds": refinement_rule(cfg) == "appearance",
        }

    @property
    def device(self) -> torch.device:
        """Where the detector computes."""
        return next(self.detector.parameters()).device

    def train(self, mode: bool = True) -> RefinedDetector:
        """Set the mode; a frozen detector stays in evaluation mode, its statistics with it."""
        super().train(mode)
        if self.freeze_detector:
            self.detector.eval()
        return self

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, outputs in inference.

        Raises:
            ConfigError: if there is no triplet in a training batch.
        """
        if not self.training:
            return self.inference(batched_inputs)
        triplets = [x[TRIPLET_KEY] for x in batched_inputs if TRIPLET_KEY in x]
        if not triplets:
            raise ConfigError(
                "a RefinedDetector is trained with triplets (DATASETS.SRN_VIDEOS), but a batch has "
                "none"
            )
        losses = {}
        if not self.freeze_detector:
            losses.update(self.detector([x for x in batched_inputs if TRIPLET_KEY not in x]))
        losses.update(
            triplet_losses(
                self.srn,
                self._extract_features,
                triplets,
                margin=self.margin,
                hardest_k=self.hardest_k,
                loss_weight=self.loss_weight,
            )
        )
        return losses

    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        """Detect, and embed the detections of frames of videos.

        Args:
            batched_inputs: Detectron2's; a frame of a video has a "video_id".

        Returns:
            The detector's outputs, with what the class's docstring says.

        Raises:
            ConfigError: if the detector returns no instances, such as a ProposalNetwork.
        """
        with captured_features(self.detector.backbone) as features:
            outputs = self.detector(batched_inputs)
        for i, (output, inputs) in enumerate(zip(outputs, batched_inputs)):
            if inputs.get("video_id") is not None:
                if "instances" not in output:
                    raise ConfigError(
                        f"{type(self.detector).__name__} returns no instances, whose scores could "
                        "be refined; set MODEL.SRN.DETECTOR to a detector that does"
                    )
                output["gray"] = gray_image(inputs["image"])
                if self.embeds:
                    own = {name: features[name][i : i + 1] for name in self.srn.in_features}
                    self._embed(output, own, inputs["image"])
        return outputs

    @torch.no_grad()
    def _embed(self, output: dict[str, Any], features: dict[str, Tensor], image: Tensor) -> None:
        """Add to an output the embeddings of its instances and its thumbnail, in place.

        Args:
            output: with "instances" of any resolution.
            features: maps (1, C, H_k, W_k) of the frame.
            image: (3, H, W) as the detector saw it, values 0 to 255.
        """
        instances = output["instances"]
        (height, width), (output_height, output_width) = image.shape[-2:], instances.image_size
        boxes = Boxes(instances.pred_boxes.tensor.to(torch.float32, copy=True))
        boxes.scale(width / output_width, height / output_height)
        instances.embeddings = self.srn.embed_boxes(features, [boxes]).to(instances.scores.device)
        output["thumbnail"] = thumbnail(image)

    def _extract_features(self, frames: Tensor) -> dict[str, Tensor]:
        """Feature maps of the frames (F, 3, H, W) of a triplet, with gradients if wanted."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_detector):
            images = self.detector.preprocess_image([{"image": frame} for frame in frames])
            return self.detector.backbone(images.tensor)


def detector_of(model: nn.Module) -> nn.Module:
    """The detector of a RefinedDetector, also of one that is wrapped for distributed training; any
    other model is returned as it is."""
    inner = getattr(model, "module", model)
    return inner.detector if isinstance(inner, RefinedDetector) else model


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


def _backbone_of(detector: nn.Module) -> nn.Module:
    backbone = getattr(detector, "backbone", None)
    if backbone is None or not hasattr(backbone, "output_shape"):
        raise ConfigError(
            f"{type(detector).__name__} has no backbone that returns feature maps, by which "
            "detections could be matched; set MODEL.SRN.DETECTOR to a detector that has one"
        )
    return backbone


def _drop_detector_prefix(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping
) -> None:
    for name in [name for name in state_dict if name.startswith(prefix + _DETECTOR)]:
        state_dict[prefix + name[len(prefix + _DETECTOR) :]] = state_dict.pop(name)


def _add_detector_prefix(state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        rest = name[len(prefix) :]
        if not rest.startswith((_SRN, _DETECTOR)):
            state_dict[prefix + _DETECTOR + rest] = state_dict.pop(name)
