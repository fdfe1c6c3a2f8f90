"""The hierarchical RPN in training: order of filter and sampling, edge cases, gradients."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from helpers.batches import make_gt, two_parts_one_parent

from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_scores
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import OverlapMatcher

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"}


# --- labels and losses


def test_labels_are_sampled_after_the_filter(
    make_hrpn, make_inputs, storage, fix_parents, record_labels
):
    """All of the 64 labels of an image are spent on kept anchors, though these are few."""
    hrpn = make_hrpn(THRESHOLD=0.5)
    parent = [24.0, 24, 76, 70]
    fix_parents(hrpn, [[parent]])
    seen = record_labels(hrpn)
    images, features = make_inputs(1)
    hrpn(images, features, [two_parts_one_parent()])
    labeled = seen["labels"][0] >= 0
    kept = anchor_scores(seen["anchors"], torch.tensor([parent])) > 0.5
    assert 64 < kept.sum() < 0.3 * len(kept)
    assert labeled.sum() == 64
    assert not (labeled & ~kept).any()
    assert storage.latest()["hrpn/kept_anchors"][0] == pytest.approx(kept.float().mean().item())


def test_every_ground_truth_keeps_its_best_kept_anchor(
    make_hrpn, make_inputs, storage, fix_parents, record_labels
):
    """A long thin part, of which no anchor reaches IoU 0.7: the best kept ones are positive."""
    hrpn = make_hrpn(THRESHOLD=0.95)
    parent = [20.0, 20, 100, 48]  # the part lies along its lower edge
    fix_parents(hrpn, [[parent]])
    seen = record_labels(hrpn)
    images, features = make_inputs(1)
    part = [30, 40, 90, 48]
    hrpn(images, features, [make_gt([part], [parent])])
    anchors, labels = seen["anchors"], seen["labels"][0]
    quality = pairwise_iou(Boxes(torch.tensor([part]).float()), Boxes(anchors))[0]
    kept = anchor_scores(anchors, torch.tensor([parent])) > 0.95
    best = quality[kept].max()
    assert 0 < best < 0.7
    # The best of all anchors is not among the kept ones, else this would show nothing.
    assert quality.max() > best
    positive = labels == 1
    assert positive.any()
    assert (quality[positive] == best).all()
    assert kept[positive].all()
    assert (seen["matched"][0][positive] == torch.tensor(part)).all()


def test_ground_truth_outside_all_parents_claims_nothing(
    make_hrpn, make_inputs, storage, fix_parents, record_labels
):
    """Its best IoU is 0, that of all kept anchors: with a plain matcher all would be positive."""
    hrpn = make_hrpn(THRESHOLD=0.9)
    fix_parents(hrpn, [[[0, 0, 30, 30]]])
    seen = record_labels(hrpn)
    images, features = make_inputs(1)
    hrpn(images, features, [make_gt([[90, 70, 110, 90]], [[80, 60, 120, 94]])])
    labels = seen["labels"][0]
    assert (labels == 1).sum() == 0
    assert (labels == 0).sum() > 0


def test_overlap_matcher():
    """Quality of 3 ground truths (rows) and 4 predictions; the second row overlaps none.

    Plain matcher, thresholds 0.3 and 0.7: maxima 0.8, 0.2, 0, 0.5 -> 1, 0, 0, -1; the rows' best:
    row 0: prediction 0; row 2: prediction 3 -> 1; row 1: its best is 0, which predictions 0 to 3
    all have -> all 1.
    """
    quality = torch.tensor([[0.8, 0.2, 0, 0.1], [0, 0, 0, 0], [0, 0, 0, 0.5]])
    arguments = ([0.3, 0.7], [0, -1, 1], True)
    assert Matcher(*arguments)(quality)[1].tolist() == [1, 1, 1, 1]
    matches, labels = OverlapMatcher(*arguments)(quality)
    assert labels.tolist() == [1, 0, 0, 1]
    assert matches.tolist() == [0, 0, 0, 2]
    # nothing overlapped at all
    assert OverlapMatcher(*arguments)(torch.zeros(2, 3))[1].tolist() == [0, 0, 0]


def test_a_parent_of_several_parts_is_one_ground_truth(
    make_hrpn, make_inputs, storage, monkeypatch
):
    """Distinct rows, and no row without area or with NaN: such a part has no known parent."""
    hrpn = make_hrpn()
    seen = []
    label = hrpn.parent_rpn.label_and_sample_anchors

    def record(anchors, gts):
        seen.extend(gts)
        return label(anchors, gts)

    monkeypatch.setattr(hrpn.parent_rpn, "label_and_sample_anchors", record)
    images, features = make_inputs(1)
    nan = float("nan")
    parts = [[30, 30, 50, 46]] * 6
    parents = [
        [60, 20, 90, 70],
        [24, 24, 76, 70],
        [60, 20, 90, 70],
        [0, 0, 0, 0],
        [nan, 0, 10, 10],
        [24, 24, 76, 70],
    ]
    hrpn(images, features, [make_gt(parts, parents)])
    assert len(seen) == 1
    assert sorted(seen[0].gt_boxes.tensor.tolist()) == [[24, 24, 76, 70], [60, 20, 90, 70]]


@pytest.mark.parametrize("threshold", [-1.0, 0.1])
def test_weight_of_the_parent_losses(make_hrpn, make_inputs, storage, threshold):
    images, features = make_inputs(1)
    results = []
    for weight in (1.0, 0.25):
        hrpn = make_hrpn(THRESHOLD=threshold, PARENT_LOSS_WEIGHT=weight)
        torch.manual_seed(5)
        results.append(hrpn(images, features, [two_parts_one_parent()])[1])
    for name in LOSSES:
        factor = 0.25 if "parent" in name else 1.0
        torch.testing.assert_close(results[1][name], results[0][name] * factor)


def test_scalars(make_hrpn, make_inputs, storage):
    """Stock names for the part RPN, names of their own for the parent RPN."""
    images, features = make_inputs(1)
    make_hrpn()(images, features, [two_parts_one_parent()])
    assert set(storage.latest()) == {
        "hrpn/kept_anchors",
        "rpn/num_pos_anchors",
        "rpn/num_neg_anchors",
        "rpn_parent/rpn/num_pos_anchors",
        "rpn_parent/rpn/num_neg_anchors",
    }


# --- nothing there


@pytest.mark.parametrize("empty", ["all", "one"])
def test_images_without_parent_proposals(make_hrpn, make_inputs, storage, fix_parents, empty):
    """No part proposals there, all losses present, and backward reaches every parameter."""
    hrpn = make_hrpn(THRESHOLD=0.1)
    fix_parents(hrpn, [[], [] if empty == "all" else [[20, 20, 80, 80]]])
    images, features = make_inputs(2)
    gts = [two_parts_one_parent(), two_parts_one_parent()]
    proposals, losses = hrpn(images, features, gts)
    assert [len(p) > 0 for p in proposals] == [False, empty == "one"]
    assert proposals[0].proposal_boxes.tensor.shape == (0, 4)
    assert set(losses) == LOSSES
    if empty == "all":
        assert losses["loss_rpn_cls"] == 0
        assert losses["loss_rpn_loc"] == 0
    sum(losses.values()).backward()
    for name, parameter in hrpn.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name

    hrpn.eval()
    proposals, losses = hrpn(images, features)
    assert [len(p) > 0 for p in proposals] == [False, empty == "one"]
    assert losses == {}


@pytest.mark.parametrize("threshold", [-1.0, 0.1])
def test_no_ground_truth(make_hrpn, make_inputs, storage, threshold):
    """Beside an image with some, and alone: objectness is trained, boxes are not."""
    hrpn = make_hrpn(THRESHOLD=threshold)
    for gts in ([make_gt(), two_parts_one_parent()], [make_gt()]):
        images, features = make_inputs(len(gts))
        _, losses = hrpn(images, features, gts)
        assert set(losses) == LOSSES
        assert all(torch.isfinite(v) for v in losses.values())
        assert losses["loss_rpn_cls"] > 0
        assert losses["loss_rpn_parent_cls"] > 0
    assert losses["loss_rpn_loc"] == 0
    assert losses["loss_rpn_parent_loc"] == 0
    sum(losses.values()).backward()


def test_parts_without_known_parents(make_hrpn, make_inputs, storage):
    images, features = make_inputs(1)
    gt = make_gt([[30, 30, 50, 46]], [[0, 0, 0, 0]])
    _, losses = make_hrpn()(images, features, [gt])
    assert losses["loss_rpn_parent_loc"] == 0


# --- not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("threshold", [-1.0, 0.1])
def test_not_finite_features(make_hrpn, make_inputs, storage, value, threshold):
    """In training an error, in inference left out, as in Detectron2."""
    hrpn = make_hrpn(THRESHOLD=threshold)
    images, features = make_inputs(2)
    features["p2"][0, :, 3:6, 3:6] = value
    gts = [two_parts_one_parent(), two_parts_one_parent()]
    with pytest.raises(FloatingPointError, match="diverged"):
        hrpn(images, features, gts)
    hrpn.eval()
    proposals, parents, _ = hrpn.forward_with_parents(images, features)
    for result in (*proposals, *parents):
        assert len(result) > 0
        assert torch.isfinite(result.proposal_boxes.tensor).all()
        assert torch.isfinite(result.objectness_logits).all()

    features = {name: torch.full_like(level, value) for name, level in features.items()}
    proposals, parents, _ = hrpn.forward_with_parents(images, features)
    assert [len(x) for x in (*proposals, *parents)] == [0, 0, 0, 0]


# --- gradients


@pytest.mark.parametrize("which", ["part", "parent"])
def test_each_loss_reaches_its_own_head_and_the_features(make_hrpn, make_inputs, storage, which):
    """Nothing flows from the part RPN's loss through the parent proposals."""
    hrpn = make_hrpn()
    images, features = make_inputs(1)
    features = {name: level.requires_grad_() for name, level in features.items()}
    proposals, parents, losses = hrpn.forward_with_parents(
        images, features, [two_parts_one_parent()]
    )
    sum(v for k, v in losses.items() if ("parent" in k) == (which == "parent")).backward()
    own, other = hrpn.rpn_head, hrpn.parent_rpn.rpn_head
    if which == "parent":
        own, other = other, own
    assert all(p.grad.abs().sum() > 0 for p in own.parameters())
    assert all(p.grad is None for p in other.parameters())
    assert features["p2"].grad.abs().sum() > 0
    for result in (*proposals, *parents):
        assert not result.proposal_boxes.tensor.requires_grad
        assert not result.objectness_logits.requires_grad
