"""What score refinement needs of one frame: its detections' embeddings, computed when first asked
for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.structures import Boxes
from torch import Tensor

from msnet_d2.score_refinement.shots import shot_difference, thumbnail

if TYPE_CHECKING:
    from msnet_d2.score_refinement.network import ScoreRefinementNetwork

__all__ = ["FRAME_KEY", "RefinementFrame", "attach_refinement_frames"]

# Under this key a model's output carries its frame to the refiner, which takes it out.
FRAME_KEY = "refinement_frame"


class RefinementFrame:
    """The features of one frame, and the embeddings of its detections on demand.

    Many frames need no embedding: those without detections, or whose neighbours have none. So the
    features are kept until the embeddings are first asked for, and dropped then.
    """

    def __init__(
        self,
        srn: ScoreRefinementNetwork,
        features: Mapping[str, Tensor],
        image_size: tuple[int, int],
        image: Tensor | None = None,
    ) -> None:
        """Keep the features of a frame.

        Args:
            srn: f.
            features: maps (1, C, H_k, W_k) of this frame by name, those of ``srn.in_features``
                among them.
            image_size: (height, width) of the frame as the network saw it, without padding.
            image: (3, H, W) the frame as the network saw it, values 0 to 255, for finding cuts;
                None: any two frames are taken to be of one shot.
        """
        self._srn = srn
        self._features = {name: features[name] for name in srn.in_features}
        self._embeddings: Tensor | None = None
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.thumbnail = None if image is None else thumbnail(image)

    @torch.no_grad()
    def embed(self, boxes: Boxes, output_size: tuple[int, int]) -> Tensor:
        """Embed the frame's detections; the second call returns what the first computed.

        Args:
            boxes: N boxes, always the same.
            output_size: (height, width) of the picture that the boxes are on, which may differ from
                ``image_size``.

        Returns:
            (N, C, h, w), on the device of the features.
        """
        if self._embeddings is None:
            maps = [self._features[name] for name in self._srn.in_features]
            scaled = Boxes(boxes.tensor.to(maps[0].device, torch.float32, copy=True))
            scaled.scale(self.image_size[1] / output_size[1], self.image_size[0] / output_size[0])
            self._embeddings = self._srn.embed_boxes(self._features, [scaled])
            self._features = {}
        return self._embeddings

    def difference(self, other: RefinementFrame) -> float:
        """How different two frames look, see :func:`.shots.shot_difference`.

        Returns:
            0 if either frame came without its picture.
        """
        if self.thumbnail is None or other.thumbnail is None:
            return 0.0
        return shot_difference(self.thumbnail, other.thumbnail.to(self.thumbnail.device))


def attach_refinement_frames(
    outputs: Sequence[dict[str, Any]],
    batched_inputs: Sequence[dict[str, Any]],
    srn: ScoreRefinementNetwork,
    features: Mapping[str, Tensor],
) -> None:
    """Put a :class:`RefinementFrame` into the output of each frame of a video, in place.

    Args:
        outputs: the model's, one an image.
        batched_inputs: the model's inputs: "image" (3, H, W), and of frames of a video "video_id".
        srn: f.
        features: maps (B, C, H_k, W_k) of the batch by name.
    """
    for i, (output, inputs) in enumerate(zip(outputs, batched_inputs)):
        if inputs.get("video_id") is not None:
            own = {name: features[name][i : i + 1] for name in srn.in_features}
            image = inputs["image"]
            output[FRAME_KEY] = RefinementFrame(srn, own, image.shape[-2:], image)
