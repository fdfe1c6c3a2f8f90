"""The rule of score refinement for a pair of frames, on tensors alone (paper, section 4.4).

Shape letters: N detections of a frame P, M of an adjacent frame Q, C channels of an embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from msnet_d2.score_refinement.losses import pairwise_similarity

__all__ = ["TIE", "best_matches", "in_range", "mutual_matches", "refine_scores"]

# Similarities closer than this count as equal, and the match of the higher score is taken. Equal
# boxes (a detector may return one box under two classes) differ only by rounding, and the result
# must not depend on their order.
TIE = 1e-6


def refine_scores(
    scores_p: Tensor,
    embeddings_p: Tensor,
    scores_q: Tensor,
    embeddings_q: Tensor,
    score_range: tuple[float, float] = (0.2, 0.7),
    *,
    classes_p: Tensor | None = None,
    classes_q: Tensor | None = None,
    min_similarity: float = -1.0,
    mutual: bool = False,
) -> Tensor:
    """Refine the scores of a frame P by those of an adjacent frame Q (paper, section 4.4).

    A detection of P whose score lies in the closed ``score_range`` gets the average of its own
    score and that of the detection of Q most similar to it; all others keep theirs.

    Args:
        scores_p: (N,) in [0, 1].
        embeddings_p: (N, C, h, w), f's output pooled at the boxes of P.
        scores_q: (M,).
        embeddings_q: (M, C, h, w).
        score_range: which scores are refined, both ends included.
        classes_p: (N,) with ``classes_q``: only detections of equal class match. Beyond the paper.
        classes_q: (M,).
        min_similarity: less similar detections do not match. Beyond the paper, which has no limit
            (-1).
        mutual: two detections match only if each is the other's best match. Beyond the paper.

    Returns:
        (N,) new scores; ``scores_p`` is not changed. Without a match (M = 0 among the reasons) a
        score stays.

    Raises:
        ValueError: if scores, embeddings and classes differ in number, or only one frame's classes
            are given.
    """
    _check_lengths("P", scores_p, embeddings_p, classes_p)
    _check_lengths("Q", scores_q, embeddings_q, classes_q)
    if (classes_p is None) != (classes_q is None):
        raise ValueError("classes are compared if those of both frames are given, but one is None")
    allowed = None if classes_p is None else classes_p[:, None] == classes_q[None, :]
    pairs = pairwise_similarity(embeddings_p, embeddings_q)
    similarity, match = best_matches(pairs, scores_q, allowed, min_similarity)
    if mutual:
        _, back = best_matches(
            pairs.T, scores_p, None if allowed is None else allowed.T, min_similarity
        )
        similarity, match = mutual_matches(similarity, match, back)
    use = in_range(scores_p, score_range) & ~similarity.isnan()
    partner = scores_q[match.clamp(min=0)] if len(scores_q) else scores_p
    return torch.where(use, (scores_p + partner.to(scores_p)) / 2, scores_p)


def best_matches(
    similarity: Tensor,
    scores_q: Tensor,
    allowed: Tensor | None = None,
    min_similarity: float = -1.0,
) -> tuple[Tensor, Tensor]:
    """The most similar detection of Q for each of P; among equals the one with the highest score.

    Args:
        similarity: (N, M).
        scores_q: (M,).
        allowed: (N, M) bool, which pairs may match; None: all.
        min_similarity: smallest similarity of a match.

    Returns:
        (N,) similarity of the match, NaN where there is none, and (N,) int64 its index in Q, -1
        where there is none.
    """
    n, m = similarity.shape
    if m == 0:
        return similarity.new_full((n,), math.nan), similarity.new_full((n,), -1, dtype=torch.int64)
    # Rounding may take the similarity of a region with itself a little past 1, or of opposites past
    # -1.
    candidates = similarity.clamp(-1, 1)
    eligible = candidates >= min_similarity
    if allowed is not None:
        eligible = eligible & allowed
    candidates = candidates.masked_fill(~eligible, -math.inf)
    best = candidates.max(dim=1).values
    tied = candidates >= best[:, None] - TIE
    match = torch.where(tied, scores_q[None, :].to(similarity), -math.inf).argmax(dim=1)
    found = best > -math.inf
    return best.masked_fill(~found, math.nan), match.masked_fill(~found, -1)


def mutual_matches(similarity: Tensor, match: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """Of the matches from P to Q those that are also matches from Q to P.

    A part of a video is often found several times in a frame, once with a high score and beside it
    with low ones. Its best match is one of them, but only one of them is its best match's.

    Args:
        similarity: (N,) of the matches, NaN where there is none.
        match: (N,) int64 index in Q of the best match of each of P, -1 for none.
        back: (M,) int64 index in P of the best match of each of Q, -1 for none.

    Returns:
        ``similarity`` and ``match`` with NaN and -1 where a match is not mutual.
    """
    if len(back) == 0:
        return similarity, match
    own = torch.arange(len(match), device=match.device)
    kept = (match >= 0) & (back[match.clamp(min=0)] == own)
    return similarity.masked_fill(~kept, math.nan), match.masked_fill(~kept, -1)


def in_range(scores: Tensor, score_range: tuple[float, float]) -> Tensor:
    """Which of (N,) scores are refined: (N,) bool, both ends of the range included."""
    return (scores >= score_range[0]) & (scores <= score_range[1])


def _check_lengths(name: str, scores: Tensor, embeddings: Tensor, classes: Tensor | None) -> None:
    lengths = [len(x) for x in (scores, embeddings, classes) if x is not None]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"scores, embeddings and classes of frame {name} are aligned, but there are {lengths}"
        )
