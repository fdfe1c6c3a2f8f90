"""Soft NMS by masks: scores of duplicates, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from msnet_d2.structures.duplicates import mask_soft_nms


def found(rectangles, scores, classes=None, *, size=(40, 60), masks=True):
    """Detections whose masks fill rectangles (x0, y0, x1, y1)."""
    instances = Instances(
        size,
        pred_boxes=Boxes(torch.tensor(rectangles, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes or [0] * len(scores)),
    )
    if masks:
        instances.pred_masks = torch.zeros(len(scores), *size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, rectangles):
            mask[y0:y1, x0:x1] = True
    return instances


def test_a_duplicate_of_another_class_is_damped_and_the_better_one_is_not():
    # 10 x 10 pixels each, 8 x 10 in common: IoU 80 / 120 = 0.67. 0.6 * sqrt(1 - 0.84) = 0.24.
    pair = found([(10, 10, 20, 20), (12, 10, 22, 20)], [0.6, 0.84], [0, 2])
    assert mask_soft_nms(pair, 0.25).tolist() == pytest.approx([0.24, 0.84])
    assert pair.scores.tolist() == pytest.approx([0.6, 0.84])


def test_the_highest_of_several_overlapping_scores_counts_as_it_was_before():
    # All three are the same place. The lowest: 0.5 * sqrt(1 - 0.91) = 0.15; the middle one:
    # 0.75 * sqrt(1 - 0.91) = 0.225, which does not raise the lowest again.
    three = found([(5, 5, 15, 15)] * 3, [0.91, 0.5, 0.75])
    assert mask_soft_nms(three, 0.25).tolist() == pytest.approx([0.91, 0.15, 0.225])


def test_pixels_count_and_not_boxes():
    # Boxes alike; one mask fills the upper quarter (25 of 100 pixels), one all of it, one the rest.
    three = found([(10, 10, 20, 20)] * 3, [0.9, 0.5, 0.4])
    three.pred_masks[0, 15:] = False  # rows 10 to 14: 50 pixels
    three.pred_masks[1, :15] = False  # rows 15 to 19: 50 pixels, none in common with the first
    three.pred_masks[2, :14] = False  # rows 14 to 19: 60; 10 with the first, 50 with the second
    # IoU of 0 and 2: 10 / 100; of 1 and 2: 50 / 60. So only the third is damped, by the second.
    expected = [0.9, 0.5, 0.4 * math.sqrt(0.5)]
    assert mask_soft_nms(three, 0.25).tolist() == pytest.approx(expected)


def test_an_overlap_of_just_the_threshold_is_no_duplicate():
    # 10 x 10 each, 4 x 10 in common: 40 / 160 = 0.25. At 5 x 10 it is 50 / 150.
    assert mask_soft_nms(found([(0, 0, 10, 10), (6, 0, 16, 10)], [0.9, 0.5]), 0.25)[1] == 0.5
    assert mask_soft_nms(found([(0, 0, 10, 10), (5, 0, 15, 10)], [0.9, 0.5]), 0.25)[1] < 0.5


def test_equal_scores_do_not_damp_each_other_and_a_certain_one_leaves_nothing():
    same = [(3, 3, 9, 9)] * 2
    assert mask_soft_nms(found(same, [0.7, 0.7]), 0.25).tolist() == pytest.approx([0.7, 0.7])
    assert mask_soft_nms(found(same, [1.0, 0.7]), 0.25).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("masks", [True, False])
def test_without_masks_boxes_stand_for_them(masks):
    pair = found([(10, 10, 20, 20), (12, 10, 22, 20)], [0.6, 0.84], masks=masks)
    assert mask_soft_nms(pair, 0.25).tolist() == pytest.approx([0.24, 0.84])


@pytest.mark.parametrize("count", [0, 1])
def test_few_detections_stay(count):
    instances = found([(1, 1, 5, 5)] * count, [0.5] * count)
    assert mask_soft_nms(instances, 0.25).tolist() == [0.5] * count


def test_masks_that_are_empty_or_outside_of_their_boxes_damp_nothing():
    pair = found([(1, 1, 5, 5)] * 2, [0.9, 0.5])
    pair.pred_masks[:] = False
    assert mask_soft_nms(pair, 0.0).tolist() == pytest.approx([0.9, 0.5])


rectangle = st.tuples(
    st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 19)
).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))
detections = st.lists(st.tuples(rectangle, st.integers(0, 8).map(lambda k: k / 8)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(detections, st.floats(0, 1), st.randoms())
def test_order_is_irrelevant_and_pixels_agree_with_a_plain_reckoning(found_parts, thresh, random):
    order = list(range(len(found_parts)))
    random.shuffle(order)
    instances = found([r for r, _ in found_parts], [s for _, s in found_parts])
    scores = mask_soft_nms(instances, thresh)
    assert mask_soft_nms(instances[order], thresh).tolist() == scores[order].tolist()

    pixels = [set(mask.flatten().nonzero().squeeze(1).tolist()) for mask in instances.pred_masks]
    for i, (_, score) in enumerate(found_parts):
        above = [
            other
            for j, (_, other) in enumerate(found_parts)
            if other > score and len(pixels[i] & pixels[j]) > thresh * len(pixels[i] | pixels[j])
        ]
        expected = score * math.sqrt(1 - max(above, default=0))
        assert float(scores[i]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    parts = found([(10, 10, 20, 20), (12, 10, 22, 20), (13, 9, 22, 22)], [0.6, 0.84, 0.3])
    scores = mask_soft_nms(parts.to("cuda"), 0.25)
    assert scores.device.type == "cuda"
    assert torch.equal(scores.cpu(), mask_soft_nms(parts, 0.25))
