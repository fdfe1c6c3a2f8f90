"""Losses that the embedding network learns from, on triplets of frames (paper, section 4.3).

Shape letters: N items, C channels, H × W positions of a map, L levels of a feature pyramid, K'
negatives of a triplet, F frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.similarity import spatial_similarity

__all__ = ["hardest_negatives", "multi_scale_consistency_loss", "triplet_losses"]


def multi_scale_consistency_loss(
    anchor: Sequence[Tensor],
    positive: Sequence[Tensor],
    negative: Sequence[Tensor],
    margin: float = 1.0,
) -> Tensor:
    """Triplet loss over the levels of a pyramid: Σ_k max(0, D(X_k, X⁺_k) − D(X_k, X⁻_k) + margin),
    D = 1 − Sim.

    Args:
        anchor: L embedded maps (N, C, H_k, W_k) of the frames X.
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


def triplet_losses(
    srn: ScoreRefinementNetwork,
    extract_features: Callable[[Tensor], Mapping[str, Tensor]],
    triplets: Sequence[Tensor],
    *,
    margin: float = 1.0,
    hardest_k: int = 1,
    loss_weight: float = 1.0,
) -> dict[str, Tensor]:
    """The multi-scale consistency loss of a batch of triplets.

    A triplet's frames go through the backbone together, once. Which negatives are the hardest is
    found without gradients, one frame at a time: gradients through all of them would take several
    gigabytes at full size.

    Args:
        srn: the embedding network.
        extract_features: the detector's: frames (F, 3, H, W) of values 0 to 255 to feature maps
            (F, C, H_k', W_k') by name, padded below and at the right.
        triplets: (2 + K', 3, H, W) each, X, X⁺ and K' negatives; sizes may differ between triplets.
        margin: of the loss.
        hardest_k: how many negatives of a triplet are optimised, those of the largest loss.
        loss_weight: factor of the result.

    Returns:
        {"loss_mcl": mean over the batch's triplets and their hardest negatives}.

    Raises:
        ValueError: if there is no triplet, or one without a negative.
    """
    if not triplets or any(len(frames) < 3 for frames in triplets):
        raise ValueError(
            "a triplet is a frame, a positive and one or more negatives, but got "
            f"{[tuple(frames.shape) for frames in triplets]}"
        )
    losses, similarities = [], []
    for frames in triplets:
        features = _without_padding(extract_features(frames), srn, frames.shape[-2:])
        hardest = _find_hardest(srn, features, margin, hardest_k)
        used = torch.cat([hardest.new_tensor([0, 1]), hardest + 2])
        embedded = list(srn({name: x[used] for name, x in features.items()}).values())
        k = len(hardest)
        anchor = [x[:1].expand(k, -1, -1, -1) for x in embedded]
        positive = [x[1:2].expand(k, -1, -1, -1) for x in embedded]
        negative = [x[2:] for x in embedded]
        losses.append(multi_scale_consistency_loss(anchor, positive, negative, margin))
        similarities.append([_mean_similarity(anchor, x) for x in (positive, negative)])
    if has_event_storage():
        storage = get_event_storage()
        positive, negative = torch.tensor(similarities).mean(dim=0).tolist()
        storage.put_scalar("srn/similarity_positive", positive)
        storage.put_scalar("srn/similarity_hardest_negative", negative)
    return {"loss_mcl": loss_weight * torch.cat(losses).mean()}


@torch.no_grad()
def _find_hardest(
    srn: ScoreRefinementNetwork, features: Mapping[str, Tensor], margin: float, k: int
) -> Tensor:
    """(min(k, K'),) numbers of the hardest negatives of a triplet with features (2 + K', C, H_k,
    W_k)."""

    def embed(i: int) -> list[Tensor]:
        return list(srn({name: x[i : i + 1] for name, x in features.items()}).values())

    anchor, positive = embed(0), embed(1)
    count = len(next(iter(features.values()))) - 2
    if k >= count:
        return torch.arange(count, device=anchor[0].device)
    losses = [
        multi_scale_consistency_loss(anchor, positive, embed(2 + i), margin) for i in range(count)
    ]
    return hardest_negatives(torch.cat(losses), k)


def _without_padding(
    features: Mapping[str, Tensor], srn: ScoreRefinementNetwork, size: tuple[int, int]
) -> dict[str, Tensor]:
    """The maps that are embedded, without the positions that lie wholly in the padding."""
    return {
        name: features[name][..., : math.ceil(size[0] / stride), : math.ceil(size[1] / stride)]
        for name, stride in zip(srn.in_features, srn.strides)
    }


@torch.no_grad()
def _mean_similarity(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return float(torch.stack([spatial_similarity(x, y) for x, y in zip(a, b)]).mean())
