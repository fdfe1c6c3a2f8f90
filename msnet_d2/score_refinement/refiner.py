"""Refines the scores of a video's detections by the adjacent frames' (paper, section 4.4).

A stream of frames is refined like this; ``output`` is what a model returned for one frame::

    refiner = ScoreRefiner(cfg)
    for output in outputs_of_a_model_in_the_order_of_the_frames:
        for done in refiner.push(output, video_id="flight", frame_index=i):
            use(done)  # in the order pushed
    for done in refiner.flush():
        use(done)

What the refiner needs to know of a frame's pixels travels in the output as
``output["refinement_frame"]``, a :class:`.refinement_frame.RefinementFrame`.
``MSNet`` puts it there when ``MODEL.SRN.ENABLED`` and the input has a ``video_id``;
:class:`.refined_model.RefinedModel` does so for any other model. It holds the
frame's feature maps (about 90 MB at 800 × 1333) until the refiner has taken it out, so push an
output before the next frame is computed and do not queue outputs that still carry one.

With ``NEIGHBOUR`` "previous" :meth:`ScoreRefiner.push` returns exactly the frame it was given. With
"next" and "both" it returns the frame before (or none, for the first one), and
:meth:`ScoreRefiner.flush` the last one. Frames that belong to no video (``video_id`` None) pass
through, in their turn, with their scores as they are.

A finished output has these fields in ``output["instances"]``, aligned with the detections, whose
order, boxes, classes and masks are those that came in:

* ``scores``: (N,) refined;
* ``scores_raw``: (N,) as the detector gave them;
* ``match_similarity``: (N,) similarity in [-1, 1] of the match whose score was averaged in; NaN
  where none was;
* ``track_id``: (N,) int64, a hint which detections of a video are one object: counted from 0 in
  each video, kept from frame to frame while two detections are each other's best match; -1 where it
  is not known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.structures import Instances
from torch import Tensor

from msnet_d2.errors import ConfigError, InputError
from msnet_d2.score_refinement.losses import pairwise_similarity
from msnet_d2.score_refinement.matching import (
    TIE,
    best_matches,
    in_range,
    mutual_matches,
    refine_scores,
)
from msnet_d2.score_refinement.refinement_frame import FRAME_KEY, RefinementFrame

__all__ = ["NEIGHBOURS", "ScoreRefiner", "refine_scores"]

NEIGHBOURS = ("previous", "next", "both")

# Two detections continue a track if each is the other's best match and they are at least this
# similar.
_TRACK_SIMILARITY = 0.5


@dataclass
class _Frame:
    """A frame that waits for its neighbours."""

    output: dict[str, Any]
    video_id: str | None
    index: int
    frame: RefinementFrame | None
    # Of each neighbour so far: (N,) similarity of the match (NaN: none) and (N,) its score.
    matches: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    track_ids: Tensor | None = None
    # (N,) what the next frame's matches are averaged with: the scores, refined by the past if they
    # are carried on.
    carried: Tensor | None = None

    @property
    def instances(self) -> Instances:
        return self.output["instances"]

    def embeddings(self) -> Tensor:
        return self.frame.embed(self.instances.pred_boxes, self.instances.image_size)


class ScoreRefiner:
    """Refines the scores of a stream of frames; the module's docstring shows how it is driven.

    A frame is adjacent to the one pushed before it if both have the same ``video_id`` and size, its
    ``frame_index`` is larger by at most ``max_gap``, and there is no cut between them. Otherwise it
    starts afresh: neither refines the other. Matches use the neighbour's unrefined scores, so a
    frame's result depends on its neighbours alone; with ``carry`` it depends on all frames before.

    It keeps at most one frame, whatever the length of the video, and embeds a frame at most once.
    """

    @configurable
    def __init__(
        self,
        *,
        score_range: tuple[float, float] = (0.2, 0.7),
        neighbour: str = "previous",
        max_gap: int = 30,
        cut_threshold: float = 0.0,
        same_class: bool = False,
        min_similarity: float = -1.0,
        mutual: bool = False,
        carry: bool = False,
        track: bool = True,
    ) -> None:
        """Explicit arguments, or ``ScoreRefiner(cfg)``: MODEL.SRN has a key of each name.

        Args:
            score_range: scores in this closed range are refined.
            neighbour: "previous" (no delay), "next" or "both" (one frame of delay): which adjacent
                frames refine. "both" averages with the more similar of the two matches.
            max_gap: largest difference of ``frame_index`` of adjacent frames.
            cut_threshold: frames that differ more than this are of different shots, see
                :func:`.shots.shot_difference`; 0: cuts are not looked for.
            same_class: match only detections of equal class. Beyond the paper.
            min_similarity: smallest similarity of a match. Beyond the paper.
            mutual: two detections match only if each is the other's best match. Beyond the paper.
            carry: a match in the previous frame counts with its score as refined by the frames
                before it, so that a score becomes a running mean along a track, half of it the
                frame's own; a match in the next frame counts with its unrefined score as ever.
                Beyond the paper.
            track: give ``track_id``; otherwise it is -1, and frames without scores in the range are
                not embedded.

        Raises:
            ConfigError: if an argument is out of range.
        """
        low, high = score_range
        if not 0 <= low <= high <= 1:
            raise ConfigError(
                f"MODEL.SRN.SCORE_RANGE is {tuple(score_range)}: expected 0 <= C0 <= C1 <= 1"
            )
        if neighbour not in NEIGHBOURS:
            raise ConfigError(f"MODEL.SRN.NEIGHBOUR is {neighbour!r}: expected one of {NEIGHBOURS}")
        if max_gap < 1:
            raise ConfigError(
                f"MODEL.SRN.MAX_GAP is {max_gap}: adjacent frames are at least 1 apart"
            )
        self.score_range = (float(low), float(high))
        self.neighbour = neighbour
        self.max_gap = max_gap
        self.cut_threshold = cut_threshold
        self.same_class = same_class
        self.min_similarity = min_similarity
        self.mutual = mutual
        self.carry = carry
        self.track = track
        self.reset()

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Translate MODEL.SRN into the arguments of the constructor."""
        srn = cfg.MODEL.SRN
        return {
            "score_range": tuple(srn.SCORE_RANGE),
            "neighbour": srn.NEIGHBOUR,
            "max_gap": srn.MAX_GAP,
            "cut_threshold": srn.CUT_THRESHOLD,
            "same_class": srn.SAME_CLASS,
            "min_similarity": srn.MIN_SIMILARITY,
            "mutual": srn.MUTUAL,
            "carry": srn.CARRY,
            "track": srn.TRACK,
        }

    @property
    def delay(self) -> int:
        """Number of frames between pushing a frame and getting it back: 0 or 1."""
        return 0 if self.neighbour == "previous" else 1

    def reset(self) -> None:
        """Forget all frames, also those not yet returned."""
        self._last: _Frame | None = None
        self._next_track = 0

    @torch.no_grad()
    def push(
        self,
        output: dict[str, Any],
        frame: RefinementFrame | None = None,
        *,
        video_id: str | None = None,
        frame_index: int | None = None,
    ) -> list[dict[str, Any]]:
        """Take the next frame's output, and return those that are now finished.

        Args:
            output: with "instances" (``pred_boxes``, ``scores``, ``pred_classes``), in any
                resolution, on any device. What else is in it comes back untouched.
            frame: the frame's features; default: ``output["refinement_frame"]``, which is not in
                the result.
            video_id: of which video the frame is; None: of none, it is a picture of its own.
            frame_index: the frame's number in the video, on the scale of ``max_gap``; default: one
                more than the frame pushed before.

        Returns:
            Finished outputs in the order pushed: none, one, or (where a video ends under delay)
            two.

        Raises:
            InputError: if a frame of a video comes without its features.
        """
        output = dict(output)
        frame = output.pop(FRAME_KEY, None) if frame is None else frame
        if video_id is not None and frame is None:
            raise InputError(
                f"frame {frame_index} of video {video_id!r} comes without its features "
                f"({FRAME_KEY!r} in the output of the model): use an MSNet with MODEL.SRN.ENABLED, "
                "or wrap the model in RefinedModel"
            )
        output.pop(FRAME_KEY, None)
        last = self._last
        if frame_index is None:
            frame_index = 0 if last is None or last.video_id != video_id else last.index + 1
        current = _Frame(output, video_id, frame_index, frame)
        current.carried = current.instances.scores

        if last is None or last.video_id != video_id:
            self._next_track = 0
        if self._adjacent(last, current):
            self._match(last, current)
        self._start_tracks(current)
        done = []
        if last is not None and self.delay:
            done.append(self._finish(last))
        self._last = current
        if not self.delay:
            done.append(self._finish(current))
        elif video_id is None:  # nothing will come that could refine it
            done.append(self._finish(current))
            self._last = None
        return done

    def flush(self) -> list[dict[str, Any]]:
        """Finish the frame that is still waiting, if any, and start afresh."""
        last = self._last
        self.reset()
        return [self._finish(last)] if last is not None and self.delay else []

    def _adjacent(self, last: _Frame | None, current: _Frame) -> bool:
        if last is None or current.video_id is None or last.video_id != current.video_id:
            return False
        if not 0 < current.index - last.index <= self.max_gap:
            return False
        sizes = [(f.instances.image_size, f.frame.image_size) for f in (last, current)]
        if sizes[0] != sizes[1]:
            return False
        if self.cut_threshold <= 0:
            return True
        return last.frame.difference(current.frame) <= self.cut_threshold

    def _match(self, last: _Frame, current: _Frame) -> None:
        """Match the detections of two adjacent frames, if any score or track depends on it."""
        a, b = last.instances, current.instances
        if len(a) == 0 or len(b) == 0:
            return
        refine_last = self.neighbour != "previous" and bool(self._refinable(last).any())
        refine_current = self.neighbour != "next" and bool(self._refinable(current).any())
        if not (refine_last or refine_current or self.track):
            return
        similarity = pairwise_similarity(last.embeddings(), current.embeddings())
        allowed = None
        if self.same_class:
            allowed = (a.pred_classes[:, None] == b.pred_classes[None, :]).to(similarity.device)
        # From the frame before to this one, and back.
        onward = best_matches(similarity, b.scores.to(similarity), allowed, self.min_similarity)
        back = best_matches(
            similarity.T,
            a.scores.to(similarity),
            None if allowed is None else allowed.T,
            self.min_similarity,
        )
        if self.mutual:
            onward, back = (
                mutual_matches(*onward, back[1]),
                mutual_matches(*back, onward[1]),
            )
        if refine_last:
            found, match = onward
            last.matches.append((found, b.scores.to(found)[match.clamp(min=0)]))
        if refine_current:
            found, match = back
            partner = last.carried.to(found)[match.clamp(min=0)]
            current.matches.append((found, partner))
            if self.carry:
                use = self._refinable(current).to(found.device) & ~found.isnan()
                own = b.scores.to(found)
                current.carried = torch.where(use, (own + partner) / 2, own)
        if self.track:
            self._link(last, current, similarity)

    def _link(self, last: _Frame, current: _Frame, similarity: Tensor) -> None:
        forward, backward = similarity.argmax(dim=1), similarity.argmax(dim=0)
        mutual = forward[backward] == torch.arange(len(backward), device=backward.device)
        mutual &= similarity.max(dim=0).values >= _TRACK_SIMILARITY
        current.track_ids = torch.where(mutual, last.track_ids.to(similarity.device)[backward], -1)

    def _start_tracks(self, current: _Frame) -> None:
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

    def _refinable(self, frame: _Frame) -> Tensor:
        return in_range(frame.instances.scores, self.score_range)

    def _finish(self, frame: _Frame) -> dict[str, Any]:
        """The output of a frame with its refined instances."""
        instances = frame.instances
        raw = instances.scores
        scores = raw.clone()
        similarity = torch.full_like(raw, math.nan)
        for found, partner in frame.matches:
            found, partner = found.to(raw), partner.to(raw)
            better = self._refinable(frame) & ~found.isnan()
            better &= similarity.isnan() | (found > similarity + TIE)
            similarity = torch.where(better, found, similarity)
            scores = torch.where(better, (raw + partner) / 2, scores)
        refined = Instances(instances.image_size, **instances.get_fields())
        refined.scores = scores
        refined.scores_raw = raw
        refined.match_similarity = similarity
        refined.track_id = frame.track_ids
        return {**frame.output, "instances": refined}
