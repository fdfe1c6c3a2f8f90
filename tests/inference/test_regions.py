"""A class for every pixel as regions, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import Metadata

from msnet_d2.inference.regions import regions_of, with_regions
from msnet_d2.visualization import draw_instance_predictions

# Probabilities of three classes in four pixels of a row: 0, 1, 1, 2 are the best.
SCORES = torch.tensor([[0.7, 0.2, 0.1, 0.1], [0.2, 0.6, 0.8, 0.0], [0.1, 0.2, 0.1, 0.9]])


def test_a_region_of_each_class_with_its_mean_probability():
    regions = regions_of(SCORES.clamp(min=1e-9).log()[:, None])
    assert regions.pred_classes.tolist() == [0, 1, 2]
    # Class 1: (0.6 + 0.8) / 2.
    assert regions.scores.tolist() == pytest.approx([0.7, 0.7, 0.9], abs=1e-6)
    assert regions.pred_masks.int().tolist() == [[[1, 0, 0, 0]], [[0, 1, 1, 0]], [[0, 0, 0, 1]]]
    assert regions.pred_boxes.tensor.tolist() == [[0, 0, 1, 1], [1, 0, 3, 1], [3, 0, 4, 1]]


def test_the_background_has_no_region_and_may_be_all_that_there_is():
    logits = SCORES.clamp(min=1e-9).log()[:, None]
    assert regions_of(logits, background=1).pred_classes.tolist() == [0, 2]
    nothing = regions_of(logits[..., :1], background=0)
    assert len(nothing) == 0
    assert nothing.pred_masks.shape == (0, 1, 1)
    assert nothing.pred_boxes.tensor.shape == (0, 4)


def test_a_model_that_finds_instances_too_keeps_its_own():
    output = {"sem_seg": SCORES[:, None], "instances": "own"}
    assert with_regions(output) is output
    assert with_regions({"parents": 1}) == {"parents": 1}


def test_regions_are_drawn_without_boxes():
    logits = torch.zeros(2, 40, 60)
    logits[1, 10:30, 20:50] = 5
    regions = regions_of(logits, background=0)
    picture = np.full((40, 60, 3), 100, np.uint8)
    metadata = Metadata(thing_classes=["dry", "flood"], thing_colors=[(0, 0, 0), (0, 0, 255)])
    metadata.regions = True
    drawn = draw_instance_predictions(picture, regions, metadata=metadata, legend=False)
    assert (drawn[20, 35] != 100).any()
    outside = np.ones((40, 60), bool)
    outside[10:30, 20:50] = False
    assert (drawn[outside] == 100).all()
    legend = draw_instance_predictions(picture, regions, metadata=metadata)
    assert (legend != drawn).any()
