"""The hierarchical RPN: equality with Detectron2's RPN, the filter, edge cases, gradients."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes
from helpers.batches import make_gt, two_parts_one_parent

from msnet_d2.errors import ConfigError, InputError
from msnet_d2.modeling.proposal_generator.anchor_filter import anchor_scores
from msnet_d2.modeling.proposal_generator.hierarchical_rpn import HierarchicalRPN

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"}


def kept_anchors(hrpn, features):
    """Anchors of the only image, and by level the indices of those kept."""
    levels = [features[f] for f in hrpn.in_features]
    anchors = hrpn.anchor_generator(levels)
    parents = hrpn.parent_rpn.predict_proposals(None, None, None, None)
    return anchors, hrpn._keep_anchors(anchors, parents)[0]


def stock_twin(cfg, input_shape, hrpn) -> RPN:
    """Detectron2's RPN with the weights of the part RPN."""
    stock = RPN(cfg, input_shape)
    stock.rpn_head.load_state_dict(hrpn.rpn_head.state_dict())
    return stock


# --- equality with Detectron2's RPN


@pytest.mark.parametrize("training", [True, False])
def test_negative_threshold_equals_stock_rpn(
    tiny_cfg, input_shape, make_hrpn, make_inputs, storage, training
):
    """Bit for bit: proposals, losses, and the gradients of the head."""
    hrpn = make_hrpn(THRESHOLD=-1.0).train(training)
    stock = stock_twin(tiny_cfg, input_shape, hrpn).train(training)
    images, features = make_inputs(2)
    gts = [two_parts_one_parent(), make_gt()] if training else None

    torch.manual_seed(7)
    stock_proposals, stock_losses = stock(images, features, gts)
    torch.manual_seed(7)
    proposals, losses = hrpn(images, features, gts)

    for ours, theirs in zip(proposals, stock_proposals, strict=True):
        assert len(theirs) > 10
        assert torch.equal(ours.proposal_boxes.tensor, theirs.proposal_boxes.tensor)
        assert torch.equal(ours.objectness_logits, theirs.objectness_logits)
    assert set(losses) == (LOSSES if training else set())
    for name, value in stock_losses.items():
        assert torch.equal(losses[name], value)
    if training:
        sum(stock_losses.values()).backward()
        sum(losses.values()).backward()
        for ours, theirs in zip(hrpn.rpn_head.parameters(), stock.rpn_head.parameters()):
            assert torch.equal(ours.grad, theirs.grad)


def test_parents_equal_a_stock_rpn_of_their_own(
    tiny_cfg, input_shape, make_hrpn, make_inputs, storage
):
    """It is trained and proposes as if it were alone, whatever the part RPN does."""
    hrpn = make_hrpn(THRESHOLD=-1.0)
    stock = RPN(tiny_cfg, input_shape)
    stock.load_state_dict(hrpn.parent_rpn.state_dict())
    images, features = make_inputs(1)
    gt = make_gt(parents := [[24, 24, 76, 70], [80, 10, 110, 40]], parents)

    torch.manual_seed(3)
    # The part RPN draws first: two permutations, of its positives and its negatives.
    hrpn.label_and_sample_anchors(
        hrpn.anchor_generator([features[f] for f in hrpn.in_features]), [gt]
    )
    expected, expected_losses = stock(images, features, [gt])
    torch.manual_seed(3)
    _, parents, losses = hrpn.forward_with_parents(images, features, [gt])
    assert torch.equal(parents[0].proposal_boxes.tensor, expected[0].proposal_boxes.tensor)
    for name in ("cls", "loc"):
        assert torch.equal(losses[f"loss_rpn_parent_{name}"], expected_losses[f"loss_rpn_{name}"])


# --- which anchors propose


@pytest.mark.parametrize(("metric", "threshold"), [("ioa", 0.5), ("iou", 0.2)])
def test_proposals_come_from_kept_anchors_alone(
    tiny_cfg, input_shape, make_hrpn, make_inputs, fix_parents, metric, threshold
):
    """Against Detectron2's RPN with the logits of dropped anchors moved below all others.

    Kept and dropped proposals then tell apart by their logits; NMS within a level lets no dropped
    one suppress a kept one, since it comes later. Top k must be large enough for all.
    """
    keys = {"MODEL__RPN__PRE_NMS_TOPK_TEST": 5000, "MODEL__RPN__POST_NMS_TOPK_TEST": 5000}
    hrpn = make_hrpn(METRIC=metric, THRESHOLD=threshold, **keys).eval()
    parents = [[[10, 10, 60, 50], [70, 40, 128, 96]], [[0, 0, 30, 90]]]
    fix_parents(hrpn, parents)
    images, features = make_inputs(2)
    proposals, _ = hrpn(images, features)

    levels = [features[f] for f in hrpn.in_features]
    anchors = hrpn.anchor_generator(levels)
    logits, deltas = hrpn.rpn_head(levels)
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
    deltas = [x.unflatten(1, (3, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in deltas]
    moved = []
    for level, level_anchors in zip(logits, anchors):
        keep = torch.stack(
            [
                anchor_scores(level_anchors, torch.tensor(p).float(), metric) > threshold
                for p in parents
            ]
        )
        moved.append(torch.where(keep, level, level - 1000))
    expected = RPN.predict_proposals(hrpn, anchors, moved, deltas, images.image_sizes)
    for ours, theirs in zip(proposals, expected, strict=True):
        theirs = theirs[theirs.objectness_logits > -500]
        assert 20 < len(theirs) < 1500
        assert torch.equal(ours.objectness_logits, theirs.objectness_logits)
        assert torch.equal(ours.proposal_boxes.tensor, theirs.proposal_boxes.tensor)


def test_top_k_is_filled_by_kept_anchors(make_hrpn, make_inputs, fix_parents):
    """The best kept anchors are proposed where better ones were dropped; none of these fills up."""
    keys = {"MODEL__RPN__PRE_NMS_TOPK_TEST": 4, "MODEL__RPN__NMS_THRESH": 1.0}
    hrpn = make_hrpn(THRESHOLD=0.9, **keys).eval()
    # Inside this parent lie small anchors alone: those of p2 (16 pixels) with their centre near its
    # own. Those of p3 (32 pixels) and above cannot lie in it to 9 tenths.
    fix_parents(hrpn, [[[40, 40, 64, 64]]])
    torch.nn.init.zeros_(hrpn.rpn_head.anchor_deltas.weight)  # proposals are the anchors
    images, features = make_inputs(1)
    proposals, _ = hrpn(images, features)
    boxes = proposals[0].proposal_boxes.tensor
    assert len(boxes) == 4  # one level has kept anchors, and k = 4
    assert (anchor_scores(boxes, torch.tensor([[40.0, 40, 64, 64]])) > 0.9).all()


def test_other_anchor_generators(make_hrpn, make_inputs, fix_parents):
    """One not known to make regular grids is sampled by the definition, with equal result."""

    class Other(DefaultAnchorGenerator):
        pass

    parents = [[[10, 10, 60, 50], [70, 40, 128, 96]]]
    _, features = make_inputs(1)
    hrpn = make_hrpn(THRESHOLD=0.5).eval()
    fix_parents(hrpn, parents)
    grid = kept_anchors(hrpn, features)[1]
    hrpn.anchor_generator.__class__ = Other
    plain = kept_anchors(hrpn, features)[1]
    assert sum(map(len, plain)) > 50
    assert all(torch.equal(a, b) for a, b in zip(grid, plain, strict=True))


def test_a_tie_is_dropped(make_hrpn, make_inputs, fix_parents):
    """An anchor exactly half inside its parent is dropped at S = 0.5, kept at the next below.

    Anchors of p6 at S = 64 pixels: the square one of 256 is centred on (0, 0), so it spans -128 to
    128, and the parent (0, -200, 300, 200) covers exactly its right half. Centres are 64 apart;
    those at x = 64 lie in it by 3/4.
    """
    _, features = make_inputs(1)
    kept = []
    for threshold in (0.5, torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()):
        hrpn = make_hrpn(THRESHOLD=threshold).eval()
        fix_parents(hrpn, [[[0, -200, 300, 200]]])
        _, levels = kept_anchors(hrpn, features)
        kept.append(levels[-1].tolist())
    # p6 is 2 x 2 positions x 3 anchors (ratios 0.5, 1, 2), in rows. All of the left column are
    # halved by the parent's edge, up to rounding of the widths of ratios 0.5 and 2; the square one
    # (index 1 of each position) exactly.
    assert 1 not in kept[0]
    assert 1 in kept[1]
    assert {3, 4, 5} <= set(kept[0])  # the right column's first row


@pytest.mark.parametrize("training", [True, False])
def test_parents_can_be_limited(make_hrpn, make_inputs, storage, fix_parents, training):
    """By number (train, test), best first, and by probability: sigmoid(0) = 0.5 passes 0.5."""
    parents = [[[0, 0, 40, 40], [50, 0, 90, 40], [90, 50, 128, 96]]]
    _, features = make_inputs(1)

    def kept_parents(**keys):
        hrpn = make_hrpn(THRESHOLD=0.9, **keys).train(training)
        fix_parents(hrpn, parents, logits=[2.0, 0.0, -1.0])
        anchors, levels = kept_anchors(hrpn, features)
        boxes = torch.cat([a.tensor[i] for a, i in zip(anchors, levels)])
        scores = [anchor_scores(boxes, torch.tensor([p]).float()) for p in parents[0]]
        return [bool((s > 0.9).any()) for s in scores]

    assert kept_parents() == [True, True, True]
    assert kept_parents(PARENT_TOPK_TRAIN=1, PARENT_TOPK_TEST=2) == [True, not training, False]
    assert kept_parents(PARENT_TOPK_TRAIN=0, PARENT_TOPK_TEST=0) == [False, False, False]
    assert kept_parents(PARENT_OBJECTNESS_THRESH=0.5) == [True, True, False]
    assert kept_parents(PARENT_OBJECTNESS_THRESH=0.51) == [True, False, False]


# --- settings


@pytest.mark.parametrize(
    "sizes", [[[16], [32], [64], [128], [256]], [[32]]], ids=["one size a level", "one for all"]
)
def test_parent_on_fewer_features(make_hrpn, make_inputs, storage, sizes):
    """The parent RPN has the anchors of its own levels; the part RPN keeps all of its levels."""
    features_of_parent = ["p3", "p4", "p5", "p6"]
    hrpn = make_hrpn(
        PARENT_IN_FEATURES=features_of_parent, MODEL__ANCHOR_GENERATOR__SIZES=sizes, THRESHOLD=0.1
    )
    images, features = make_inputs(1)
    part = hrpn.anchor_generator([features[f] for f in hrpn.in_features])
    parent = hrpn.parent_rpn.anchor_generator([features[f] for f in features_of_parent])
    assert hrpn.parent_rpn.in_features == features_of_parent
    assert len(part) == 5
    for a, b in zip(part[1:], parent, strict=True):
        assert torch.equal(a.tensor, b.tensor)
    _, losses = hrpn(images, features, [two_parts_one_parent()])
    assert set(losses) == LOSSES
    # p2 is of no use to the parent RPN, so its logits are fewer than the part RPN's
    assert len(Boxes.cat(parent)) < len(Boxes.cat(part)) / 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"METRIC": "giou"}, r"METRIC is 'giou'; expected one of 'ioa', 'iou'"),
        (
            {"PARENT_OBJECTNESS_THRESH": 1.5},
            r"PARENT_OBJECTNESS_THRESH is 1.5; expected a probability",
        ),
        ({"PARENT_TOPK_TRAIN": -2}, r"PARENT_TOPK_TRAIN is -2; expected a number of proposals"),
        ({"PARENT_TOPK_TEST": -2}, r"PARENT_TOPK_TEST is -2; expected a number of proposals"),
        ({"PARENT_IN_FEATURES": ["p3", "p7"]}, r"PARENT_IN_FEATURES has p7, not among"),
    ],
)
def test_wrong_settings(make_hrpn, keys, message):
    with pytest.raises(ConfigError, match=message):
        make_hrpn(**keys)


def test_ground_truth_without_parents_names_the_mapper(make_hrpn, make_inputs, storage):
    images, features = make_inputs(1)
    gt = make_gt([[30, 30, 50, 46]], with_parents=False)
    with pytest.raises(InputError, match=r"without gt_parent_boxes.*ISBDADatasetMapper"):
        make_hrpn()(images, features, [gt])
    with pytest.raises(InputError, match="no ground truth in training"):
        make_hrpn()(images, features)


def test_the_config_is_left_as_it_is(tiny_cfg, input_shape):
    before = tiny_cfg.dump()
    tiny_cfg.MODEL.HRPN.PARENT_IN_FEATURES = []
    HierarchicalRPN(tiny_cfg, input_shape)
    assert tiny_cfg.dump() == before
