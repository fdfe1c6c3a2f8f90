"""Refines the scores of a video's detections by the adjacent frames' (paper, section 4.4).

A stream of frames is refined like this; ``model`` is a :class:`.refined_detector.RefinedDetector`::

    refiner = build_score_refiner(cfg)
    for i, image in frames:
        (output,) = model([{"image": image, "video_id": "flight", "frame_index": i}])
        for done in refiner.update(output, video_id="flight", frame_index=i):
            use(done)  # in the order of the updates
    for done in refiner.flush():
        use(done)

An output is a dict. Its ``"instances"`` have the embeddings of the detections, and ``"thumbnail"``
and ``"gray"`` are what shot changes are found by. All of it are plain tensors: outputs may be
queued, pickled, and moved to another device. The refiner takes them out of what it returns.

With ``neighbors`` "previous" :meth:`ScoreRefiner.update` returns exactly the frame it was given.
With "next" and "both" it returns the frame before (or none, for the first one), and
:meth:`ScoreRefiner.flush` the last one. Frames that belong to no video (``video_id`` None) pass
through, in their turn, with their scores as they are.

``TEST.SCORE_REFINEMENT.RULE`` "geometry" is refined by the same calls, see
:mod:`.geometry_refiner`.

A finished output has these fields in ``output["instances"]``, aligned with the detections, whose
order, boxes, classes and masks are those that came in:

* ``scores``: (N,) refined, and lowered by soft NMS if the config says so;
* ``scores_raw``: (N,) as the detector gave them;
* ``match_similarity``: (N,) similarity in [-1, 1] of the match whose score was averaged in; NaN
  where none was;
* ``track_id``: (N,) int64, a hint which detections of a video are one object: counted from 0 in
  each video, kept from frame to frame while two detections are each other's best match; -1 where it
  is not known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from torch import Tensor

from msnet_d2.config.refinement import refinement_rule
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.score_refinement.homography import Keypoints, estimate_homography, find_keypoints
from msnet_d2.score_refinement.matching import AppearanceRule, Candidate
from msnet_d2.score_refinement.shots import shot_difference
from msnet_d2.structures.duplicates import mask_soft_nms

__all__ = ["NEIGHBORS", "Frame", "ScoreRefiner"]

NEIGHBORS = ("previous", "next", "both")

# Two detections continue a track if each is the other's best match and they are at least this
# similar.
_TRACK_SIMILARITY = 0.5


@dataclass
class Frame:
    """A frame that waits for its neighbors."""

    output: dict[str, Any]
    video_id: str | None
    index: int
    candidates: list[Candidate] = field(default_factory=list)
    track_ids: Tensor | None = None
    # (N,) what the next frame's matches are averaged with: the scores, refined by the past if they
    # are running means.
    onward_scores: Tensor | None = None

    @property
    def instances(self) -> Instances:
        """The detections."""
        return self.output["instances"]

    @cached_property
    def keypoints(self) -> Keypoints | None:
        """Points of interest; None if the output has no picture."""
        gray = self.output.get("gray")
        return None if gray is None else find_keypoints(gray.cpu())

    def homography_to(self, other: Frame) -> np.ndarray | None:
        """The homography (3, 3) from pixels of this frame to those of another, None if there is
        none."""
        if self.keypoints is None or other.keypoints is None:
            return None
        return estimate_homography(self.keypoints, other.keypoints, self.instances.image_size)


class ScoreRefiner:
    """Refines the scores of a stream of frames; the module's docstring shows how it is driven.

    A frame is adjacent to the one before it if both have the same ``video_id`` and size, its
    ``frame_index`` is larger by at most ``max_frame_gap``, and there is no shot change between
    them. Otherwise it starts afresh: neither refines the other. Matches use the neighbor's
    unrefined scores, so a frame's result depends on its neighbors alone; with ``running_mean`` it
    depends on all frames before.

    It keeps one frame at most, whatever the length of the video.
    """

    # What can_refine looks for in an output, for its message; and what is kept of a frame.
    needs = "embeddings"
    frame_type = Frame

    @configurable
    def __init__(
        self,
        *,
        rule: AppearanceRule | None = None,
        neighbors: str = "previous",
        max_frame_gap: int = 30,
        shot_change_thresh: float = 0.0,
        running_mean: bool = False,
        track: bool = True,
        mask_soft_nms_thresh: float = 1.0,
    ) -> None:
        """Explicit arguments, or ``ScoreRefiner(cfg)`` from TEST.SCORE_REFINEMENT.

        Args:
            rule: what matches, and what a match makes of a score; None: the paper's rule.
            neighbors: "previous" (no delay), "next" or "both" (one frame of delay): which adjacent
                frames refine. "both" averages with the more similar of the two matches.
            max_frame_gap: largest difference of ``frame_index`` of adjacent frames.
            shot_change_thresh: frames that differ more than this are of different shots, see
                :func:`.shots.shot_difference`; 0: shot changes are not looked for.
            running_mean: a match in the previous frame counts with its score as refined by the
                frames before it, so that a score becomes a running mean along a track, half of it
                the frame's own. A match in the next frame counts with its unrefined score as ever.
                Beyond the paper.
            track: give ``track_id``; otherwise it is -1.
            mask_soft_nms_thresh: refined scores are lowered where a better detection has a mask IoU
                above this, see :func:`msnet_d2.structures.duplicates.mask_soft_nms`; 1: they are
                not.

        Raises:
            ConfigError: if an argument is out of range.
        """
        if neighbors not in NEIGHBORS:
            raise ConfigError(
                f"TEST.SCORE_REFINEMENT.NEIGHBORS is {neighbors!r}: expected one of {NEIGHBORS}"
            )
        if max_frame_gap < 1:
            raise ConfigError(
                f"TEST.SCORE_REFINEMENT.MAX_FRAME_GAP is {max_frame_gap}: adjacent frames are at "
                "least 1 apart"
            )
        self.rule = AppearanceRule() if rule is None else rule
        self.neighbors = neighbors
        self.max_frame_gap = max_frame_gap
        self.shot_change_thresh = shot_change_thresh
        self.running_mean = running_mean
        self.track = track
        self.mask_soft_nms_thresh = mask_soft_nms_thresh
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate TEST.SCORE_REFINEMENT into the arguments of the constructor.

        Raises:
            ConfigError: if it is of another rule.
        """
        if refinement_rule(cfg) != "appearance":
            raise ConfigError(
                f"TEST.SCORE_REFINEMENT.RULE is {cfg.TEST.SCORE_REFINEMENT.RULE!r}, and a "
                "ScoreRefiner refines by appearance; build_score_refiner(cfg) gives the right one"
            )
        refinement = cfg.TEST.SCORE_REFINEMENT
        low, high = refinement.SCORE_RANGE
        return {
            "rule": AppearanceRule(
                score_range=(float(low), float(high)),
                same_class=refinement.SAME_CLASS,
                min_similarity=refinement.MIN_SIMILARITY,
                mutual_nn=refinement.MUTUAL_NN,
            ),
            "neighbors": refinement.NEIGHBORS,
            "max_frame_gap": refinement.MAX_FRAME_GAP,
            "shot_change_thresh": refinement.SHOT_CHANGE_THRESH,
            "running_mean": refinement.RUNNING_MEAN,
            "track": refinement.TRACK,
            "mask_soft_nms_thresh": cfg.TEST.MASK_SOFT_NMS_THRESH,
        }

    @property
    def delay(self) -> int:
        """Number of frames between giving a frame and getting it back: 0 or 1."""
        return 0 if self.neighbors == "previous" else 1

    def reset(self) -> None:
        """Forget all frames, also those not yet returned."""
        self._last: Frame | None = None
        self._waiting: deque[Frame] = deque()
        self._next_track = 0

    @torch.no_grad()
    def update(
        self,
        output: dict[str, Any],
        *,
        video_id: str | None = None,
        frame_index: int | None = None,
    ) -> list[dict[str, Any]]:
        """Take the next frame's output, and return those that are now finished.

        Args:
            output: with "instances" (``pred_boxes``, ``scores``, ``pred_classes`` and, if it
                belongs to a video, ``embeddings`` (N, C, h, w)), in any resolution, on any device;
                and "thumbnail" (64, 64), without which any two frames are taken to be of one shot,
                and "gray" (h, w), by which frames of one shot are known that have moved far.
                It is not changed. What else is in it comes back untouched.
            video_id: of which video the frame is; None: of none, it is an image of its own.
            frame_index: the frame's number in the video, on the scale of ``max_frame_gap``;
                default: one more than that of the frame before.

        Returns:
            Finished outputs in the order they were given: none, one, or (where a video ends under
            delay) more.

        Raises:
            InputError: if a frame of a video comes without what it is matched by.
        """
        if video_id is not None and not self.can_refine(output):
            raise InputError(
                f"the instances of frame {frame_index} of video {video_id!r} have no {self.needs}: "
                "set MODEL.META_ARCHITECTURE to RefinedDetector and MODEL.SRN.DETECTOR to the "
                "detector, and give the model inputs with a video_id"
            )
        last = self._last
        if frame_index is None:
            frame_index = 0 if last is None or last.video_id != video_id else last.index + 1
        current = self.frame_type(dict(output), video_id, frame_index)
        current.onward_scores = current.instances.scores

        done = []
        if last is None or last.video_id != video_id:
            self._next_track = 0
            done += self._finish_all_but(0)
        if self._in_reach(last, current) and self._same_shot(last, current):
            self._match(last, current)
        self._start_tracks(current)
        # Nothing will come that could refine a picture that belongs to no video.
        self._last = None if video_id is None else current
        self._waiting.append(current)
        return done + self._finish_all_but(0 if video_id is None else self.delay)

    def flush(self) -> list[dict[str, Any]]:
        """Finish the frames that are still waiting, if any, and start afresh."""
        done = self._finish_all_but(0)
        self.reset()
        return done

    def can_refine(self, output: dict[str, Any]) -> bool:
        """Whether an output has what its frame is matched by."""
        return output["instances"].has("embeddings")

    def _in_reach(self, last: Frame | None, current: Frame) -> bool:
        if last is None or current.video_id is None or last.video_id != current.video_id:
            return False
        if not 0 < current.index - last.index <= self.max_frame_gap:
            return False
        return last.instances.image_size == current.instances.image_size

    def _same_shot(self, last: Frame, current: Frame) -> bool:
        thumbnails = [frame.output.get("thumbnail") for frame in (last, current)]
        if self.shot_change_thresh <= 0 or any(x is None for x in thumbnails):
            return True
        a, b = thumbnails
        if shot_difference(a, b.to(a.device)) <= self.shot_change_thresh:
            return True
        # After half a second of fast flight a tenth of the thumbnails differ as much as that.
        return last.homography_to(current) is not None

    def _match(self, last: Frame, current: Frame) -> None:
        """Match the detections of two adjacent frames, if any score or track depends on it."""
        a, b = last.instances, current.instances
        if len(a) == 0 or len(b) == 0:
            return
        refinable = self.rule.is_refinable
        refine_last = self.neighbors != "previous" and bool(refinable(a.scores).any())
        refine_current = self.neighbors != "next" and bool(refinable(b.scores).any())
        if not (refine_last or refine_current or self.track):
            return
        matches = self.rule.match(a, b)
        if refine_last:
            last.candidates.append(matches.forward.with_scores(b.scores))
        if refine_current:
            candidate = matches.backward.with_scores(last.onward_scores)
            current.candidates.append(candidate)
            if self.running_mean:
                current.onward_scores, _ = self.rule.refine(b.scores, [candidate])
        if self.track:
            similarity = matches.similarity
            forward, backward = similarity.argmax(dim=1), similarity.argmax(dim=0)
            mutual = forward[backward] == torch.arange(len(backward), device=backward.device)
            mutual &= similarity.max(dim=0).values >= _TRACK_SIMILARITY
            self._continue_tracks(last, current, backward.masked_fill(~mutual, -1))

    @staticmethod
    def _continue_tracks(last: Frame, current: Frame, index: Tensor) -> None:
        """Hand track numbers on to the detections of ``current`` from those of ``last`` (``index``,
        -1: from none)."""
        ids = last.track_ids.to(index.device)
        if len(ids):
            current.track_ids = torch.where(index >= 0, ids[index.clamp(min=0)], -1)

    def _start_tracks(self, current: Frame) -> None:
        """Give a new number to each detection of a video that continues no track."""
        device, n = current.instances.scores.device, len(current.instances)
        ids = torch.full((n,), -1, dtype=torch.int64, device=device)
        if current.track_ids is not None:
            ids = current.track_ids.to(device)
        if self.track and current.video_id is not None:
            new = (ids < 0).nonzero().squeeze(1)
            ids[new] = torch.arange(len(new), device=device) + self._next_track
            self._next_track += len(new)
        current.track_ids = ids

    def _refine(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Refined scores (N,) and similarities (N,) of a frame whose neighbors are known."""
        return self.rule.refine(frame.instances.scores, frame.candidates)

    def _finish_all_but(self, count: int) -> list[dict[str, Any]]:
        """Finish the frames that wait but for the last ``count``."""
        done = []
        while len(self._waiting) > count:
            done.append(self._finish(self._waiting[0]))
            self._waiting.popleft()
        return done

    def _finish(self, frame: Frame) -> dict[str, Any]:
        """The output of a frame with its refined instances."""
        instances = frame.instances
        fields = instances.get_fields()
        refined = Instances(
            instances.image_size, **{k: v for k, v in fields.items() if k != "embeddings"}
        )
        refined.scores, refined.match_similarity = self._refine(frame)
        if frame.video_id is not None:
            refined.scores = mask_soft_nms(refined, self.mask_soft_nms_thresh)
        refined.scores_raw = instances.scores
        refined.track_id = frame.track_ids
        output = {k: v for k, v in frame.output.items() if k not in ("thumbnail", "gray")}
        return {**output, "instances": refined}
