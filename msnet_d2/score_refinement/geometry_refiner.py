"""Refines the scores of a video's detections by what lies at the same place in other frames.

Driven as :class:`.refiner.ScoreRefiner`. An output needs no embeddings but ``"gray"``, a small
picture of the frame, by which the picture's motion is found. ``match_similarity`` of what comes out
is the IoU of a detection and its match, the better one of two, after that motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.geometry import GeometryRule, RunningScore
from msnet_d2.score_refinement.matching import Match
from msnet_d2.score_refinement.refiner import Frame, ScoreRefiner

__all__ = ["GeometryRefiner"]


@dataclass(frozen=True)
class _Link:
    """What the next frame has of the N detections of a frame.

    Attributes:
        match: of each one.
        missed: (N,) bool, see :meth:`.geometry.GeometryRule.missed`.
    """

    match: Match
    missed: Tensor


@dataclass
class _Frame(Frame):
    next: _Link | None = None
    ious: list[Tensor] = field(default_factory=list)

    @cached_property
    def past(self) -> RunningScore:
        """Over this frame and those before it."""
        return RunningScore.of(self.instances.scores)


class GeometryRefiner(ScoreRefiner):
    """Averages scores over the frames before, and over ``lookahead`` frames after.

    Frames are adjacent as a :class:`.refiner.ScoreRefiner` has it, but for its shot changes: two
    frames between which no homography is found do not refine each other.

    It keeps as many frames as it looks ahead, with their masks, and one more.
    """

    needs = "picture (`gray`) beside them"
    frame_type = _Frame

    @configurable
    def __init__(
        self,
        *,
        rule: GeometryRule | None = None,
        neighbors: str = "both",
        lookahead: int = 1,
        max_frame_gap: int = 30,
        track: bool = True,
        mask_soft_nms_thresh: float = 1.0,
    ) -> None:
        """Explicit arguments, or ``GeometryRefiner(cfg)`` from TEST.SCORE_REFINEMENT.

        Args:
            rule: what matches, and how scores are averaged; None: as it was measured.
            neighbors: "previous" (no delay): all frames before refine; "next": frames after;
                "both".
            lookahead: how many frames after, if they refine; so many frames an output is delayed.
                Beyond ten they count less than a hundredth.
            max_frame_gap: largest difference of ``frame_index`` of adjacent frames.
            track: give ``track_id``; otherwise it is -1.
            mask_soft_nms_thresh: see :class:`.refiner.ScoreRefiner`.

        Raises:
            ConfigError: if an argument is out of range.
        """
        if lookahead < 1:
            raise ConfigError(
                f"TEST.SCORE_REFINEMENT.LOOKAHEAD is {lookahead}; expected 1 frame or more (none: "
                "set NEIGHBORS to previous)"
            )
        self.lookahead = lookahead
        super().__init__(
            rule=GeometryRule() if rule is None else rule,
            neighbors=neighbors,
            max_frame_gap=max_frame_gap,
            track=track,
            mask_soft_nms_thresh=mask_soft_nms_thresh,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate TEST.SCORE_REFINEMENT into the arguments of the constructor."""
        refinement = cfg.TEST.SCORE_REFINEMENT
        return {
            "neighbors": refinement.NEIGHBORS,
            "lookahead": refinement.LOOKAHEAD,
            "max_frame_gap": refinement.MAX_FRAME_GAP,
            "track": refinement.TRACK,
            "mask_soft_nms_thresh": cfg.TEST.MASK_SOFT_NMS_THRESH,
        }

    @property
    def delay(self) -> int:
        """Number of frames between giving a frame and getting it back."""
        return 0 if self.neighbors == "previous" else self.lookahead

    def can_refine(self, output: dict[str, Any]) -> bool:
        """Whether an output has the picture that its motion is found by."""
        return "gray" in output

    def _same_shot(self, last: _Frame, current: _Frame) -> bool:
        # Whether there is a homography says whether two frames show the same ground; _match sees.
        return True

    def _match(self, last: _Frame, current: _Frame) -> None:
        """Match two frames, and take the running scores along to the later one."""
        forth = last.homography_to(current)
        if forth is None:
            return
        a, b = last.instances, current.instances
        matches = self.rule.match(a, b, forth)
        if self.neighbors != "previous":
            missed = self.rule.missed(a, matches.forward, forth)
            last.next = _Link(matches.forward, missed)
            last.ious.append(matches.forward.similarity)
        if self.neighbors != "next":
            missed = self.rule.missed(b, matches.backward, np.linalg.inv(forth))
            current.past = self.rule.extend(b.scores, matches.backward, missed, last.past)
            current.ious.append(matches.backward.similarity)
        if self.track:
            self._continue_tracks(last, current, matches.backward.index)

    def _refine(self, frame: _Frame) -> tuple[Tensor, Tensor]:
        scores = frame.instances.scores
        future = None
        # The frame is the first one that waits; all the others follow it.
        for later in reversed(self._waiting):
            own = later.instances.scores
            if future is None or later.next is None:
                future = RunningScore.of(own)
            else:
                future = self.rule.extend(own, later.next.match, later.next.missed, future)
        refined = self.rule.refine(scores, frame.past, future)
        similarity = torch.full_like(scores, math.nan)
        for iou in frame.ious:
            similarity = similarity.fmax(iou.to(similarity))
        return refined, similarity
