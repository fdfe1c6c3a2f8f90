"""Similarity of feature maps and of embedded regions (paper, section 4.3).

Shape letters: N, M items, C channels, H × W positions of a map, h × w cells of a region. Pure
functions of tensors; nothing here has parameters or state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["normalized_cells", "pairwise_similarity", "spatial_similarity"]

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
    # A fifth of the time of normalizing the maps, which would copy both.
    with torch.autocast(a.device.type, enabled=False):
        a, b = _single(a), _single(b)
        lengths = [torch.linalg.vector_norm(x, dim=1).clamp(min=_EPS) for x in (a, b)]
        cosine = (torch.linalg.vecdot(a, b, dim=1) / (lengths[0] * lengths[1])).flatten(1)
    if cosine.shape[1] == 0:
        return cosine.new_zeros(len(cosine))
    return cosine.mean(dim=1)


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
