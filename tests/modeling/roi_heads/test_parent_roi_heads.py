"""The second stage of parents: trained on parents alone, seen in the parents alone."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from helpers.batches import make_batch, make_gt, two_parts_one_parent

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.modeling.roi_heads.parent_heads import detect_parents, parent_roi_sources

HEADS = "proposal_generator.parent_roi_heads."
LOSSES = {"loss_parent_cls", "loss_parent_box_reg"}


@pytest.fixture
def make_model(tiny_cfg):
    """Config overrides -> a random MSNet whose parents have a second stage."""

    def make(seed: int = 0, **keys) -> torch.nn.Module:
        cfg = tiny_cfg.clone()
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        cfg.MODEL.HRPN.PARENT_ROI_HEADS = "StandardROIHeads"
        for key, value in keys.items():
            cfg.merge_from_list([key.replace("__", "."), value])
        torch.manual_seed(seed)
        return build_model(cfg)

    return make


def losses_of(model, batch) -> dict[str, torch.Tensor]:
    model.train()
    torch.manual_seed(3)  # proposals are sampled
    return model(batch)


def test_there_is_none_unless_asked_for(make_model):
    model = make_model(MODEL__HRPN__PARENT_ROI_HEADS="")
    assert model.proposal_generator.parent_roi_heads is None
    assert not any("parent_roi_heads" in name for name in model.state_dict())


def test_it_has_one_class_and_no_masks(make_model):
    model = make_model()
    heads = model.proposal_generator.parent_roi_heads
    assert heads.num_classes == 1
    assert not heads.mask_on
    assert heads.box_predictor.cls_score.out_features == 2
    assert model.roi_heads.num_classes == 3
    assert model.roi_heads.mask_on


def test_losses_train_it_and_are_no_others(make_model, storage):
    model = make_model()
    batch = make_batch(two_parts_one_parent(), two_parts_one_parent())
    losses = losses_of(model, batch)
    assert set(losses) >= LOSSES
    sum(losses[name] for name in LOSSES).backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"backbone", "proposal_generator"}
    grads = [p.grad for p in model.proposal_generator.parent_roi_heads.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    assert all(p.grad is None for p in model.proposal_generator.rpn_head.parameters())
    # Boxes are not differentiated through: the parent RPN learns from its own losses.
    parent_rpn = model.proposal_generator.parent_rpn
    assert all(p.grad is None for p in parent_rpn.parameters())
    scalars = storage.latest()
    assert scalars["parent/roi_head/num_fg_samples"][0] > 0


def test_the_weight_is_a_factor(make_model, storage):
    batch = make_batch(two_parts_one_parent())
    once = losses_of(make_model(), batch)
    thrice = losses_of(make_model(MODEL__HRPN__PARENT_ROI_LOSS_WEIGHT=3.0), batch)
    for name, loss in once.items():
        torch.testing.assert_close(thrice[name], loss * (3 if name in LOSSES else 1))


def test_the_rpns_losses_are_those_without_it(make_model, storage):
    batch = make_batch(two_parts_one_parent())
    with_it = make_model()
    without = make_model(MODEL__HRPN__PARENT_ROI_HEADS="")
    without.load_state_dict(
        {k: v for k, v in with_it.state_dict().items() if not k.startswith(HEADS)}
    )
    one, other = losses_of(with_it, batch), losses_of(without, batch)
    assert set(one) - set(other) == LOSSES
    for name in ("loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"):
        assert torch.equal(one[name], other[name]), name


def test_an_image_without_parents_gives_finite_losses(make_model, storage):
    model = make_model()
    losses = losses_of(model, make_batch(make_gt()))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_parent_box_reg"] == 0
    sum(losses.values()).backward()


def test_parents_are_what_it_detects(make_model):
    """Its predictor is set so that every proposal scores sigmoid(2 · 1) = 0.88, unmoved."""
    model = make_model(MODEL__HRPN__PARENT_NMS_THRESH_TEST=1.0).eval()
    predictor = model.proposal_generator.parent_roi_heads.box_predictor
    for tensor in predictor.parameters():
        tensor.data.zero_()
    predictor.cls_score.bias.data = torch.tensor([1.0, -1.0])
    batch = make_batch(None)
    with torch.no_grad():
        output = model(batch)[0]
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        _, proposals, _ = model.proposal_generator.forward_with_parents(images, features)
    parents = output["parents"]
    expected = torch.full((len(parents),), 0.8807971)
    torch.testing.assert_close(parents.scores, expected, atol=1e-6, rtol=0)
    proposed = proposals[0].proposal_boxes.tensor
    assert len(parents) == len(proposed) > 10
    # Decoding a box rounds it.
    apart = (parents.pred_boxes.tensor[:, None] - proposed[None]).abs().amax(dim=2)
    assert (apart.amin(dim=1) < 1e-3).all()
    # and each instance's parent is among them
    assert (output["instances"].parent_scores[:1] > 0).all()


def test_detections_are_sorted_and_carry_no_classes():
    found = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])),
        scores=torch.tensor([0.2, 0.9, 0.9]),
        pred_classes=torch.zeros(3, dtype=torch.int64),
    )
    (parents,) = detect_parents(lambda *_: ([found], {}), None, {}, [None])
    assert parents.pred_boxes.tensor[:, 2].tolist() == [2, 3, 1]
    assert set(parents.get_fields()) == {"pred_boxes", "scores"}


def test_thresholds_are_the_parents_own(make_model):
    batch = make_batch(None)

    def parents(**keys):
        with torch.no_grad():
            return make_model(**keys).eval()(batch)[0]["parents"]

    assert len(parents(MODEL__HRPN__PARENT_DETECTIONS_PER_IMAGE=3)) == 3
    assert len(parents(MODEL__HRPN__PARENT_SCORE_THRESH_TEST=1.0)) == 0
    assert len(parents()) > 3


# --- checkpoints


def test_a_model_without_it_gives_its_box_head(make_model, tmp_path):
    given = make_model(1, MODEL__HRPN__PARENT_ROI_HEADS="")
    torch.save({"model": given.state_dict()}, tmp_path / "a.pth")
    model = make_model(2)
    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.pth"))
    mine, theirs = model.proposal_generator.parent_roi_heads.box_head, given.roi_heads.box_head
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], tensor)
    assert {d.name for d in checkpointer.report.expected} == {
        f"{HEADS}box_predictor.{name}"
        for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
    }
    assert checkpointer.report.suspicious == []


def test_its_own_checkpoint_comes_back_and_a_plain_model_does_without(make_model, tmp_path):
    given = make_model(1)
    torch.save({"model": given.state_dict()}, tmp_path / "a.pth")
    model = make_model(2)
    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(str(tmp_path / "a.pth"))
    assert checkpointer.report.initialized == {}
    assert checkpointer.report.expected == checkpointer.report.suspicious == []
    for name, tensor in given.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name

    plain = MSNetCheckpointer(make_model(3, MODEL__HRPN__PARENT_ROI_HEADS=""))
    plain.load(str(tmp_path / "a.pth"))
    assert plain.report.suspicious == []
    assert {d.why for d in plain.report.expected} == {
        "parents have no second stage (MODEL.HRPN.PARENT_ROI_HEADS)"
    }


def test_other_classes_are_still_told(make_model, tmp_path):
    """Parents have one class here and there; that of parts differs, and is named."""
    given = make_model(1, MODEL__ROI_HEADS__NUM_CLASSES=5)
    torch.save({"model": given.state_dict()}, tmp_path / "a.pth")
    checkpointer = MSNetCheckpointer(make_model(2))
    checkpointer.load(str(tmp_path / "a.pth"))
    assert checkpointer.report.suspicious == []
    assert {d.why for d in checkpointer.report.expected} == {
        "5 classes in the checkpoint, 3 here; starts at random"
    }


def test_sources():
    state = {"roi_heads.box_head.fc1.weight": 0, "roi_heads.box_predictor.cls_score.weight": 1}
    expected = {"h.box_head.fc1.weight": "roi_heads.box_head.fc1.weight"}
    assert parent_roi_sources(state, "h.") == expected
    assert parent_roi_sources({**state, "h.box_head.fc1.weight": 2}, "h.") == {}
    assert parent_roi_sources({}, "h.") == {}
