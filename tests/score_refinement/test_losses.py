"""Similarity and loss against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.score_refinement.losses import hardest_negatives, multi_scale_consistency_loss
from msnet_d2.score_refinement.similarity import pairwise_similarity, spatial_similarity


def maps(*positions):
    """A map (1, C, 1, W) with the given vectors at its positions."""
    return torch.tensor(positions, dtype=torch.float32).T[None, :, None, :]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # the lengths do not count: cos((3, 4), (6, 8)) = 1
        (maps((3, 4)), maps((6, 8)), 1.0),
        # orthogonal, opposite
        (maps((1, 0)), maps((0, 2)), 0.0),
        (maps((1, 2)), maps((-1, -2)), -1.0),
        # mean, not sum, over positions: (cos 0° + cos 90°) / 2
        (maps((1, 0), (1, 0)), maps((2, 0), (0, 2)), 0.5),
        # (3·4 + 4·3) / (5 · 5) = 0.96, and (1·1) / (1 · √2) = 0.70711; their mean
        (maps((3, 4), (1, 0)), maps((4, 3), (1, 1)), (0.96 + 1 / math.sqrt(2)) / 2),
        # a zero vector counts as 0 and takes part in the mean
        (maps((0, 0), (1, 0)), maps((1, 0), (1, 0)), 0.5),
        (maps((0, 0)), maps((0, 0)), 0.0),
    ],
)
def test_similarity_by_hand(a, b, expected):
    assert spatial_similarity(a, b).tolist() == pytest.approx([expected], abs=1e-6)


def test_similarity_has_one_value_per_item():
    a = torch.cat([maps((1, 0), (1, 0)), maps((1, 0), (0, 1))])
    b = torch.cat([maps((1, 0), (1, 0)), maps((0, 1), (0, 1))])
    assert spatial_similarity(a, b).tolist() == pytest.approx([1.0, 0.5])
    assert spatial_similarity(a[:0], b[:0]).shape == (0,)
    assert spatial_similarity(a[..., :0], b[..., :0]).tolist() == [0.0, 0.0]


def test_gradient_at_a_zero_vector_is_finite():
    a = torch.zeros(1, 4, 2, 2, requires_grad=True)
    spatial_similarity(a, torch.ones(1, 4, 2, 2)).sum().backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    # 1024 · 100 · 100 is 157 times the largest float16
    a = torch.full((1, 1024, 2, 2), 100.0).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert spatial_similarity(a, a).tolist() == pytest.approx([1.0], abs=1e-6)
        assert pairwise_similarity(a, a).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 3, 5), (2, 2, 3, 4)])
def test_similarity_refuses_maps_that_differ(shape):
    with pytest.raises(ValueError, match="equal shape"):
        spatial_similarity(torch.zeros(1, 2, 3, 4), torch.zeros(shape))


def test_loss_by_hand():
    # Level 1: Sim(X, X⁺) = 1, Sim(X, X⁻) = 0: D⁺ − D⁻ + m = 0 − 1 + 0.5 < 0, so 0.
    # Level 2: Sim(X, X⁺) = 0.96, Sim(X, X⁻) = 0.6: D⁺ − D⁻ + m = 0.04 − 0.4 + 0.5 = 0.14.
    # Level 3: Sim(X, X⁺) = 0, Sim(X, X⁻) = 1: 1 − 0 + 0.5 = 1.5.
    anchor = [maps((1, 0)), maps((3, 4)), maps((1, 0))]
    positive = [maps((2, 0)), maps((4, 3)), maps((0, 1))]
    negative = [maps((0, 2)), maps((1, 0)), maps((1, 0))]
    loss = multi_scale_consistency_loss(anchor, positive, negative, margin=0.5)
    assert loss.tolist() == pytest.approx([0 + 0.14 + 1.5], abs=1e-6)


def test_loss_is_per_triplet_and_levels_may_differ_in_size():
    # Triplet 1 has X⁺ = X and X⁻ orthogonal (D⁺ − D⁻ + 1 = 0 on both levels), triplet 2 the reverse
    # (2 on both).
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    anchor, positive, negative = [], [], []
    for size in (4, 2):
        spread = lambda v: v[:, None, None].expand(2, size, size)  # noqa: B023, E731
        anchor.append(torch.stack([spread(x), spread(x)]))
        positive.append(torch.stack([spread(x), spread(y)]))
        negative.append(torch.stack([spread(y), spread(x)]))
    loss = multi_scale_consistency_loss(anchor, positive, negative, margin=1.0)
    assert loss.tolist() == pytest.approx([0.0, 4.0], abs=1e-6)


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 1, 2), (2, 2, 1)])
def test_loss_refuses_lists_of_unequal_length(lengths):
    with pytest.raises(ValueError, match="equally many levels"):
        multi_scale_consistency_loss(*[[maps((1, 0))] * n for n in lengths], margin=1.0)


@pytest.mark.parametrize(
    ("losses", "k", "expected"),
    [
        ([0.5, 2.0, 1.0], 1, [1]),
        ([0.5, 2.0, 1.0], 2, [1, 2]),
        ([0.5, 2.0, 1.0], 9, [1, 2, 0]),
        # of equal ones the earlier
        ([3.0, 1.0, 3.0], 1, [0]),
        ([0.0, 0.0], 2, [0, 1]),
    ],
)
def test_hardest_negatives(losses, k, expected):
    assert hardest_negatives(torch.tensor(losses), k).tolist() == expected


def test_at_least_one_negative():
    with pytest.raises(ValueError, match="at least one"):
        hardest_negatives(torch.ones(3), 0)


@given(seed=st.integers(0, 10_000), n=st.integers(0, 5), m=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_pairwise_is_spatial_similarity_of_every_pair(seed, n, m):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, 8, 3, 3, generator=g).relu()
    b = torch.randn(m, 8, 3, 3, generator=g).relu()
    pairs = pairwise_similarity(a, b)
    assert pairs.shape == (n, m)
    for i in range(n):
        each = spatial_similarity(a[i].expand(m, -1, -1, -1), b)
        assert torch.allclose(pairs[i], each, atol=1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_similarity_is_symmetric_bounded_and_blind_to_scale(seed, scale):
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 8, 4, 5, generator=g)
    similarity = spatial_similarity(a, b)
    assert (similarity.abs() <= 1 + 1e-6).all()
    assert torch.allclose(similarity, spatial_similarity(b, a), atol=1e-6)
    assert torch.allclose(similarity, spatial_similarity(a * scale, b), atol=1e-5)
