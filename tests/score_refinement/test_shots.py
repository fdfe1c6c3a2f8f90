"""Frames of one shot and of two."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from msnet_d2.score_refinement.shots import shot_difference, thumbnail


def ground(seed, height=240, width=640):
    """A texture with details of a tenth of a frame's height."""
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, height // 16, width // 16, generator=g) * 255
    return F.interpolate(small, size=(height, width), mode="bilinear")[0]


def view(seed, left, width=320):
    return thumbnail(ground(seed)[:, :, left : left + width])


def test_a_frame_and_itself():
    assert shot_difference(view(0, 0), view(0, 0)) == pytest.approx(0, abs=1e-5)


# the overlap is 95, 80, 65 per cent; a shift of a fraction of the thumbnail's pixels costs a little
@pytest.mark.parametrize("shift", [15, 64, 112])
def test_a_moving_camera(shift):
    assert shot_difference(view(0, 0), view(0, shift)) < 0.15
    assert shot_difference(view(0, shift), view(0, 0)) < 0.15


def test_another_place():
    assert min(shot_difference(view(0, 0), view(seed, 0)) for seed in range(1, 8)) > 0.6
    assert shot_difference(view(0, 0), view(0, 320)) > 0.6  # nothing in common with what it was


def test_exposure_and_haze_do_not_count():
    picture = ground(0)[:, :, :320]
    changed = picture * 0.5 + torch.linspace(0, 100, 240)[:, None]
    assert shot_difference(thumbnail(picture), thumbnail(changed)) < 0.1


def test_pictures_without_texture():
    black, gray = torch.zeros(3, 48, 64), torch.full((3, 48, 64), 128.0)
    assert shot_difference(thumbnail(black), thumbnail(gray)) == 0
    assert shot_difference(thumbnail(black), view(0, 0)) == 1


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (700, 33), (1080, 1920)])
def test_any_size(size):
    image = torch.randint(0, 255, (3, *size), dtype=torch.uint8)
    small = thumbnail(image)
    assert small.shape == (64, 64)
    assert torch.isfinite(small).all()
    assert shot_difference(small, small) == pytest.approx(0, abs=1e-4)
