"""Classes without masks, and parents as a class that is returned apart."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model, build_roi_heads
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from helpers.batches import SIZE, make_batch, make_gt

from msnet_d2.errors import ConfigError
from msnet_d2.evaluation import ISBDAEvaluator
from msnet_d2.modeling.roi_heads.masked_class_heads import classes_with_masks, parent_class

HOUSE = 3


@pytest.fixture
def cfg(tiny_cfg):
    """Tiny Mask R-CNN with houses as class 3."""
    tiny_cfg.MODEL.META_ARCHITECTURE = "ParentClassRCNN"
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    tiny_cfg.MODEL.ROI_HEADS.NAME = "MaskedClassROIHeads"
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    tiny_cfg.MODEL.ROI_HEADS.PARENT_CLASS = HOUSE
    tiny_cfg.DATASETS.TRAIN = ()
    return tiny_cfg


@pytest.fixture
def heads_of(cfg, input_shape):
    """Name -> ROI heads of that name, all with equal weights."""

    def make(name):
        cfg.MODEL.ROI_HEADS.NAME = name
        torch.manual_seed(0)
        return build_roi_heads(cfg, input_shape).train()

    return make


@pytest.fixture
def data_set():
    """Name of a registered, empty data set of two classes, the second without masks."""
    name = "test_roi_heads_masks"
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(thing_classes=["hole", "house"], classes_with_masks=["hole"])
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def outline(box):
    x0, y0, x1, y1 = box
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def matched(classes, *, masks=True):
    """Proposals as they reach the mask head, with the ground truth they were matched to."""
    boxes = [[10.0 * n, 8.0, 10.0 * n + 30, 50.0] for n in range(len(classes))]
    proposals = Instances((96, 128))
    proposals.proposal_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    proposals.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if masks:
        proposals.gt_masks = PolygonMasks([outline([b[0] + 4, 12, b[2] - 6, 41]) for b in boxes])
    return proposals


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        ([], [0, 1, 2]),  # all but the parents
        (["MODEL.ROI_HEADS.PARENT_CLASS", -1], [0, 1, 2, 3]),
        (["MODEL.ROI_HEADS.CLASSES_WITH_MASKS", [2, 0]], [0, 2]),
        (["MODEL.ROI_HEADS.CLASSES_WITH_MASKS", [1, 3]], [1]),  # parents never
        (["DATASETS.TRAIN", ("never_registered",)], [0, 1, 2]),
    ],
)
def test_classes_with_masks(cfg, opts, expected):
    cfg.merge_from_list(opts)
    assert classes_with_masks(cfg) == expected
    assert "never_registered" not in MetadataCatalog.list()


def test_classes_with_masks_of_the_data_set(cfg, data_set):
    cfg.DATASETS.TRAIN = (data_set,)
    assert classes_with_masks(cfg) == [0]
    cfg.MODEL.ROI_HEADS.CLASSES_WITH_MASKS = [1, 2]
    assert classes_with_masks(cfg) == [1, 2], "the key counts more"


def test_classes_with_masks_must_exist(cfg, data_set):
    cfg.MODEL.ROI_HEADS.CLASSES_WITH_MASKS = [0, 4]
    with pytest.raises(ConfigError, match="CLASSES_WITH_MASKS has 4, .*4 classes, 0 to 3"):
        classes_with_masks(cfg)
    cfg.MODEL.ROI_HEADS.CLASSES_WITH_MASKS = []
    cfg.DATASETS.TRAIN = (data_set,)
    MetadataCatalog.get(data_set).classes_with_masks.append("roof")
    with pytest.raises(ConfigError, match=f"metadata of {data_set} has 'roof'"):
        classes_with_masks(cfg)


def test_parents_must_be_the_last_class(cfg):
    assert parent_class(cfg) == 3
    cfg.MODEL.ROI_HEADS.PARENT_CLASS = 1
    with pytest.raises(ConfigError, match="PARENT_CLASS is 1 and NUM_CLASSES is 4"):
        build_model(cfg)
    cfg.MODEL.ROI_HEADS.PARENT_CLASS = -1
    assert parent_class(cfg) is None
    with pytest.raises(ConfigError, match="set it to the last class, 3"):
        build_model(cfg)


def test_mask_loss_is_that_of_the_classes_with_masks(heads_of, make_inputs, storage):
    _, features = make_inputs()
    damage = matched([0, 2]), matched([1])
    # As above, with houses at the end and background, which Detectron2 leaves out itself.
    with_houses = matched([0, 2, HOUSE, 4]), matched([1, HOUSE])
    masked, standard = heads_of("MaskedClassROIHeads"), heads_of("StandardROIHeads")
    expected = standard._forward_mask(features, list(damage))["loss_mask"]
    found = masked._forward_mask(features, list(with_houses))["loss_mask"]
    assert torch.equal(found, expected)
    assert not torch.equal(
        standard._forward_mask(features, list(with_houses))["loss_mask"], expected
    )


@pytest.mark.parametrize("classes", [[[HOUSE, HOUSE], [HOUSE]], [[4], [HOUSE]], [[], []]], ids=str)
def test_without_masks_the_loss_is_zero_with_gradients(heads_of, make_inputs, storage, classes):
    _, features = make_inputs()
    heads = heads_of("MaskedClassROIHeads")
    losses = heads._forward_mask(features, [matched(c, masks=False) for c in classes])
    assert list(losses) == ["loss_mask"]
    assert losses["loss_mask"].item() == 0
    losses["loss_mask"].backward()
    gradients = [p.grad for p in heads.mask_head.parameters()]
    assert len(gradients) > 0
    assert all(g is not None and not g.any() for g in gradients)


def test_training_on_a_mixed_batch(cfg):
    """Houses alone without masks, parts and a house, nothing at all: all in one batch."""
    houses = Instances(SIZE)
    houses.gt_boxes = Boxes(torch.tensor([[20.0, 20, 80, 70]]))
    houses.gt_classes = torch.tensor([HOUSE])
    parts = make_gt(parts=[[30, 30, 50, 46], [24, 24, 76, 70]], with_parents=False)
    parts.gt_classes = torch.tensor([1, HOUSE])
    empty = make_gt(with_parents=False)
    model = build_model(cfg).train()
    seen = []
    losses_of = model.roi_heads.box_predictor.losses
    model.roi_heads.box_predictor.losses = lambda predictions, proposals: (
        seen.extend(p.gt_classes.unique().tolist() for p in proposals)
        or losses_of(predictions, proposals)
    )
    with EventStorage():
        losses = model(make_batch(houses, parts, empty))
    assert {"loss_mask", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"} == set(losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_mask"] > 0
    # The box head learns the houses as class 3 (4 is background).
    assert HOUSE in seen[0]
    assert {1, HOUSE} <= set(seen[1])
    assert seen[2] == [4]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.roi_heads.parameters())


def test_mask_head_runs_for_classes_with_masks_alone(heads_of, make_inputs):
    _, features = make_inputs()
    detections = Instances((96, 128))
    detections.pred_boxes = matched([0] * 4).proposal_boxes
    detections.pred_classes = torch.tensor([HOUSE, 0, HOUSE, 2])
    none = detections[:0]
    masked, standard = heads_of("MaskedClassROIHeads").eval(), heads_of("StandardROIHeads").eval()
    sizes = []
    masked.mask_head.register_forward_hook(lambda _m, inputs, _out: sizes.append(len(inputs[0])))
    with torch.no_grad():
        expected = standard.forward_with_given_boxes(features, copy.deepcopy([detections, none]))
        found = masked.forward_with_given_boxes(features, copy.deepcopy([detections, none]))
    assert sizes == [2]
    assert found[0].pred_masks.shape == expected[0].pred_masks.shape == (4, 1, 28, 28)
    torch.testing.assert_close(found[0].pred_masks[[1, 3]], expected[0].pred_masks[[1, 3]])
    assert not found[0].pred_masks[[0, 2]].any()
    assert found[1].pred_masks.shape == (0, 1, 28, 28)
    assert found[0].pred_classes.tolist() == [HOUSE, 0, HOUSE, 2]


def test_masks_off(cfg, input_shape, make_inputs):
    cfg.MODEL.MASK_ON = False
    heads = build_roi_heads(cfg, input_shape)
    _, features = make_inputs()
    assert heads.train()._forward_mask(features, [matched([0]), matched([1])]) == {}


@pytest.fixture
def detecting(cfg):
    """Model whose ROI heads find, in network resolution: a part, its house, another house."""
    model = build_model(cfg).eval()

    def forward(_images, _features, proposals, _targets):
        found = []
        for image in proposals:
            instances = Instances(image.image_size)
            instances.pred_boxes = Boxes(
                torch.tensor([[20.0, 20, 60, 60], [30, 30, 40, 40], [70, 10, 100, 40]])
            )
            instances.scores = torch.tensor([0.9, 0.8, 0.7])
            instances.pred_classes = torch.tensor([HOUSE, 1, HOUSE])
            instances.pred_masks = torch.ones(3, 1, 28, 28)
            found.append(instances)
        return found, {}

    model.roi_heads.forward = forward
    return model


def test_parents_are_returned_apart(detecting):
    batch = make_batch(None, output_size=(192, 256))  # twice the input's 96 x 128
    with torch.no_grad():
        (output,) = detecting(batch)
    instances, parents = output["instances"], output["parents"]
    assert instances.pred_classes.tolist() == [1]
    assert instances.pred_boxes.tensor.tolist() == [[60, 60, 80, 80]]
    assert instances.pred_masks.shape == (1, 192, 256)
    assert parents.pred_boxes.tensor.tolist() == [[40, 40, 120, 120], [140, 20, 200, 80]]
    assert parents.scores.tolist() == pytest.approx([0.9, 0.7])
    assert sorted(parents.get_fields()) == ["pred_boxes", "scores"]
    # The part lies in the first house.
    assert instances.pred_parent_boxes.tensor.tolist() == [[40, 40, 120, 120]]
    assert instances.parent_scores.tolist() == pytest.approx([0.9])


def test_without_post_processing_there_are_no_parents(detecting):
    with torch.no_grad():
        (instances,) = detecting.inference(make_batch(None), do_postprocess=False)
    assert instances.pred_classes.tolist() == [1]


def test_given_boxes_come_back_all(cfg):
    model = build_model(cfg).eval()
    given = Instances(SIZE)
    given.pred_boxes = Boxes(torch.tensor([[20.0, 20, 60, 60], [30, 30, 40, 40]]))
    given.pred_classes = torch.tensor([HOUSE, 1])
    with torch.no_grad():
        (output,) = model.inference(make_batch(None), [given])
    assert list(output) == ["instances"]
    assert output["instances"].pred_classes.tolist() == [HOUSE, 1]
    assert output["instances"].pred_masks.shape == (2, *SIZE)


def test_evaluated_on_damage_and_on_houses(detecting):
    """Against a ground truth that the stubbed model finds completely."""
    name = "test_roi_heads_evaluation"
    mode = BoxMode.XYXY_ABS
    part = {"bbox": [30, 30, 40, 40], "bbox_mode": mode, "category_id": 1, "iscrowd": 0}
    part |= {"segmentation": outline([30, 30, 40, 40]), "parent_bbox": [20, 20, 60, 60]}
    record = {"file_name": "", "image_id": 5, "height": 96, "width": 128, "annotations": [part]}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(thing_classes=["Slight", "Severe", "Debris"])
    try:
        evaluator = ISBDAEvaluator(name, distributed=False)
        batch = make_batch(None)
        batch[0]["image_id"] = 5
        with torch.no_grad():
            evaluator.process(batch, detecting(batch))
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["isbda_segm"]["AP"] == pytest.approx(100)
    assert results["isbda_bbox"]["AP-Severe"] == pytest.approx(100)
    assert results["isbda_parent"]["AP"] == pytest.approx(100)  # the wrong house scores lower


@pytest.mark.parametrize("mask_on", [True, False])
def test_half_empty_batch_and_noise_in_inference(cfg, mask_on):
    cfg.MODEL.MASK_ON = mask_on
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(cfg).eval()
    with torch.no_grad():
        outputs = model(make_batch(None, None, output_size=(60, 80)))
    for output in outputs:
        classes = output["instances"].pred_classes
        assert len(classes) + len(output["parents"]) > 0
        assert HOUSE not in classes
        assert output["instances"].has("pred_masks") == mask_on
        if mask_on:
            assert output["instances"].pred_masks.shape[1:] == (60, 80)


def test_test_time_augmentation_returns_parts_alone(cfg):
    from detectron2.modeling import GeneralizedRCNNWithTTA

    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.AUG.MIN_SIZES = (96,)
    model = GeneralizedRCNNWithTTA(cfg, build_model(cfg).eval())
    with torch.no_grad():
        (output,) = model(make_batch(None))
    assert len(output["instances"]) > 0
    assert HOUSE not in output["instances"].pred_classes
