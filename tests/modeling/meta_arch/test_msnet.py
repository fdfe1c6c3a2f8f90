"""The meta-architecture: what it returns, and that it works with the rest of Detectron2."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from helpers.batches import SIZE, make_batch, make_gt, two_parts_one_parent

from msnet_d2.errors import ConfigError
from msnet_d2.structures.parents import assign_parents, select_parents

RPN_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc"}


def instances_of(boxes, scores=None) -> Instances:
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    result = Instances((100, 200), pred_boxes=Boxes(boxes))
    if scores is not None:
        result.scores = torch.tensor(scores, dtype=torch.float32)
    return result


# --- parents


def test_assign_parents():
    """Each case by hand; the parents' scores fall, as they do from select_parents."""
    parents = instances_of(
        [[0, 0, 50, 50], [40, 0, 90, 50], [0, 0, 60, 60], [100, 0, 150, 50]], [0.9, 0.8, 0.7, 0.2]
    )
    instances = instances_of(
        [
            [10, 10, 30, 30],  # inside parents 0 and 2 alike: the higher score, 0
            [35, 10, 55, 30],  # 15, 15 and 20 of its 20 columns in parents 0, 1, 2: parent 2
            [70, 40, 90, 60],  # in parent 1 alone, by half
            [85, 10, 105, 30],  # 5 columns in parent 1 and 5 in parent 3: the higher score, 1
            [160, 60, 170, 70],  # in none
            [150, 10, 170, 30],  # touches parent 3: in none
        ]
    )
    assign_parents(instances, parents)
    expected = [[0, 0, 50, 50], [0, 0, 60, 60], [40, 0, 90, 50], [40, 0, 90, 50], [0] * 4, [0] * 4]
    assert instances.pred_parent_boxes.tensor.tolist() == expected
    assert instances.parent_scores.tolist() == pytest.approx([0.9, 0.7, 0.8, 0.8, 0, 0])


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
def test_assign_parents_of_nothing(n, m):
    instances = instances_of([[0, 0, 10, 10]] * n)
    assign_parents(instances, instances_of([[0, 0, 50, 50]] * m, [0.5] * m))
    assert instances.pred_parent_boxes.tensor.tolist() == [[0, 0, 0, 0]] * n
    assert instances.parent_scores.tolist() == [0] * n


def test_select_parents():
    """Logits 2, 1.5, 1, 0, -3 are probabilities 0.88, 0.82, 0.73, 0.5, 0.05."""
    boxes = [
        [0, 0, 40, 40],
        [0, 0, 40, 30],  # IoU with the first 0.75
        [30, 0, 70, 40],  # IoU with the first 10 / 70
        [100, 0, 140, 40],
        [150, 0, 190, 40],
    ]
    proposals = Instances(
        (100, 200),
        proposal_boxes=Boxes(torch.tensor(boxes).float()),
        objectness_logits=torch.tensor([2, 1.5, 1, 0, -3]),
    )

    def select(**changes):
        settings = {"score_thresh": 0.1, "nms_thresh": 0.5, "topk": 10, **changes}
        result = select_parents(proposals, **settings)
        assert result.image_size == (100, 200)
        assert (result.scores[:-1] >= result.scores[1:]).all()
        return [boxes.index(b) for b in result.pred_boxes.tensor.tolist()]

    assert select() == [0, 2, 3]
    assert select(nms_thresh=0.8) == [0, 1, 2, 3]
    assert select(nms_thresh=0.1) == [0, 3]
    assert select(score_thresh=0.5) == [0, 2]  # strictly above
    assert select(score_thresh=0.01) == [0, 2, 3, 4]
    assert select(topk=1) == [0]
    assert select(topk=0) == []
    assert select(score_thresh=1.0) == []
    torch.testing.assert_close(
        select_parents(proposals, score_thresh=0.6, nms_thresh=0.5, topk=9).scores,
        torch.tensor([0.8807971, 0.7310586]),
    )


# --- what it returns


def test_output(tiny_model):
    """All is in output resolution, here twice the input's height and three times its width."""
    tiny_model.eval()
    height, width = 2 * SIZE[0], 3 * SIZE[1]
    batch = make_batch(None, None, output_size=(height, width))
    with torch.no_grad():
        outputs = tiny_model(batch)
    assert len(outputs) == 2
    for output in outputs:
        assert set(output) == {"instances", "parents"}
        instances, parents = output["instances"], output["parents"]
        n = len(instances)
        assert n > 0
        assert len(parents) > 0
        assert set(instances.get_fields()) == {
            "pred_boxes",
            "scores",
            "pred_classes",
            "pred_masks",
            "pred_parent_boxes",
            "parent_scores",
        }
        assert set(parents.get_fields()) == {"pred_boxes", "scores"}
        assert instances.image_size == parents.image_size == (height, width)
        assert instances.pred_masks.shape == (n, height, width)
        assert instances.parent_scores.shape == (n,)
        assert (parents.scores[:-1] >= parents.scores[1:]).all()
        assert ((parents.scores > 0.05) & (parents.scores <= 1)).all()
        shown = {tuple(b) for b in parents.pred_boxes.tensor.tolist()}
        for box, score, parent in zip(
            instances.pred_parent_boxes.tensor.tolist(),
            instances.parent_scores.tolist(),
            instances.pred_boxes.tensor.tolist(),
        ):
            if score > 0:  # it is one of the parents shown, and overlaps the instance
                assert tuple(box) in shown
                assert min(box[2], parent[2]) > max(box[0], parent[0])
            else:
                assert box == [0, 0, 0, 0]
        assert (instances.parent_scores > 0).any()


def test_boxes_are_scaled_as_the_image(tiny_model):
    """Twice the output resolution gives twice the coordinates, parents' too."""
    tiny_model.eval()
    h, w = SIZE
    with torch.no_grad():
        one = tiny_model(make_batch(None, output_size=(h, w)))[0]
        two = tiny_model(make_batch(None, output_size=(2 * h, 2 * w)))[0]
    for name in ("pred_boxes", "pred_parent_boxes"):
        a, b = one["instances"].get(name).tensor, two["instances"].get(name).tensor
        torch.testing.assert_close(b, 2 * a)
    torch.testing.assert_close(
        two["parents"].pred_boxes.tensor, 2 * one["parents"].pred_boxes.tensor
    )


def test_raw_output_has_parents_in_network_resolution(tiny_model):
    tiny_model.eval()
    batch = make_batch(None, output_size=(500, 700))
    with torch.no_grad():
        raw = tiny_model.inference(batch, do_postprocess=False)
    assert isinstance(raw[0], Instances)
    assert raw[0].image_size == SIZE
    assert raw[0].pred_masks.shape[1] == 1  # per box, not pasted
    assert raw[0].pred_parent_boxes.tensor[:, 2].max() <= SIZE[1]


def test_given_boxes(tiny_model):
    """Masks are predicted for them, nothing is detected, and no parents are looked for."""
    tiny_model.eval()
    batch = make_batch(None)
    given = instances_of([[10, 10, 60, 50]])
    given = Instances(SIZE, pred_boxes=given.pred_boxes, pred_classes=torch.tensor([1]))
    with torch.no_grad():
        output = tiny_model.inference(batch, [given])[0]
    assert set(output) == {"instances"}
    assert output["instances"].pred_boxes.tensor.tolist() == [[10, 10, 60, 50]]
    assert output["instances"].pred_masks.shape == (1, *SIZE)


def test_detections_equal_those_of_generalized_rcnn(tiny_cfg, tiny_model):
    """MSNet only adds: in a GeneralizedRCNN the same weights detect the same."""
    tiny_cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    plain = build_model(tiny_cfg)
    plain.load_state_dict(tiny_model.state_dict())
    assert type(plain) is GeneralizedRCNN
    batch = make_batch(None, output_size=(50, 80))
    with torch.no_grad():
        ours, theirs = tiny_model.eval()(batch)[0], plain.eval()(batch)[0]
    for name, value in theirs["instances"].get_fields().items():
        mine = ours["instances"].get(name)
        if isinstance(value, Boxes):
            value, mine = value.tensor, mine.tensor
        assert torch.equal(mine, value), name


def test_no_parents_found(tiny_cfg):
    """A threshold that no parent passes: instances still come, without parents."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.MODEL.HRPN.PARENT_SCORE_THRESH_TEST = 1.0
    model = build_model(tiny_cfg).eval()
    with torch.no_grad():
        output = model(make_batch(None))[0]
    assert len(output["parents"]) == 0
    assert len(output["instances"]) > 0
    assert not output["instances"].parent_scores.any()
    assert not output["instances"].pred_parent_boxes.tensor.any()


def test_no_kept_anchor_at_all(tiny_cfg, storage):
    """Nothing is detected, and training goes on with the ground truth as proposals."""
    tiny_cfg.MODEL.HRPN.PARENT_TOPK_TRAIN = tiny_cfg.MODEL.HRPN.PARENT_TOPK_TEST = 0
    model = build_model(tiny_cfg)
    losses = model(make_batch(two_parts_one_parent(), make_gt()))
    sum(losses.values()).backward()
    assert losses["loss_mask"] > 0
    model.eval()
    with torch.no_grad():
        outputs = model(make_batch(None, None))
    for output in outputs:
        assert len(output["instances"]) == 0
        assert output["instances"].pred_parent_boxes.tensor.shape == (0, 4)
        assert output["instances"].pred_masks.shape == (0, *SIZE)


# --- training


@pytest.mark.parametrize("case", ["both with objects", "half empty", "all empty"])
def test_training_step(tiny_model, storage, case):
    """The same losses each time, all finite, and a gradient for every parameter that is trained."""
    full, empty = two_parts_one_parent, make_gt
    gts = {
        "both with objects": [full(), full()],
        "half empty": [empty(), full()],
        "all empty": [empty(), empty()],
    }[case]
    losses = tiny_model(make_batch(*gts))
    assert set(losses) == RPN_LOSSES | {"loss_cls", "loss_box_reg", "loss_mask"}
    assert all(torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    for name, parameter in tiny_model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_training_learns(tiny_cfg, storage):
    """Twenty steps on one image bring both RPNs' losses down."""
    # Random weights do not train with the statistics frozen.
    tiny_cfg.MODEL.RESNETS.NORM = "BN"
    tiny_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    torch.manual_seed(0)
    model = build_model(tiny_cfg)
    batch = make_batch(two_parts_one_parent())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    history = []
    for _ in range(20):
        losses = model(copy.deepcopy(batch))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({k: v.item() for k, v in losses.items()})
    # The parent fits one anchor well from the start, so its box loss has little to lose.
    for name, share in {
        "loss_rpn_cls": 0.7,
        "loss_rpn_loc": 0.7,
        "loss_rpn_parent_cls": 0.7,
        "loss_rpn_parent_loc": 0.9,
    }.items():
        assert history[-1][name] < share * history[0][name], name


def test_visualization_of_training(tiny_cfg, storage):
    """VIS_PERIOD works as in Detectron2."""
    tiny_cfg.VIS_PERIOD = 1
    build_model(tiny_cfg)(make_batch(two_parts_one_parent()))
    titles = [title for title, *_ in storage._vis_data]
    assert "Left: GT bounding boxes;  Right: Predicted proposals" in titles


@pytest.mark.parametrize("name", ["RPN", "PrecomputedProposals"])
def test_needs_a_proposal_generator_with_parents(tiny_cfg, name):
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = name
    with pytest.raises(
        ConfigError, match=r"proposes no parents; set MODEL.PROPOSAL_GENERATOR.NAME"
    ):
        build_model(tiny_cfg)
