"""What was found in a frame, small enough to wait in a queue, and the detector of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from fvcore.common.registry import Registry

from msnet_d2.structures.mask_crop import MaskCrop, MaskCropper, as_numpy
from msnet_d2.video.stream import Frame

__all__ = [
    "FRAME_DETECTOR_REGISTRY",
    "Detections",
    "FrameDetector",
    "Parents",
    "StreamDetector",
]

FRAME_DETECTOR_REGISTRY = Registry("FRAME_DETECTOR")
FRAME_DETECTOR_REGISTRY.__doc__ = """
What finds damage in a stream of frames: classes that are a :class:`FrameDetector` and have a class
method ``from_config(cfg, predictor, video_id)``, which makes one for one video. ``VIDEO.DETECTOR``
chooses by name.
"""


@dataclass
class Parents:
    """Buildings of a frame: ``pred_boxes`` (M, 4) XYXY in pixels, ``scores`` (M,)."""

    pred_boxes: np.ndarray
    scores: np.ndarray


@dataclass
class Detections:
    """Damaged parts of a frame, N of them, on the host; fields named as those of Instances.

    Attributes:
        pred_boxes: (N, 4) float XYXY in pixels of the frame.
        scores: (N,), after refinement if there was one.
        pred_classes: (N,) int.
        pred_masks: N crops, or None without a mask head.
        pred_hidden_masks: N crops, what of the masks is not seen, or None.
        scores_raw: (N,) before refinement, or None.
        pred_parent_boxes: (N, 4) building of each, or None; all zero where it lies in none.
        parent_scores: (N,) or None.
        track_id: (N,) int, -1 unknown, or None: a hint which detections of a video are one object.
        parents: the frame's buildings, or None.
    """

    pred_boxes: np.ndarray
    scores: np.ndarray
    pred_classes: np.ndarray
    pred_masks: list[MaskCrop | None] | None = None
    scores_raw: np.ndarray | None = None
    pred_parent_boxes: np.ndarray | None = None
    parent_scores: np.ndarray | None = None
    track_id: np.ndarray | None = None
    parents: Parents | None = None
    pred_hidden_masks: list[MaskCrop | None] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_output(cls, output: dict[str, Any], size: tuple[int, int]) -> Detections:
        """Take what is needed out of a model's output for one frame, masks cropped to boxes.

        Args:
            output: with "instances" and optionally "parents".
            size: (H, W) of the frame.
        """
        instances = output["instances"]
        boxes = as_numpy(instances.pred_boxes).astype(np.float64).reshape(-1, 4)

        def crops(name: str) -> list[MaskCrop | None] | None:
            values = getattr(instances, name, None)
            if values is None:
                return None
            # The margin: a mask may reach a pixel past its box where it is pasted.
            cropper = MaskCropper(values, len(boxes), size, margin=1)
            return [_owned(cropper.crop(i, box)) for i, box in enumerate(boxes)]

        def optional(name: str) -> np.ndarray | None:
            values = getattr(instances, name, None)
            return None if values is None else as_numpy(values)

        parents = output.get("parents")
        return cls(
            pred_boxes=boxes,
            scores=as_numpy(instances.scores),
            pred_classes=as_numpy(instances.pred_classes),
            pred_masks=crops("pred_masks"),
            pred_hidden_masks=crops("pred_hidden_masks"),
            scores_raw=optional("scores_raw"),
            pred_parent_boxes=optional("pred_parent_boxes"),
            parent_scores=optional("parent_scores"),
            track_id=optional("track_id"),
            parents=None
            if parents is None
            else Parents(as_numpy(parents.pred_boxes), as_numpy(parents.scores)),
        )


def _owned(crop: MaskCrop | None) -> MaskCrop | None:
    """A copy, so that the crop does not keep the whole frame's masks alive."""
    return None if crop is None else MaskCrop(np.array(crop.mask, dtype=np.uint8), crop.x, crop.y)


class FrameDetector(Protocol):
    """What finds damage in a stream of frames.

    Frames go in in their order and come out in the same, each once, but may come out later than
    they went in. This is where a scheduler of key frames fits: it may run a network on some frames
    and carry its features or detections to the others.
    """

    def push(self, frames: Sequence[Frame]) -> list[tuple[Frame, Detections]]:
        """Take the next frames, and return those that are finished."""

    def flush(self) -> list[tuple[Frame, Detections]]:
        """Finish the frames that still wait."""


@FRAME_DETECTOR_REGISTRY.register()
@dataclass
class StreamDetector:
    """Every frame through the predictor, and its scores refined by its neighbors'.

    Attributes:
        predictor: with ``predict_batch(images, extras) -> outputs``, such as
            :class:`msnet_d2.inference.predictor.Predictor`.
        refiner: with ``update(output, video_id=, frame_index=) -> outputs`` and ``flush()``, such
            as :class:`msnet_d2.score_refinement.refiner.ScoreRefiner`; None: scores stay.
        video_id: the name of the video for the refiner.
    """

    predictor: Any
    refiner: Any = None
    video_id: str = "video"
    _waiting: deque = field(default_factory=deque, repr=False)

    @classmethod
    def from_config(cls, cfg: Any, predictor: Any, video_id: str) -> StreamDetector:
        """The detector for one video, with the refiner that the config asks for."""
        from msnet_d2.score_refinement.build import build_score_refiner

        return cls(predictor, build_score_refiner(cfg), video_id)

    def push(self, frames: Sequence[Frame]) -> list[tuple[Frame, Detections]]:
        """Detect in a batch of frames; with a refiner that looks ahead the last one waits."""
        extras = None
        if self.refiner is not None:
            extras = [{"video_id": self.video_id, "frame_index": f.index} for f in frames]
        outputs = self.predictor.predict_batch([f.image for f in frames], extras)
        done = []
        for i, frame in enumerate(frames):
            # Taken out of the list, so that a frame's embeddings go when the refiner drops them.
            output, outputs[i] = outputs[i], None
            if self.refiner is None:
                done.append((frame, Detections.from_output(output, frame.image.shape[:2])))
                continue
            self._waiting.append(frame)
            done += self._finished(
                self.refiner.update(output, video_id=self.video_id, frame_index=frame.index)
            )
        return done

    def flush(self) -> list[tuple[Frame, Detections]]:
        """Finish the frame that waits for a neighbor, if any."""
        return [] if self.refiner is None else self._finished(self.refiner.flush())

    def _finished(self, outputs: Sequence[dict]) -> list[tuple[Frame, Detections]]:
        frames = [self._waiting.popleft() for _ in outputs]
        return [
            (frame, Detections.from_output(output, frame.image.shape[:2]))
            for frame, output in zip(frames, outputs, strict=True)
        ]
