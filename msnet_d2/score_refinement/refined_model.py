"""Score refinement for any Detectron2 model with a feature pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from msnet_d2.errors import ConfigError, WeightsError
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.refinable import captured_features
from msnet_d2.score_refinement.refinement_frame import attach_refinement_frames
from msnet_d2.score_refinement.refiner import ScoreRefiner

__all__ = ["RefinedModel", "load_srn"]


class RefinedModel(nn.Module):
    """A detector and f; its outputs can be refined, and :meth:`stream` refines them.

    Three lines for a stock Mask R-CNN ``model`` with its config ``cfg`` (which needs this project's
    keys, :func:`msnet_d2.add_msnet_config`)::

        refined = RefinedModel(model, load_srn(cfg, model, "srn.pth"))
        inputs = ({"image": image, "video_id": "flight", "frame_index": i} for i, image in frames)
        outputs = refined.stream(inputs, ScoreRefiner(cfg))

    The model is any that has a ``backbone`` which returns feature maps by name, takes Detectron2's
    list of inputs, and returns a list of dicts with "instances".
    """

    def __init__(self, model: nn.Module, srn: ScoreRefinementNetwork) -> None:
        """Put ``srn`` beside ``model``; neither is changed.

        Raises:
            ConfigError: if the model has no backbone, or it lacks the maps that ``srn`` takes.
        """
        super().__init__()
        backbone = getattr(model, "backbone", None)
        if backbone is None:
            raise ConfigError(
                f"{type(model).__name__} has no attribute backbone, whose feature maps are refined"
            )
        missing = [name for name in srn.in_features if name not in backbone.output_shape()]
        if missing:
            raise ConfigError(
                f"the backbone of {type(model).__name__} gives no maps {missing}: "
                f"{sorted(backbone.output_shape())}"
            )
        self.model = model
        self.srn = srn

    def forward(self, batched_inputs: list[dict]) -> Any:
        """The model's outputs; those of inputs with a ``video_id`` carry what refinement needs."""
        if self.training:
            return self.model(batched_inputs)
        with captured_features(self.model.backbone) as features:
            outputs = self.model(batched_inputs)
        attach_refinement_frames(outputs, batched_inputs, self.srn, features)
        return outputs

    @torch.no_grad()
    def stream(
        self, inputs: Iterable[dict[str, Any]], refiner: ScoreRefiner
    ) -> Iterator[dict[str, Any]]:
        """Detect and refine frame by frame, in constant memory.

        Args:
            inputs: Detectron2's input dicts in the order of the frames, with "video_id" (and
                "frame_index", if frames are left out).
            refiner: a fresh one; its fields of a finished output are in its module's docstring.

        Yields:
            the outputs, in the order of the inputs, one frame late where ``refiner.delay`` is 1.
        """
        self.eval()
        for item in inputs:
            (output,) = self([item])
            yield from refiner.push(
                output, video_id=item.get("video_id"), frame_index=item.get("frame_index")
            )
        yield from refiner.flush()


def load_srn(cfg: CfgNode, model: nn.Module, weights: str | Path) -> ScoreRefinementNetwork:
    """Build f for a model, with the weights that its training left in a checkpoint.

    Args:
        cfg: MODEL.SRN gives the shape of f.
        model: the detector that f was trained on; f goes to its device.
        weights: a checkpoint of the training; its keys ``srn.*`` are read, nothing else.

    Raises:
        WeightsError: if the file cannot be read, holds no f, or an f of another shape.
    """
    srn = ScoreRefinementNetwork(cfg, model.backbone.output_shape())
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{weights} cannot be read as a checkpoint: {error}") from error
    state = state.get("model", state) if isinstance(state, dict) else {}
    own = {key[4:]: value for key, value in state.items() if str(key).startswith("srn.")}
    if not own:
        raise WeightsError(
            f"{weights} holds no weights srn.*: it is no checkpoint of a training with "
            "MODEL.SRN.ENABLED"
        )
    try:
        srn.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsError(
            f"{weights} holds another f than MODEL.SRN describes: {' '.join(str(error).split())}"
        ) from error
    return srn.to(next(model.parameters()).device).eval()
