"""Evaluation with score refinement: a refiner between a model and an evaluator."""

from __future__ import annotations

from collections import deque
from typing import Any

from detectron2.evaluation import DatasetEvaluator

from msnet_d2.score_refinement.refiner import ScoreRefiner

__all__ = ["RefiningEvaluator"]


class RefiningEvaluator(DatasetEvaluator):
    """Refines the scores of a model's outputs before another evaluator gets them.

    The frames of a video have to come in order and on one rank
    (:class:`msnet_d2.data.loading.samplers.VideoInferenceSampler`). Scores that the refiner cannot
    match, such as those of test-time augmentation, stay as they are.
    """

    def __init__(self, evaluator: DatasetEvaluator, refiner: ScoreRefiner) -> None:
        """Put ``refiner`` before ``evaluator``."""
        self.evaluator = evaluator
        self.refiner = refiner
        self._waiting: deque[dict[str, Any]] = deque()

    def reset(self) -> None:
        """Forget all frames."""
        self.refiner.reset()
        self._waiting.clear()
        self.evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Refine what can be refined by now, and hand that on."""
        for source, output in zip(inputs, outputs):
            self._waiting.append({key: value for key, value in source.items() if key != "image"})
            # A frame that cannot be matched counts as an image that belongs to no video.
            video_id = source.get("video_id") if self.refiner.can_refine(output) else None
            done = self.refiner.update(
                output, video_id=video_id, frame_index=source.get("frame_index")
            )
            self._hand_on(done)

    def evaluate(self, *args, **kwargs):
        """Hand the last frames on, and evaluate."""
        self._hand_on(self.refiner.flush())
        return self.evaluator.evaluate(*args, **kwargs)

    def _hand_on(self, outputs: list[dict]) -> None:
        for output in outputs:
            self.evaluator.process([self._waiting.popleft()], [output])
