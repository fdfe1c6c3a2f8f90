"""The hierarchical RPN: equality with Detectron2's RPN, order of filter and sampling, edge cases, gradients."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN, build_proposal_generator
from detectron2.structures import Boxes, Instances, pairwise_iou

from msnet_d2.errors import ConfigError, InputError
from msnet_d2.modeling.anchor_sampling import anchor_sampling_scores
from msnet_d2.modeling.hrpn import HierarchicalRPN, OverlapMatcher

LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"}


@pytest.fixture
def make_hrpn(tiny_cfg, input_shape):
    """Keyword overrides of config keys (MODEL.HRPN unless dotted) -> HierarchicalRPN with reproducible weights."""

    def make(seed: int = 0, **keys) -> HierarchicalRPN:
        cfg = tiny_cfg.clone()
        for key, value in keys.items():
            full = key.replace("__", ".") if "__" in key else f"MODEL.HRPN.{key}"
            cfg.merge_from_list([full, value])
        torch.manual_seed(seed)
        hrpn = build_proposal_generator(cfg, input_shape)
        assert isinstance(hrpn, HierarchicalRPN)
        # Weights as initialised predict the anchors themselves at probabilities of one half; spread them out.
        for rpn in (hrpn, hrpn.parent_rpn):
            torch.nn.init.normal_(rpn.rpn_head.objectness_logits.weight, std=0.1)
            torch.nn.init.normal_(rpn.rpn_head.anchor_deltas.weight, std=0.05)
        return hrpn

    return make


def fix_parents(monkeypatch, hrpn, boxes_per_image, logits=None, size=(96, 128)):
    """Let the parent RPN propose just these boxes (best first)."""

    def predict_proposals(anchors, pred_logits, deltas, image_sizes):
        result = []
        for boxes in boxes_per_image:
            boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
            values = torch.zeros(len(boxes)) if logits is None else torch.tensor(logits)
            result.append(Instances(size, proposal_boxes=Boxes(boxes), objectness_logits=values))
        return result

    monkeypatch.setattr(hrpn.parent_rpn, "predict_proposals", predict_proposals)


def record_labels(monkeypatch, hrpn):
    """What the part RPN's loss is given: a dict with "labels" and "matched", filled by forward."""
    seen = {}
    losses = hrpn.losses

    def record(anchors, logits, labels, deltas, matched):
        seen.update(labels=labels, matched=matched, anchors=Boxes.cat(anchors).tensor)
        return losses(anchors, logits, labels, deltas, matched)

    monkeypatch.setattr(hrpn, "losses", record)
    return seen


def stock_twin(cfg, input_shape, hrpn) -> RPN:
    """Detectron2's RPN with the weights of the part RPN."""
    stock = RPN(cfg, input_shape)
    stock.rpn_head.load_state_dict(hrpn.rpn_head.state_dict())
    return stock


# --- equality with Detectron2's RPN ------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_negative_threshold_equals_stock_rpn(
    tiny_cfg, input_shape, make_hrpn, make_inputs, storage, factories, training
):
    """Bit for bit: proposals, losses, and the gradients of the head."""
    hrpn = make_hrpn(THRESHOLD=-1.0).train(training)
    stock = stock_twin(tiny_cfg, input_shape, hrpn).train(training)
    images, features = make_inputs(2)
    gts = [factories.two_parts_one_parent(), factories.make_gt()] if training else None

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
    tiny_cfg, input_shape, make_hrpn, make_inputs, storage, factories
):
    """The parent RPN is an ordinary RPN on the distinct parent boxes, whatever the part RPN does."""
    hrpn = make_hrpn(THRESHOLD=-1.0)
    stock = RPN(tiny_cfg, input_shape)
    stock.load_state_dict(hrpn.parent_rpn.state_dict())
    images, features = make_inputs(1)
    gt = factories.make_gt(parents := [[24, 24, 76, 70], [80, 10, 110, 40]], parents)

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


# --- which anchors propose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "threshold"), [("ii", 0.5), ("iou", 0.2)])
def test_proposals_come_from_kept_anchors_alone(
    tiny_cfg, input_shape, make_hrpn, make_inputs, monkeypatch, metric, threshold
):
    """Against Detectron2's RPN with the logits of dropped anchors moved below all others.

    Kept and dropped proposals then tell apart by their logits; NMS within a level lets no dropped one suppress a kept
    one, since it comes later. Top k must be large enough for all.
    """
    keys = {"MODEL__RPN__PRE_NMS_TOPK_TEST": 5000, "MODEL__RPN__POST_NMS_TOPK_TEST": 5000}
    hrpn = make_hrpn(METRIC=metric, THRESHOLD=threshold, **keys).eval()
    parents = [[[10, 10, 60, 50], [70, 40, 128, 96]], [[0, 0, 30, 90]]]
    fix_parents(monkeypatch, hrpn, parents)
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
                anchor_sampling_scores(level_anchors, torch.tensor(p).float(), metric) > threshold
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


def test_top_k_is_filled_by_kept_anchors(make_hrpn, make_inputs, monkeypatch):
    """The best kept anchors are proposed even where better ones were dropped, and no dropped one fills up."""
    keys = {"MODEL__RPN__PRE_NMS_TOPK_TEST": 4, "MODEL__RPN__NMS_THRESH": 1.0}
    hrpn = make_hrpn(THRESHOLD=0.9, **keys).eval()
    # Inside this parent lie small anchors alone: those of p2 (16 pixels) with their centre near its own. Those of
    # p3 (32 pixels) and above cannot lie in it to 9 tenths.
    fix_parents(monkeypatch, hrpn, [[[40, 40, 64, 64]]])
    torch.nn.init.zeros_(hrpn.rpn_head.anchor_deltas.weight)  # proposals are the anchors
    images, features = make_inputs(1)
    proposals, _ = hrpn(images, features)
    boxes = proposals[0].proposal_boxes.tensor
    assert len(boxes) == 4  # one level has kept anchors, and k = 4
    assert (anchor_sampling_scores(boxes, torch.tensor([[40.0, 40, 64, 64]])) > 0.9).all()


def test_a_tie_is_dropped(make_hrpn, make_inputs, monkeypatch):
    """An anchor exactly half inside its parent is not kept at S = 0.5, and is at the next smaller S.

    Anchors of p6 at S = 64 pixels: the square one of 256 is centred on (0, 0), so it spans -128 to 128, and the parent
    (0, -200, 300, 200) covers exactly its right half. Centres are 64 apart; those at x = 64 lie in it by 3/4.
    """
    images, features = make_inputs(1)
    kept = []
    for threshold in (0.5, torch.nextafter(torch.tensor(0.5), torch.tensor(0.0)).item()):
        hrpn = make_hrpn(THRESHOLD=threshold).eval()
        fix_parents(monkeypatch, hrpn, [[[0, -200, 300, 200]]])
        anchors = hrpn.anchor_generator([features[f] for f in hrpn.in_features])
        levels = hrpn._keep_anchors(anchors, hrpn.parent_rpn.predict_proposals(*[None] * 4))[0]
        kept.append(levels[-1].tolist())
    # p6 is 2 x 2 positions x 3 anchors (ratios 0.5, 1, 2), in rows. All of the left column are halved by the parent's
    # edge, up to rounding of the widths of ratios 0.5 and 2; the square one (index 1 of each position) exactly.
    assert 1 not in kept[0]
    assert 1 in kept[1]
    assert {3, 4, 5} <= set(kept[0])  # the right column's first row


@pytest.mark.parametrize("training", [True, False])
def test_parents_can_be_limited(make_hrpn, make_inputs, storage, factories, monkeypatch, training):
    """By number (train, test), best first, and by probability: sigmoid(0) = 0.5 exactly passes 0.5."""
    parents = [[[0, 0, 40, 40], [50, 0, 90, 40], [90, 50, 128, 96]]]
    images, features = make_inputs(1)

    def kept_parents(**keys):
        hrpn = make_hrpn(THRESHOLD=0.9, **keys).train(training)
        fix_parents(monkeypatch, hrpn, parents, logits=[2.0, 0.0, -1.0])
        anchors = hrpn.anchor_generator([features[f] for f in hrpn.in_features])
        levels = hrpn._keep_anchors(anchors, hrpn.parent_rpn.predict_proposals(*[None] * 4))[0]
        boxes = torch.cat([a.tensor[i] for a, i in zip(anchors, levels)])
        scores = [anchor_sampling_scores(boxes, torch.tensor([p]).float()) for p in parents[0]]
        return [bool((s > 0.9).any()) for s in scores]

    assert kept_parents() == [True, True, True]
    assert kept_parents(MAX_PARENT_PROPOSALS=(1, 2)) == [True, not training, False]
    assert kept_parents(MAX_PARENT_PROPOSALS=(0, 0)) == [False, False, False]
    assert kept_parents(MIN_PARENT_OBJECTNESS=0.5) == [True, True, False]
    assert kept_parents(MIN_PARENT_OBJECTNESS=0.51) == [True, False, False]


# --- labels and losses -------------------------------------------------------------------------------------------


def test_labels_are_sampled_after_the_filter(
    make_hrpn, make_inputs, storage, factories, monkeypatch
):
    """All of the 64 labels of an image are spent on kept anchors, though these are a few percent of all."""
    hrpn = make_hrpn(THRESHOLD=0.5)
    parent = [24.0, 24, 76, 70]
    fix_parents(monkeypatch, hrpn, [[parent]])
    seen = record_labels(monkeypatch, hrpn)
    images, features = make_inputs(1)
    hrpn(images, features, [factories.two_parts_one_parent()])
    labelled = seen["labels"][0] >= 0
    kept = anchor_sampling_scores(seen["anchors"], torch.tensor([parent])) > 0.5
    assert 64 < kept.sum() < 0.3 * len(kept)
    assert labelled.sum() == 64
    assert not (labelled & ~kept).any()
    assert storage.latest()["hrpn/kept_anchors"][0] == pytest.approx(kept.float().mean().item())


def test_every_ground_truth_keeps_its_best_kept_anchor(
    make_hrpn, make_inputs, storage, factories, monkeypatch
):
    """A long thin part: no anchor reaches IoU 0.7, so the best kept one is its only positive (with its ties)."""
    hrpn = make_hrpn(THRESHOLD=0.95)
    parent = [20.0, 20, 100, 48]  # the part lies along its lower edge
    fix_parents(monkeypatch, hrpn, [[parent]])
    seen = record_labels(monkeypatch, hrpn)
    images, features = make_inputs(1)
    part = [30, 40, 90, 48]
    hrpn(images, features, [factories.make_gt([part], [parent])])
    anchors, labels = seen["anchors"], seen["labels"][0]
    quality = pairwise_iou(Boxes(torch.tensor([part]).float()), Boxes(anchors))[0]
    kept = anchor_sampling_scores(anchors, torch.tensor([parent])) > 0.95
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
    make_hrpn, make_inputs, storage, factories, monkeypatch
):
    """Its best kept anchor has IoU 0, as all kept anchors have: with a plain matcher all would be positive."""
    hrpn = make_hrpn(THRESHOLD=0.9)
    fix_parents(monkeypatch, hrpn, [[[0, 0, 30, 30]]])
    seen = record_labels(monkeypatch, hrpn)
    images, features = make_inputs(1)
    hrpn(images, features, [factories.make_gt([[90, 70, 110, 90]], [[80, 60, 120, 94]])])
    labels = seen["labels"][0]
    assert (labels == 1).sum() == 0
    assert (labels == 0).sum() > 0


def test_overlap_matcher():
    """Quality of 3 ground truths (rows) and 4 predictions; the second row overlaps none.

    Plain matcher, thresholds 0.3 and 0.7: maxima 0.8, 0.2, 0, 0.5 -> 1, 0, 0, -1; the rows' best: row 0: prediction 0;
    row 2: prediction 3 -> 1; row 1: its best is 0, which predictions 0 to 3 all have -> all 1.
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
    make_hrpn, make_inputs, storage, factories, monkeypatch
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
    hrpn(images, features, [factories.make_gt(parts, parents)])
    assert len(seen) == 1
    assert sorted(seen[0].gt_boxes.tensor.tolist()) == [[24, 24, 76, 70], [60, 20, 90, 70]]


@pytest.mark.parametrize("threshold", [-1.0, 0.1])
def test_weight_of_the_parent_losses(make_hrpn, make_inputs, storage, factories, threshold):
    images, features = make_inputs(1)
    results = []
    for weight in (1.0, 0.25):
        hrpn = make_hrpn(THRESHOLD=threshold, LOSS_WEIGHT=weight)
        torch.manual_seed(5)
        results.append(hrpn(images, features, [factories.two_parts_one_parent()])[1])
    for name in LOSSES:
        factor = 0.25 if "parent" in name else 1.0
        torch.testing.assert_close(results[1][name], results[0][name] * factor)


def test_scalars(make_hrpn, make_inputs, storage, factories):
    """Stock names for the part RPN, names of their own for the parent RPN."""
    images, features = make_inputs(1)
    make_hrpn()(images, features, [factories.two_parts_one_parent()])
    assert set(storage.latest()) == {
        "hrpn/kept_anchors",
        "rpn/num_pos_anchors",
        "rpn/num_neg_anchors",
        "rpn_parent/rpn/num_pos_anchors",
        "rpn_parent/rpn/num_neg_anchors",
    }


# --- nothing there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["all", "one"])
def test_images_without_parent_proposals(
    make_hrpn, make_inputs, storage, factories, monkeypatch, empty
):
    """No part proposals there, no error, all losses present, and backward reaches every parameter."""
    hrpn = make_hrpn(THRESHOLD=0.1)
    fix_parents(monkeypatch, hrpn, [[], [] if empty == "all" else [[20, 20, 80, 80]]])
    images, features = make_inputs(2)
    gts = [factories.two_parts_one_parent(), factories.two_parts_one_parent()]
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
def test_no_ground_truth(make_hrpn, make_inputs, storage, factories, threshold):
    """Beside an image with some and alone: objectness is trained (all background), boxes are not."""
    hrpn = make_hrpn(THRESHOLD=threshold)
    for gts in ([factories.make_gt(), factories.two_parts_one_parent()], [factories.make_gt()]):
        images, features = make_inputs(len(gts))
        _, losses = hrpn(images, features, gts)
        assert set(losses) == LOSSES
        assert all(torch.isfinite(v) for v in losses.values())
        assert losses["loss_rpn_cls"] > 0
        assert losses["loss_rpn_parent_cls"] > 0
    assert losses["loss_rpn_loc"] == 0
    assert losses["loss_rpn_parent_loc"] == 0
    sum(losses.values()).backward()


def test_parts_without_known_parents(make_hrpn, make_inputs, storage, factories):
    images, features = make_inputs(1)
    gt = factories.make_gt([[30, 30, 50, 46]], [[0, 0, 0, 0]])
    _, losses = make_hrpn()(images, features, [gt])
    assert losses["loss_rpn_parent_loc"] == 0


# --- not finite --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("threshold", [-1.0, 0.1])
def test_not_finite_features(make_hrpn, make_inputs, storage, factories, value, threshold):
    """In training an error, in inference left out, as in Detectron2."""
    hrpn = make_hrpn(THRESHOLD=threshold)
    images, features = make_inputs(2)
    features["p2"][0, :, 3:6, 3:6] = value
    gts = [factories.two_parts_one_parent(), factories.two_parts_one_parent()]
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


# --- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["part", "parent"])
def test_each_loss_reaches_its_own_head_and_the_features(
    make_hrpn, make_inputs, storage, factories, which
):
    """Nothing flows from the part RPN's loss through the parent proposals."""
    hrpn = make_hrpn()
    images, features = make_inputs(1)
    features = {name: level.requires_grad_() for name, level in features.items()}
    proposals, parents, losses = hrpn.forward_with_parents(
        images, features, [factories.two_parts_one_parent()]
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


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [[[16], [32], [64], [128], [256]], [[32]]], ids=["one size a level", "one for all"]
)
def test_parent_on_fewer_features(make_hrpn, make_inputs, storage, factories, sizes):
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
    _, losses = hrpn(images, features, [factories.two_parts_one_parent()])
    assert set(losses) == LOSSES
    # p2 is of no use to the parent RPN, so its logits are fewer than the part RPN's
    assert len(Boxes.cat(parent)) < len(Boxes.cat(part)) / 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"METRIC": "giou"}, r"METRIC is 'giou'; expected one of 'ii', 'iou'"),
        ({"MIN_PARENT_OBJECTNESS": 1.5}, r"MIN_PARENT_OBJECTNESS is 1.5; expected a probability"),
        ({"MAX_PARENT_PROPOSALS": (-2, 5)}, r"MAX_PARENT_PROPOSALS is \(-2, 5\); expected"),
        ({"MAX_PARENT_PROPOSALS": (5,)}, r"MAX_PARENT_PROPOSALS is \(5,\); expected"),
        ({"PARENT_IN_FEATURES": ["p3", "p7"]}, r"PARENT_IN_FEATURES has p7, not among"),
    ],
)
def test_wrong_settings(make_hrpn, keys, message):
    with pytest.raises(ConfigError, match=message):
        make_hrpn(**keys)


def test_ground_truth_without_parents_names_the_mapper(make_hrpn, make_inputs, storage, factories):
    images, features = make_inputs(1)
    gt = factories.make_gt([[30, 30, 50, 46]], with_parents=False)
    with pytest.raises(InputError, match=r"without gt_parent_boxes.*ISBDADatasetMapper"):
        make_hrpn()(images, features, [gt])
    with pytest.raises(InputError, match="no ground truth in training"):
        make_hrpn()(images, features)


def test_the_config_is_left_as_it_is(tiny_cfg, input_shape):
    before = tiny_cfg.dump()
    tiny_cfg.MODEL.HRPN.PARENT_IN_FEATURES = []
    HierarchicalRPN(tiny_cfg, input_shape)
    assert tiny_cfg.dump() == before
