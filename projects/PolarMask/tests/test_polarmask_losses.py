"""Polar IoU loss and polar centerness by hand."""

from __future__ import annotations

import math

import pytest
import torch
from polarmask.losses import polar_centerness, polar_iou_loss


@pytest.mark.parametrize(
    ("lengths", "targets", "expected"),
    [
        ([3, 4, 5, 6], [3, 4, 5, 6], 0.0),
        # All rays twice as long: log 2, whichever of the two is longer.
        ([2, 4, 6, 8], [1, 2, 3, 4], math.log(2)),
        ([1, 2, 3, 4], [2, 4, 6, 8], math.log(2)),
        # max: 5 + 4 + 3 + 6 = 18, min: 3 + 2 + 1 + 6 = 12: log 1.5.
        ([5, 2, 3, 6], [3, 4, 1, 6], math.log(1.5)),
        # A ray that meets nothing: (2 + 8) / (2 + 1e-6).
        ([2, 8], [2, 1e-6], math.log(5)),
    ],
)
def test_polar_iou_loss(lengths, targets, expected):
    loss = polar_iou_loss(torch.tensor([lengths]).float(), torch.tensor([targets]).float())
    assert loss.tolist() == pytest.approx([expected], abs=1e-5)


def test_polar_iou_loss_is_per_row_and_independent_of_scale():
    rays = torch.tensor([[1.0, 2, 3], [10, 20, 30]])
    targets = torch.tensor([[2.0, 2, 2], [20, 20, 20]])
    # max 2 + 2 + 3 = 7, min 1 + 2 + 2 = 5.
    assert polar_iou_loss(rays, targets).tolist() == pytest.approx([math.log(7 / 5)] * 2)


def test_polar_iou_loss_pulls_each_ray_towards_its_target():
    rays = torch.tensor([[1.0, 5.0]], requires_grad=True)
    polar_iou_loss(rays, torch.tensor([[3.0, 3.0]])).sum().backward()
    # d/da log(8 / (a + 3)) = -1/4 for the short ray, d/db log((b + 3) / 4) = 1/8 for the long one.
    assert rays.grad.tolist() == [pytest.approx([-0.25, 0.125])]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5, 5, 5, 5], 1.0),
        ([4, 9, 16, 16], 0.5),  # sqrt(4 / 16)
        ([1e-6, 1, 1, 1], 1e-3),  # outside its shape
    ],
)
def test_polar_centerness(lengths, expected):
    assert polar_centerness(torch.tensor([lengths]).float()).tolist() == pytest.approx([expected])


def test_empty():
    empty = torch.zeros(0, 36)
    assert polar_iou_loss(empty, empty).shape == (0,)
    assert polar_centerness(empty).shape == (0,)
