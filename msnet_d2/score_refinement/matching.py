"""The rule of score refinement: which detections of two adjacent frames match, and what a match
makes of a score (paper, section 4.4).

Shape letters: N detections of a frame P, M of an adjacent frame Q, C channels of an embedding,
h × w cells of a region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Instances
from torch import Tensor

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.similarity import pairwise_similarity

__all__ = ["AppearanceRule", "Candidate", "Match", "Matches", "best_matches", "mutual_matches"]

# Similarities closer than this count as equal, and the match of the higher score is taken. Equal
# boxes (a detector may return one box under two classes) differ only by rounding, and the result
# must not depend on their order.
TIE = 1e-6


@dataclass(frozen=True)
class Match:
    """The match of each detection of P in Q.

    Attributes:
        similarity: (N,) in [-1, 1]; NaN without a match.
        index: (N,) int64, which detection of Q; -1 without a match.
    """

    similarity: Tensor
    index: Tensor

    def with_scores(self, scores_q: Tensor) -> Candidate:
        """What P's scores may be averaged with, given the scores (M,) of Q."""
        if len(scores_q) == 0:
            return Candidate(self.similarity, self.similarity)
        partner = scores_q.to(self.similarity)[self.index.clamp(min=0)]
        return Candidate(self.similarity, partner.masked_fill(self.index < 0, math.nan))


@dataclass(frozen=True)
class Matches:
    """The matches between two frames, in both directions.

    Attributes:
        similarity: (N, M) in [-1, 1] up to rounding, of every detection of P with every one of Q.
        forward: of P's detections in Q.
        backward: of Q's detections in P.
    """

    similarity: Tensor
    forward: Match
    backward: Match


@dataclass(frozen=True)
class Candidate:
    """What the scores of a frame may be averaged with: its matches in one adjacent frame.

    Attributes:
        similarity: (N,) of the match; NaN without one.
        score: (N,) of the match; NaN without one.
    """

    similarity: Tensor
    score: Tensor


@dataclass(frozen=True)
class AppearanceRule:
    """Match by the similarity of embeddings; average matched scores.

    The defaults are the paper's rule: each detection whose score lies in a range gets the mean of
    its score and that of the most similar detection of the adjacent frame. All others keep theirs.

    Another rule needs the same two methods, :meth:`match` and :meth:`refine`.

    Attributes:
        score_range: scores in this closed range are refined.
        same_class: match only detections of one class. Beyond the paper.
        min_similarity: less similar detections do not match. Beyond the paper, which has no limit.
        mutual_nn: two detections match only if each is the other's best match. Beyond the paper.

    Raises:
        ConfigError: if the range is none.
    """

    score_range: tuple[float, float] = (0.2, 0.7)
    same_class: bool = False
    min_similarity: float = -1.0
    mutual_nn: bool = False

    def __post_init__(self) -> None:
        low, high = self.score_range
        if not 0 <= low <= high <= 1:
            raise ConfigError(
                f"TEST.SCORE_REFINEMENT.SCORE_RANGE is {tuple(self.score_range)}: "
                "expected 0 <= C0 <= C1 <= 1"
            )

    def match(self, p: Instances, q: Instances) -> Matches:
        """Match the detections of two adjacent frames.

        Args:
            p: N detections with ``scores``, ``pred_classes`` and ``embeddings`` (N, C, h, w).
            q: M detections.

        Raises:
            ValueError: if the embeddings differ in shape.
        """
        similarity = pairwise_similarity(p.embeddings, q.embeddings)
        allowed = None
        if self.same_class:
            allowed = p.pred_classes[:, None] == q.pred_classes[None, :]
        forward = best_matches(similarity, q.scores, allowed, self.min_similarity)
        backward = best_matches(
            similarity.T, p.scores, None if allowed is None else allowed.T, self.min_similarity
        )
        if self.mutual_nn:
            forward, backward = (
                mutual_matches(forward, backward),
                mutual_matches(backward, forward),
            )
        return Matches(similarity, forward, backward)

    def refine(self, scores: Tensor, candidates: Sequence[Candidate]) -> tuple[Tensor, Tensor]:
        """Average scores with those of their matches.

        Args:
            scores: (N,) in [0, 1]; not changed.
            candidates: the matches in each adjacent frame. The most similar one counts; of equally
                similar ones, the earlier.

        Returns:
            (N,) refined scores, and (N,) the similarity of the match that was averaged in, NaN
            where none was.
        """
        refinable = self.is_refinable(scores)
        refined, similarity = scores.clone(), torch.full_like(scores, math.nan)
        for candidate in candidates:
            found, partner = candidate.similarity.to(scores), candidate.score.to(scores)
            better = refinable & ~found.isnan()
            better &= similarity.isnan() | (found > similarity + TIE)
            similarity = torch.where(better, found, similarity)
            refined = torch.where(better, (scores + partner) / 2, refined)
        return refined, similarity

    def is_refinable(self, scores: Tensor) -> Tensor:
        """Which of (N,) scores a match changes: (N,) bool. Both ends of the range are included."""
        return (scores >= self.score_range[0]) & (scores <= self.score_range[1])


def best_matches(
    similarity: Tensor,
    scores_q: Tensor,
    allowed: Tensor | None = None,
    min_similarity: float = -1.0,
) -> Match:
    """The most similar detection of Q for each of P; among equals the one with the highest score.

    Args:
        similarity: (N, M).
        scores_q: (M,).
        allowed: (N, M) bool, which pairs may match; None: all.
        min_similarity: smallest similarity of a match.
    """
    n, m = similarity.shape
    if m == 0:
        return Match(
            similarity.new_full((n,), math.nan), similarity.new_full((n,), -1, dtype=torch.int64)
        )
    # Rounding may take the similarity of a region with itself a little past 1, or of opposites past
    # -1.
    candidates = similarity.clamp(-1, 1)
    eligible = candidates >= min_similarity
    if allowed is not None:
        eligible = eligible & allowed
    candidates = candidates.masked_fill(~eligible, -math.inf)
    best = candidates.max(dim=1).values
    tied = candidates >= best[:, None] - TIE
    index = torch.where(tied, scores_q[None, :].to(similarity), -math.inf).argmax(dim=1)
    found = best > -math.inf
    return Match(best.masked_fill(~found, math.nan), index.masked_fill(~found, -1))


def mutual_matches(match: Match, back: Match) -> Match:
    """Of the matches from P to Q those that are also matches from Q to P.

    A detector often finds one part of a building several times in a frame, once with a high score
    and beside it with low ones. All of these have the same best match in the next frame, which
    itself matches only one of them.

    Args:
        match: of P's N detections in Q.
        back: of Q's M detections in P.
    """
    if len(back.index) == 0:
        return match
    own = torch.arange(len(match.index), device=match.index.device)
    kept = (match.index >= 0) & (back.index[match.index.clamp(min=0)] == own)
    return Match(match.similarity.masked_fill(~kept, math.nan), match.index.masked_fill(~kept, -1))
