"""Similarity of feature maps and the loss that the Score Refinement Network learns from (paper,
section 4.3).

Shape letters: N items, C channels, H × W positions of a map, L levels of a feature pyramid, K
negatives. Pure functions of tensors; nothing here has parameters or state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "hardest_negatives",
    "multi_scale_consistency_loss",
    "normalized_cells",
    "pairwise_similarity",
    "spatial_similarity",
]

# Lengths are at least this, so that the cosine of a zero vector with anything is 0.
_EPS = 1e-6


def spatial_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Mean over all positions of the cosine between two feature maps (paper, equation for Sim).

    The paper writes a sum over positions; the mean keeps the margin of the loss independent of the
    size of the frame.

    Args:
        a: (N, C, H, W).
        b: (N, C, H, W).

    Returns:
        (N,) in [-1, 1]. A position where either vector is zero counts as 0. Empty (0,) for N = 0;
        zeros for maps without positions.

    Raises:
        ValueError: if the shapes differ or are not four-dimensional.
    """
    if a.dim() != 4 or a.shape != b.shape:
        raise ValueError(
            "spatial_similarity compares two maps (N, C, H, W) of equal shape, but got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    # A fifth of the time of normalising the maps, which would copy both.
    with torch.autocast(a.device.type, enabled=False):
        a, b = _single(a), _single(b)
        lengths = [torch.linalg.vector_norm(x, dim=1).clamp(min=_EPS) for x in (a, b)]
        cosine = (torch.linalg.vecdot(a, b, dim=1) / (lengths[0] * lengths[1])).flatten(1)
    if cosine.shape[1] == 0:
        return cosine.new_zeros(len(cosine))
    return cosine.mean(dim=1)


def multi_scale_consistency_loss(
    anchor: Sequence[Tensor],
    positive: Sequence[Tensor],
    negative: Sequence[Tensor],
    margin: float = 1.0,
) -> Tensor:
    """Triplet loss over the levels of a pyramid: Σ_k max(0, D(X_k, X⁺_k) − D(X_k, X⁻_k) + margin),
    D = 1 − Sim.

    Args:
        anchor: L maps (N, C, H_k, W_k) of the frames X, embedded by f.
        positive: the same of frames that show the same (X⁺).
        negative: the same of frames that show something else (X⁻).
        margin: by how much the positive shall be nearer, on the scale of a cosine. Authors' code:
            1.

    Returns:
        (N,) the loss of each triplet, summed over levels, in [0, L · (2 + margin)].

    Raises:
        ValueError: if there are no levels or the lists differ in length.
    """
    if not anchor or not len(anchor) == len(positive) == len(negative):
        raise ValueError(
            "the loss needs equally many levels of anchor, positive and negative, but got "
            f"{len(anchor)}, {len(positive)} and {len(negative)}"
        )
    terms = [
        F.relu(spatial_similarity(x, n) - spatial_similarity(x, p) + margin)
        for x, p, n in zip(anchor, positive, negative)
    ]
    return torch.stack(terms).sum(dim=0)


def hardest_negatives(losses: Tensor, k: int = 1) -> Tensor:
    """Which negatives of one (X, X⁺) pair to optimise: those of the largest loss (paper: K = 1 of
    5).

    Args:
        losses: (K',) the loss of the pair with each of its negatives.
        k: how many to take; more than K' takes all.

    Returns:
        (min(k, K'),) int64 indices, hardest first; of equal losses the earlier negative.

    Raises:
        ValueError: if ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"at least one negative has to be optimised, but k is {k}")
    return torch.sort(losses, descending=True, stable=True).indices[:k]


def normalized_cells(embeddings: Tensor) -> Tensor:
    """Flatten embedded regions so that one dot product is the mean cosine over their cells.

    Args:
        embeddings: (N, C, h, w), such as RoIAlign gives.

    Returns:
        (N, C · h · w): each cell's vector over the square root of the number of cells, at length 1
        (or 0).
    """
    cells = max(embeddings.shape[-2] * embeddings.shape[-1], 1)
    return F.normalize(_single(embeddings), dim=1, eps=_EPS).flatten(1) / cells**0.5


def pairwise_similarity(a: Tensor, b: Tensor) -> Tensor:
    """:func:`spatial_similarity` of every region of one frame with every region of another, by one
    matrix product.

    Args:
        a: (N, C, h, w).
        b: (M, C, h, w).

    Returns:
        (N, M) in [-1, 1].

    Raises:
        ValueError: if the regions differ in shape.
    """
    if a.dim() != 4 or b.dim() != 4 or a.shape[1:] != b.shape[1:]:
        raise ValueError(
            "regions (N, C, h, w) and (M, C, h, w) are compared, but got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    with torch.autocast(a.device.type, enabled=False):
        return normalized_cells(a) @ normalized_cells(b).T


def _single(x: Tensor) -> Tensor:
    """At least single precision: in half, the products of a thousand channels may overflow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
