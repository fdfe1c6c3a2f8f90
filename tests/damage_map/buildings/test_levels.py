"""The colors of the levels, as color-blind readers and gray printers show them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from msnet_d2.damage_map.buildings.levels import LEVELS

# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency" (2009), severity 1.0, on linear RGB.
SIMULATED = {
    "full sight": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def linear_rgb(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB, D65."""
    xyz = RGB_TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_measure_knows_white_black_and_colors_that_are_alike_without_red():
    assert lab(linear_rgb("#ffffff")) == pytest.approx([100, 0, 0], abs=0.1)
    assert lab(linear_rgb("#000000")) == pytest.approx([0, 0, 0], abs=0.1)
    # Red and green of traffic lights: far apart, but for deuteranopes much nearer.
    red, green = linear_rgb("#c04040"), linear_rgb("#507a10")
    matrix = np.array(SIMULATED["deuteranopia"])
    seen = np.linalg.norm(lab(matrix @ red) - lab(matrix @ green))
    assert seen < 0.35 * np.linalg.norm(lab(red) - lab(green))


@pytest.mark.parametrize("sight", SIMULATED)
def test_levels_stay_apart_for_every_kind_of_sight(sight):
    matrix = np.array(SIMULATED[sight])
    for a, b in combinations(LEVELS, 2):
        seen = [lab(matrix @ linear_rgb(level.color)) for level in (a, b)]
        # A difference of 2.3 is just noticeable; of small marks ten times that is needed.
        assert np.linalg.norm(seen[0] - seen[1]) > 23, (a.name, b.name)


def test_in_gray_a_worse_level_is_darker():
    lightness = [lab(linear_rgb(level.color))[0] for level in LEVELS]
    assert np.all(np.diff(lightness) < -15), lightness


def test_no_level_is_green():
    for level in LEVELS:
        red, green, _ = linear_rgb(level.color)
        assert green <= red
