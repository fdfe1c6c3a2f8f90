"""Figures of any choice of images, and the intervals made of them."""

from __future__ import annotations

import numpy as np
import pytest
from msnet_benchmark.bootstrap import draw_weights, paired_difference
from msnet_benchmark.diagnostics import calibration
from msnet_benchmark.matches import match_results, metrics_of_choices

from msnet_d2.errors import InputError
from msnet_d2.evaluation import GroundTruth, score_results


def part(image_id, category, box):
    x, y, w, h = box
    return {
        "id": 0,
        "image_id": image_id,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def found(image_id, category, box, score):
    return {
        "image_id": image_id,
        "category_id": category + 1,
        "bbox": list(box),
        "score": score,
        "segmentation": part(image_id, category, box)["segmentation"],
    }


def truth_of(parts, images):
    return GroundTruth(
        name="made up",
        image_sizes=dict.fromkeys(images, (200, 200)),
        category_ids=[1, 2, 3],
        class_names=["Slight", "Severe", "Debris"],
        parts=parts,
        annotated=True,
    )


def as_rle(results):
    from msnet_d2.structures.rle import segmentation_to_rle

    return [
        {**r, "segmentation": segmentation_to_rle(r["segmentation"], 200, 200)} for r in results
    ]


BOX, ELSEWHERE = (10, 10, 40, 40), (120, 120, 40, 40)


@pytest.fixture
def three_images():
    """Image 1: found. Image 2: a miss of the highest score, then found. Image 3: not found."""
    truth = truth_of([part(i, 0, BOX) for i in (1, 2, 3)], (1, 2, 3))
    results = [
        found(1, 0, BOX, 0.8),
        found(2, 0, ELSEWHERE, 0.9),
        found(2, 0, BOX, 0.7),
    ]
    return match_results(as_rle(results), truth, "segm")


def test_metrics_of_choices_by_hand(three_images):
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [0, 0, 3]])
    metrics = metrics_of_choices(three_images, weights)
    # Precision is taken at 101 recalls 0, 0.01 … 1.
    # All: miss, hit, hit of 3. Precision at the hits 1/2 and 2/3, so 2/3 up to recall 2/3: 67 of
    # the 101 levels.
    # Image 1 alone: perfect. Images 2, 2, 3: two misses, then two hits: precision 1/2 up to recall
    # 2/3. Image 3: nothing found.
    expected = [100 * 67 / 101 * 2 / 3, 100, 100 * 67 / 101 / 2, 0]
    assert metrics["AP"] == pytest.approx(expected)
    assert metrics["AP50"] == pytest.approx(expected)
    # 40 × 40 is medium; no part is large, and no other level than Slight is there.
    assert metrics["APm"] == pytest.approx(expected)
    assert np.isnan(metrics["APl"]).all()
    assert np.isnan(metrics["AP-Severe"]).all()
    # Without any ground truth nothing is defined.
    assert np.isnan(metrics_of_choices(three_images, np.zeros((1, 3)))["AP"]).all()


def random_case(rng, images):
    parts, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 4)):
            box = (*rng.integers(0, 120, 2).tolist(), *rng.integers(15, 70, 2).tolist())
            category = int(rng.integers(3))
            parts.append({**part(image, category, box), "iscrowd": int(rng.random() < 0.1)})
            if rng.random() < 0.8:
                moved = (box[0] + int(rng.integers(0, 12)), *box[1:])
                results.append(found(image, category, moved, float(rng.random())))
        for _ in range(rng.integers(0, 4)):
            box = (*rng.integers(0, 120, 2).tolist(), *rng.integers(15, 70, 2).tolist())
            results.append(found(image, int(rng.integers(3)), box, float(rng.random())))
    return parts, results


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_every_image_once_is_the_evaluation(seed, iou_type):
    images = list(range(1, 13))
    parts, results = random_case(np.random.default_rng(seed), images)
    truth, results = truth_of(parts, images), as_rle(results)
    task = f"isbda_{iou_type}"
    expected = score_results(truth, results, tasks=[task])[task]
    ours = metrics_of_choices(match_results(results, truth, iou_type), np.ones((1, 12)))
    assert set(ours) == set(expected)
    for name, value in expected.items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_an_image_drawn_twice_counts_as_two_images():
    images = list(range(1, 9))
    parts, results = random_case(np.random.default_rng(7), images)
    weights = np.array([[2, 0, 1, 3, 0, 1, 1, 0]])
    ours = metrics_of_choices(
        match_results(as_rle(results), truth_of(parts, images), "segm"), weights
    )
    # The same draw spelled out: copies of images under numbers of their own.
    copies = [(i, 100 * i + n) for i, w in zip(images, weights[0]) for n in range(w)]
    spelled = truth_of(
        [{**p, "image_id": new} for old, new in copies for p in parts if p["image_id"] == old],
        [new for _, new in copies],
    )
    again = [{**r, "image_id": new} for old, new in copies for r in results if r["image_id"] == old]
    expected = score_results(spelled, as_rle(again), tasks=["isbda_segm"])["isbda_segm"]
    for name, value in expected.items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_no_detections_and_other_iou_types():
    truth = truth_of([part(1, 0, BOX)], (1,))
    assert metrics_of_choices(match_results([], truth, "bbox"), np.ones((1, 1)))["AP"] == [0]
    with pytest.raises(InputError, match="'bbox' or 'segm'"):
        match_results([], truth, "keypoints")


def test_draws():
    weights = draw_weights(6, 50, (1, 2))
    assert weights.shape == (51, 6)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 6).all()
    assert len(np.unique(weights, axis=0)) > 25
    assert (weights == draw_weights(6, 50, (1, 2))).all()
    assert (weights != draw_weights(6, 50, (1, 3))).any()
    # Images of a scene come together: as many scenes are drawn as there are.
    grouped = draw_weights(6, 50, (1, 2), ["a", "a", "b", "b", "b", "c"])
    assert (grouped[:, 0] == grouped[:, 1]).all()
    assert (grouped[:, 2] == grouped[:, 4]).all()
    assert (grouped[:, [0, 2, 5]].sum(axis=1) == 3).all()
    with pytest.raises(InputError, match="cannot draw 0 times from 3 images"):
        draw_weights(3, 0, (0,))


def test_paired_difference_by_hand():
    # Rows are draws, the first the images themselves; two splits, whose differences are averaged.
    ours = [{"AP": np.array([50.0, 52, 48, 60])}, {"AP": np.array([40.0, 40, 40, 40])}]
    theirs = [{"AP": np.array([44.0, 44, 50, 50])}, {"AP": np.array([40.0, 42, 40, 38])}]
    difference = paired_difference(ours, theirs, "AP")
    # (6 + 0) / 2; draws: (8 - 2) / 2, (-2 + 0) / 2, (10 + 2) / 2.
    assert difference.value == 3
    assert difference.positive == pytest.approx(2 / 3)
    # The quantiles 0.025 and 0.975 of -1, 3, 6, interpolated.
    assert (difference.low, difference.high) == pytest.approx((-0.8, 5.85))
    assert not difference.significant
    # Whatever the draw, a difference that never changes has no width.
    shifted = [{"AP": a["AP"] + 2} for a in theirs]
    constant = paired_difference(shifted, theirs, "AP")
    assert (constant.value, constant.low, constant.high, constant.positive) == (2, 2, 2, 1)
    assert constant.significant


def test_undefined_differences():
    nothing = [{"APs": np.array([np.nan, np.nan])}]
    difference = paired_difference(nothing, nothing, "APs")
    assert np.isnan([difference.value, difference.low, difference.high]).all()
    assert not difference.significant
    # A draw that missed all small parts is left out.
    some = paired_difference([{"APs": np.array([5.0, np.nan, 7])}], [{"APs": np.zeros(3)}], "APs")
    assert (some.value, some.low, some.high) == (5, 7, 7)


def test_calibration_by_hand(three_images):
    # Scores 0.9 (wrong), 0.8 and 0.7 (right): gaps 0.9, 0.2 and 0.3, each of one detection.
    found = calibration(three_images, bins=10)
    assert found["count"] == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert found["precision"][7:] == [1, 1, 0]
    assert found["precision"][0] is None
    assert found["error"] == pytest.approx(100 * 1.4 / 3)
    nothing = match_results([], truth_of([part(1, 0, BOX)], (1,)), "bbox")
    assert calibration(nothing)["error"] is None
