"""Boundaries of masks, and which regions train the occluder layer, by hand."""

from __future__ import annotations

import torch
from bcnet.losses import binary_loss, boundaries, occluder_rows
from hypothesis import given, settings
from hypothesis import strategies as st


def test_the_boundary_of_a_square_is_one_cell_inside_and_one_outside():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:6, 2:6] = True
    # Dilated by the cross: 16 + 4 sides of 4 = 32; eroded: 2 x 2 = 4.
    assert boundaries(mask).sum() == 32 - 4
    assert not boundaries(mask)[0, 1, 1], "the corners of the ring are no neighbors by the cross"


def test_what_fills_its_region_has_no_boundary():
    assert boundaries(torch.ones(1, 8, 8, dtype=torch.bool)).sum() == 0


def test_there_is_no_boundary_at_the_edge_of_a_region():
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, :, :3] = True
    # The left half: columns 2 (inside) and 3 (outside), all four rows.
    expected = torch.zeros(1, 4, 6, dtype=torch.bool)
    expected[0, :, 2:4] = True
    assert torch.equal(boundaries(mask), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**36 - 1))
def test_a_mask_and_its_complement_have_the_same_boundary(bits):
    mask = torch.tensor([bits >> n & 1 for n in range(36)]).bool().reshape(1, 6, 6)
    assert torch.equal(boundaries(mask), boundaries(~mask))


def test_regions_are_treated_one_by_one():
    masks = torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    together = boundaries(masks)
    assert all(torch.equal(boundaries(m[None])[0], found) for m, found in zip(masks, together))


def test_regions_with_occluders_are_joined_by_as_many_without():
    occluders = torch.zeros(7, 4, 4, dtype=torch.bool)
    occluders[[1, 4]] = True
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        rows = occluder_rows(occluders).tolist()
        assert rows[:2] == [1, 4]
        assert len(set(rows)) == 4
        drawn |= set(rows[2:])
    assert drawn == {0, 2, 3, 5, 6}, "not the first ones of the batch alone"
    torch.manual_seed(3)
    first = occluder_rows(occluders)
    torch.manual_seed(3)
    assert torch.equal(occluder_rows(occluders), first)


def test_fewer_regions_without_occluders_are_all_taken():
    occluders = torch.ones(4, 2, 2, dtype=torch.bool)
    occluders[2] = False
    assert sorted(occluder_rows(occluders).tolist()) == [0, 1, 2, 3]


def test_without_any_occluder_no_region_is_taken_and_the_loss_is_0_with_gradients():
    occluders = torch.zeros(3, 2, 2, dtype=torch.bool)
    logits = torch.ones(3, 2, 2, requires_grad=True)
    rows = occluder_rows(occluders)
    loss = binary_loss(logits[rows], occluders[rows])
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2, 2))
