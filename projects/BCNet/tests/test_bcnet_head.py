"""The mask head: its outputs, its losses, its ablations, and weights of a stock Mask R-CNN."""

from __future__ import annotations

import pytest
import torch
from bcnet.losses import boundaries
from bcnet.mask_head import PATIENCE, BCNetMaskHead
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import build_mask_head
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from msnet_d2.errors import ConfigError

SHAPE = ShapeSpec(channels=8, height=14, width=14)
LOSSES = {"loss_mask", "loss_boundary", "loss_occluder_mask", "loss_occluder_boundary"}


def make_head(**arguments) -> BCNetMaskHead:
    torch.manual_seed(0)
    return BCNetMaskHead(SHAPE, **{"num_classes": 1, "num_conv": 2, **arguments})


def make_truth(count: int = 2, *, with_occluders: bool = True) -> list[Instances]:
    """Squares in their boxes, the right half hidden by something."""
    truth = Instances((28, 28))
    truth.proposal_boxes = Boxes(torch.tensor([[0.0, 0, 28, 28]]).repeat(count, 1))
    truth.gt_classes = torch.arange(count) % 3
    masks = torch.zeros(count, 28, 28, dtype=torch.bool)
    masks[:, 6:20, 6:20] = True
    truth.gt_masks = BitMasks(masks)
    occluders = torch.zeros_like(masks)
    occluders[:, :, 14:] = with_occluders
    truth.gt_occluder_masks = BitMasks(occluders)
    return [truth]


def test_outputs_are_twice_as_large_as_the_features():
    logits = make_head(num_classes=3).logits(torch.randn(5, 8, 14, 14))
    assert logits.mask.shape == (5, 3, 28, 28)
    assert all(part.shape == (5, 1, 28, 28) for part in logits[1:])


def test_each_loss_is_that_of_its_own_output():
    head, (truth,) = make_head(weights=(1.0, 0.25, 0.5, 2.0)).train(), make_truth()
    for name in ("", "boundary_", "occluder_", "occluder_boundary_"):
        torch.nn.init.normal_(getattr(head, f"{name}predictor").weight)
    x = torch.randn(2, 8, 14, 14)
    with EventStorage():
        losses = head(x, [truth])
    logits = head.logits(x)

    def bce(output, target):
        return F.binary_cross_entropy_with_logits(output[:, 0], target.float())

    # The boxes are the whole images at the size of the outputs: a crop is the mask itself.
    masks, occluders = truth.gt_masks.tensor, truth.gt_occluder_masks.tensor
    expected = {
        "loss_mask": bce(logits.mask, masks),
        "loss_occluder_mask": 0.25 * bce(logits.occluder_mask, occluders),
        "loss_boundary": 0.5 * bce(logits.boundary, boundaries(masks)),
        "loss_occluder_boundary": 2 * bce(logits.occluder_boundary, boundaries(occluders)),
    }
    assert losses.keys() == LOSSES
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    assert len({round(v.item(), 4) for v in losses.values()}) == 4, "four different figures"


def test_without_occluders_their_losses_are_0_and_every_weight_still_has_a_gradient():
    head = make_head().train()
    with EventStorage():
        losses = head(torch.randn(2, 8, 14, 14), make_truth(with_occluders=False))
    assert losses["loss_occluder_mask"] == 0
    assert losses["loss_occluder_boundary"] == 0
    assert losses["loss_mask"] > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_no_regions_are_a_loss_of_0():
    head = make_head().train()
    empty = Instances((28, 28), proposal_boxes=Boxes(torch.zeros(0, 4)))
    with EventStorage():
        losses = head(torch.zeros(0, 8, 14, 14), [empty, empty])
    assert losses.keys() == LOSSES
    assert sum(losses.values()) == 0
    sum(losses.values()).backward()


def test_the_object_is_told_what_the_occluder_layer_saw():
    head = make_head()
    x = torch.randn(1, 8, 14, 14)
    before = head.logits(x)
    torch.nn.init.normal_(head.predictor.weight)
    seen = head.logits(x).mask
    with torch.no_grad():
        head.occluder_fcn2.weight.add_(0.1)
    assert not torch.equal(head.logits(x).mask, seen)
    assert not torch.equal(head.logits(x).occluder_mask, before.occluder_mask)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({"bilayer": False}, {"loss_occluder_mask", "loss_occluder_boundary"}),
        ({"boundary": False}, {"loss_boundary", "loss_occluder_boundary"}),
        ({"bilayer": False, "boundary": False}, LOSSES - {"loss_mask"}),
        ({"gcn": False}, set()),
        ({"gcn_norm": "BN"}, set()),
    ],
    ids=["single layer", "no boundary", "mask alone", "no GCN", "BN"],
)
def test_each_part_can_be_left_out(arguments, missing):
    head, truth = make_head(**arguments), make_truth()
    if not arguments.get("bilayer", True):
        truth[0].remove("gt_occluder_masks")
    with EventStorage():
        assert head.train()(torch.randn(2, 8, 14, 14), truth).keys() == LOSSES - missing
    detections = Instances((28, 28), pred_classes=torch.zeros(2, dtype=torch.int64))
    with torch.no_grad():
        (found,) = head.eval()(torch.randn(2, 8, 14, 14), [detections])
    assert found.pred_masks.shape == (2, 1, 28, 28)
    assert found.has("pred_occluder_masks") == ("loss_occluder_mask" not in missing)
    assert found.has("pred_boundaries") == ("loss_boundary" not in missing)


def test_detections_of_each_image_get_their_own_predictions_in_order():
    head, x = make_head(num_classes=3).eval(), torch.randn(3, 8, 14, 14)
    torch.nn.init.normal_(head.predictor.weight)
    classes = torch.tensor([2, 0, 1])
    images = [
        Instances((28, 28), pred_classes=classes[:1]),
        Instances((28, 28), pred_classes=classes[1:]),
    ]
    with torch.no_grad():
        first, second = head(x, images)
        logits = head.logits(x)
    probabilities = logits.mask.sigmoid()
    torch.testing.assert_close(first.pred_masks[0, 0], probabilities[0, 2])
    torch.testing.assert_close(second.pred_masks[:, 0], probabilities[[1, 2], [0, 1]])
    torch.testing.assert_close(second.pred_occluder_masks, logits.occluder_mask[1:].sigmoid())
    torch.testing.assert_close(first.pred_boundaries, logits.boundary[:1].sigmoid())


def test_hidden_is_what_lies_in_the_whole_and_behind_the_occluder():
    head = make_head(whole=True).eval()
    for name in ("", "occluder_"):
        torch.nn.init.normal_(getattr(head, f"{name}predictor").weight)
    detections = Instances((28, 28), pred_classes=torch.zeros(3, dtype=torch.int64))
    with torch.no_grad():
        (found,) = head(torch.randn(3, 8, 14, 14), [detections])
    both = (found.pred_masks > 0.5) & (found.pred_occluder_masks > 0.5)
    assert 0 < both.float().mean() < 1
    assert torch.equal(found.pred_hidden_masks > 0.5, both)


def test_weights_of_a_stock_mask_head_set_the_objects_layer():
    stock = MaskRCNNConvUpsampleHead(SHAPE, num_classes=1, conv_dims=[8] * 3)
    head = make_head()
    rest = head.load_state_dict(stock.state_dict(), strict=False)
    assert rest.unexpected_keys == []
    own = ("occluder", "boundary", "mask_gcn")
    assert all(name.startswith(own) for name in rest.missing_keys)
    assert torch.equal(head.mask_fcn2.weight, stock.mask_fcn2.weight)


def test_it_has_the_size_that_the_paper_gives():
    head = BCNetMaskHead(ShapeSpec(channels=256), num_classes=1, num_conv=4)
    # 8 convs of 590,080, 2 graph convolutions of 262,656, 4 deconvs of 262,400, 4 x 257.
    expected = 8 * 590_080 + 2 * 262_656 + 4 * 262_400 + 4 * 257
    assert sum(p.numel() for p in head.parameters()) == expected


def test_a_training_without_any_occluder_is_warned_of_once(caplog):
    head, truth = make_head(), make_truth(1, with_occluders=False)
    occluders = truth[0].gt_occluder_masks.tensor
    with EventStorage() as storage:
        for _ in range(PATIENCE + 5):
            head._count(occluders)
        assert storage.latest()["bcnet/regions_with_occluders"][0] == 0
    warnings = [r for r in caplog.records if "No region of the first 100 steps" in r.message]
    assert len(warnings) == 1


def test_truth_without_occluders_names_the_mapper():
    head, truth = make_head().train(), make_truth()
    truth[0].remove("gt_occluder_masks")
    with EventStorage(), pytest.raises(ConfigError, match="INPUT.MAPPER to 'OccluderMapper'"):
        head(torch.randn(2, 8, 14, 14), truth)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ROI_MASK_HEAD.NUM_CONV", 3, "NUM_CONV is 3; .* even number"),
        ("ROI_MASK_HEAD.NUM_CONV", 0, "NUM_CONV is 0; .* even number"),
        ("ROI_MASK_HEAD.CONV_DIM", 16, "CONV_DIM is 16 and the feature maps have 8 channels"),
        ("ROI_MASK_HEAD.NORM", "GN", "NORM is 'GN'"),
        ("BCNET.WEIGHTS", (1.0, 1.0), "WEIGHTS has 2 numbers; expected 4"),
    ],
)
def test_configs_that_cannot_be_built_say_why(tiny_cfg, key, value, message):
    head = tiny_cfg.MODEL.ROI_MASK_HEAD
    head.NAME, head.NUM_CONV, head.CONV_DIM = "BCNetMaskHead", 2, 8
    tiny_cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(ConfigError, match=message):
        build_mask_head(tiny_cfg, SHAPE)
