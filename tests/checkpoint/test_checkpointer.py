"""Checkpoints of other models for an MSNet: what is loaded, what is reported, what is refused."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from msnet_d2.checkpoint.checkpointer import Difference, LoadReport, MSNetCheckpointer
from msnet_d2.errors import WeightsError

PART, PARENT = "proposal_generator.rpn_head.", "proposal_generator.parent_rpn.rpn_head."
CLASS_HEADS = {
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.cls_score.bias",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.box_predictor.bbox_pred.bias",
    "roi_heads.mask_head.predictor.weight",
    "roi_heads.mask_head.predictor.bias",
}


@pytest.fixture
def make_model(tiny_cfg):
    """Config overrides -> random model; "stock" is Detectron2's Mask R-CNN with 80 classes."""

    def make(kind: str = "msnet", seed: int = 0, **keys) -> torch.nn.Module:
        cfg = tiny_cfg.clone()
        if kind == "stock":
            cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
            cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
            cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
        for key, value in keys.items():
            cfg.merge_from_list([key.replace("__", "."), value])
        torch.manual_seed(seed)
        return build_model(cfg)

    return make


def tensors(model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def zoo_pickle(path, state, author="Detectron2 Model Zoo", **extra):
    """A file as the model zoo has them: NumPy arrays, pickled."""
    data = {"model": {k: v.numpy() for k, v in state.items()}, "__author__": author, **extra}
    path.write_bytes(pickle.dumps(data))
    return str(path)


def pth(path, data):
    torch.save(data, path)
    return str(path)


def names(differences) -> set[str]:
    return {d.name for d in differences}


@pytest.mark.parametrize("layout", ["pkl", "pth with model", "state dict", "distributed", "mmdet"])
def test_stock_mask_rcnn(make_model, tmp_path, layout):
    """Both RPN heads come from its one; only the heads of 80 classes differ, as expected."""
    given = tensors(make_model("stock", seed=1))
    path = {
        "pkl": lambda: zoo_pickle(tmp_path / "a.pkl", given),
        "pth with model": lambda: pth(tmp_path / "a.pth", {"model": given, "iteration": 7}),
        "state dict": lambda: pth(tmp_path / "a.pth", given),
        "distributed": lambda: pth(
            tmp_path / "a.pth", {"model": {f"module.{k}": v for k, v in given.items()}}
        ),
        "mmdet": lambda: pth(tmp_path / "a.pth", {"state_dict": given}),
    }[layout]()
    model = make_model()
    before = tensors(model)
    checkpointer = MSNetCheckpointer(model)
    rest = checkpointer.load(path)
    report, after = checkpointer.report, model.state_dict()

    assert rest.get("iteration") == (7 if layout == "pth with model" else None)
    heads = ["conv.weight", "conv.bias", "objectness_logits.weight", "objectness_logits.bias"]
    heads += ["anchor_deltas.weight", "anchor_deltas.bias"]
    for head in heads:
        assert torch.equal(after[PART + head], given[PART + head])
        assert torch.equal(after[PARENT + head], given[PART + head])
    assert report.initialized == {PARENT + head: PART + head for head in heads}
    assert names(report.expected) == CLASS_HEADS
    assert {d.why for d in report.expected} == {
        "80 classes in the checkpoint, 3 here; starts at random"
    }
    assert report.suspicious == []
    assert not report.backbone_only
    for name in CLASS_HEADS:
        assert torch.equal(after[name], before[name])
    for name in set(given) - CLASS_HEADS:
        assert torch.equal(after[name], given[name]), name
    assert len(report.loaded) == len(given) - len(CLASS_HEADS)
    assert report.total == len(after)


def test_the_two_rpn_heads_are_separate_afterwards(make_model, tmp_path):
    path = pth(tmp_path / "a.pth", tensors(make_model("stock")))
    model = make_model()
    MSNetCheckpointer(model).load(path)
    with torch.no_grad():
        model.proposal_generator.rpn_head.conv.weight.zero_()
    assert model.proposal_generator.parent_rpn.rpn_head.conv.weight.any()


def test_own_checkpoint_keeps_its_parent_head(make_model, tmp_path):
    """Saved and loaded again: everything is equal, nothing is initialised from another."""
    saved = make_model(seed=1)
    MSNetCheckpointer(saved, str(tmp_path)).save("model_0000001", iteration=1)
    model = make_model(seed=2)
    checkpointer = MSNetCheckpointer(model, str(tmp_path))
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 1
    for name, tensor in saved.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    report = checkpointer.report
    assert (report.share, report.initialized) == (1.0, {})
    assert report.expected == report.suspicious == []


def test_optimizer_and_numpy_numbers_are_resumed(make_model, tmp_path):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    MSNetCheckpointer(model, str(tmp_path), optimizer=optimizer).save(
        "last", best=np.float64(0.5), history=np.arange(3)
    )
    other = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rest = MSNetCheckpointer(model, str(tmp_path), optimizer=other).resume_or_load("", resume=True)
    assert other.param_groups[0]["lr"] == 0.5
    assert rest["best"] == 0.5
    assert rest["history"].tolist() == [0, 1, 2]


def test_msnet_checkpoint_in_a_stock_model(make_model, tmp_path):
    """The way back: the parent head is left over, as expected."""
    path = pth(tmp_path / "a.pth", tensors(make_model()))
    checkpointer = MSNetCheckpointer(make_model("stock", MODEL__ROI_HEADS__NUM_CLASSES=3))
    checkpointer.load(path)
    assert checkpointer.report.suspicious == []
    assert {d.why for d in checkpointer.report.expected} == {"this model has no parent RPN"}
    assert len(checkpointer.report.expected) == 6


def test_cascade_with_other_classes(make_model, tmp_path):
    """Several box predictors, boxes regressed without classes: their deltas are loaded."""
    keys = {
        "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
        "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
    }
    path = pth(tmp_path / "a.pth", tensors(make_model("stock", **keys)))
    checkpointer = MSNetCheckpointer(make_model(**keys))
    checkpointer.load(path)
    assert checkpointer.report.suspicious == []
    expected = {
        f"roi_heads.box_predictor.{i}.cls_score.{k}" for i in range(3) for k in ("weight", "bias")
    }
    expected |= {f"roi_heads.mask_head.predictor.{k}" for k in ("weight", "bias")}
    assert names(checkpointer.report.expected) == expected


def caffe2_backbone(model) -> dict[str, torch.Tensor]:
    """The backbone's tensors under the names of Detectron's ImageNet files; a classifier."""
    state = {}
    for name, tensor in model.backbone.bottom_up.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("stem.conv1", "conv1").replace(".shortcut", ".branch1")
        name = name.replace(".conv1", ".branch2a").replace(".conv2", ".branch2b")
        name = name.replace(".norm.weight", "_bn.s").replace(".norm.bias", "_bn.b")
        name = name.replace(".norm.running_mean", "_bn.rm").replace(".norm.running_var", "_bn.riv")
        name = name.replace("conv1_bn", "res_conv1_bn") if name.startswith("conv1_") else name
        state[name.replace(".weight", ".w").replace(".", "_")] = tensor
    return {**state, "fc1000_w": torch.zeros(1000, 512), "fc1000_b": torch.zeros(1000)}


@pytest.mark.parametrize("layout", ["Detectron", "torchvision"])
def test_imagenet_backbone(make_model, tmp_path, layout):
    """A backbone alone is recognised and not refused, though most of the model is missing."""
    source = make_model(seed=1)
    given = source.backbone.bottom_up.state_dict()
    if layout == "Detectron":
        arrays = {k: v.numpy() for k, v in caffe2_backbone(source).items()}
        (tmp_path / "R.pkl").write_bytes(pickle.dumps(arrays))
    else:
        state = {**given, "stem.fc.weight": torch.zeros(10, 10)}
        zoo_pickle(tmp_path / "R.pkl", state, "torchvision", matching_heuristics=True)
    model = make_model()
    before = tensors(model)
    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(str(tmp_path / "R.pkl"))
    report = checkpointer.report
    assert report.backbone_only
    assert report.suspicious == []
    assert report.initialized == {}
    for name, tensor in given.items():
        assert torch.equal(model.state_dict()[f"backbone.bottom_up.{name}"], tensor), name
    untouched = [k for k in before if not k.startswith("backbone.bottom_up.")]
    assert untouched
    assert all(torch.equal(model.state_dict()[k], before[k]) for k in untouched)
    missing = {d.name for d in report.expected if d.what == "missing"}
    assert missing == set(untouched)
    assert {d.what for d in report.expected} == {"missing", "unused"}


def test_backbone_with_a_gap(make_model, tmp_path):
    """A tensor that the backbone should have had is suspicious."""
    state = tensors(make_model().backbone.bottom_up)
    del state["res4.0.conv1.weight"]
    path = zoo_pickle(tmp_path / "R.pkl", state, "torchvision", matching_heuristics=True)
    checkpointer = MSNetCheckpointer(make_model())
    checkpointer.load(path)
    assert names(checkpointer.report.suspicious) == {"backbone.bottom_up.res4.0.conv1.weight"}


def test_suspicious_differences(make_model, tmp_path, caplog):
    """One missing, one of another shape for no reason, one too many: named in a warning."""
    state = tensors(make_model("stock"))
    del state["backbone.fpn_lateral3.weight"]
    state["roi_heads.box_head.fc1.weight"] = torch.zeros(5, 5)
    state["roi_heads.keypoint_head.conv.weight"] = torch.zeros(5)
    path = pth(tmp_path / "a.pth", state)
    checkpointer = MSNetCheckpointer(make_model())
    with caplog.at_level(logging.INFO):
        checkpointer.load(path)
    report = checkpointer.report
    assert sorted((d.what, d.name) for d in report.suspicious) == [
        ("missing", "backbone.fpn_lateral3.weight"),
        ("other shape", "roi_heads.box_head.fc1.weight"),
        ("unused", "roi_heads.keypoint_head.conv.weight"),
    ]
    assert names(report.expected) == CLASS_HEADS
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    for module in (
        "backbone.fpn_lateral3",
        "roi_heads.box_head.fc1",
        "roi_heads.keypoint_head.conv",
    ):
        assert module in warnings[0]
    table = report.table()
    assert "(5, 5) in the checkpoint, (64, 1568) here" in table
    assert "from proposal_generator.rpn_head" in table
    assert table in caplog.text


def test_equal_number_of_classes_explains_no_other_shape(make_model, tmp_path):
    """With 3 classes on both sides a class head of another shape is suspicious."""
    state = tensors(make_model())
    state["roi_heads.mask_head.predictor.weight"] = torch.zeros(80, 32, 1, 1)
    checkpointer = MSNetCheckpointer(make_model())
    checkpointer.load(pth(tmp_path / "a.pth", state))
    assert names(checkpointer.report.suspicious) == {"roi_heads.mask_head.predictor.weight"}


def test_summary_and_share():
    """3 of 8 loaded and 1 initialised: a share of 4 / 8."""
    difference = Difference("a.b", "missing", "why")
    report = LoadReport("x.pth", total=8, loaded=["a", "b", "c"], initialized={"d": "a"})
    assert report.share == 0.5
    assert report.summary() == (
        "x.pth: 3 of 8 tensors loaded, 1 initialised from others; 0 differ as expected"
    )
    report.suspicious = [difference]
    assert report.summary().endswith("; 0 differ as expected, 1 SUSPICIOUSLY")
    assert LoadReport("x.pth").share == 0.0


def test_unrelated_checkpoint_is_refused_before_anything_is_loaded(make_model, tmp_path):
    path = pth(tmp_path / "a.pth", {f"layer{i}.weight": torch.zeros(3) for i in range(300)})
    model = make_model()
    before = tensors(model)
    checkpointer = MSNetCheckpointer(model)
    with pytest.raises(
        WeightsError, match=r"a.pth belong to another model: they have 0% of the te"
    ):
        checkpointer.load(path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    MSNetCheckpointer(model, allow_partial=True).load(path)


def test_half_of_a_model(make_model, tmp_path):
    """Just above half of the tensors is enough, just below is not."""
    model = make_model()
    state = tensors(model)
    counted = [k for k in state if not k.endswith("num_batches_tracked")]
    # The last ones, so that it is not a backbone alone that remains.
    enough = {k: state[k] for k in counted[-(len(counted) // 2 + 1) :]}
    too_few = {k: state[k] for k in counted[-(len(counted) // 2 - 1) :]}
    # Both have the part RPN's head, from which the parent's six tensors are set too.
    assert PART + "conv.weight" in too_few
    checkpointer = MSNetCheckpointer(make_model())
    checkpointer.load(pth(tmp_path / "a.pth", enough))
    assert 0.5 < checkpointer.report.share < 0.55
    with pytest.raises(WeightsError, match="belong to another model"):
        checkpointer.load(pth(tmp_path / "b.pth", too_few))


def test_a_few_layers_of_a_backbone_are_no_backbone(make_model, tmp_path):
    state = {k: v for k, v in make_model().backbone.bottom_up.state_dict().items() if "stem" in k}
    path = zoo_pickle(tmp_path / "R.pkl", state, "torchvision", matching_heuristics=True)
    with pytest.raises(WeightsError, match=r"% of the tensors of the backbone"):
        MSNetCheckpointer(make_model()).load(path)


def test_names_that_cannot_be_matched(make_model, tmp_path):
    """A short name fits many of the model's."""
    state = {"conv1.weight": make_model().state_dict()["backbone.bottom_up.res2.0.conv1.weight"]}
    path = zoo_pickle(tmp_path / "R.pkl", state, "torchvision", matching_heuristics=True)
    with pytest.raises(WeightsError, match="their names cannot be matched"):
        MSNetCheckpointer(make_model()).load(path)


class Harmful:
    """Something that would run code when unpickled."""

    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "cannot be read"),
        ("text.pth", b"not weights at all", "cannot be read"),
        ("cut.pth", "cut", "cannot be read"),
        ("text.pkl", b"not weights at all", "cannot be read"),
        ("list.pkl", pickle.dumps([1, 2]), "cannot be read"),
        ("code.pth", {"model": Harmful()}, "cannot be read"),
        ("numbers.pth", {"model": {"a": 1}}, "hold no state dict"),
        ("none.pth", {"model": None}, "hold no state dict"),
    ],
)
def test_unreadable_files(make_model, tmp_path, capsys, name, content, message):
    """One line with the file's name; and the checkpointer still works afterwards."""
    path = tmp_path / name
    model = make_model()
    good = pth(tmp_path / "good.pth", model.state_dict())
    if content == "cut":
        path.write_bytes((tmp_path / "good.pth").read_bytes()[:1000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    checkpointer = MSNetCheckpointer(model)
    with pytest.raises(WeightsError, match=message) as error:
        checkpointer.load(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "run" not in capsys.readouterr().out.split()
    checkpointer.load(good)
    assert checkpointer.report.share == 1.0


def test_missing_file(make_model, tmp_path):
    checkpointer = MSNetCheckpointer(make_model(), str(tmp_path))
    with pytest.raises(WeightsError, match=r"nowhere.pth are not there; give MODEL.WEIGHTS a .pth"):
        checkpointer.load(str(tmp_path / "nowhere.pth"))
    with pytest.raises(WeightsError, match="a folder, not a file"):
        checkpointer.load(str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights catalog://nothing cannot be fetched"):
        checkpointer.load("catalog://nothing")
    # The last checkpoint is named, but was deleted.
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    with pytest.raises(WeightsError, match=r"model_0000009.pth are not there"):
        checkpointer.resume_or_load("", resume=True)


def test_no_path_loads_nothing(make_model):
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    checkpointer = MSNetCheckpointer(model)
    assert checkpointer.load("") == {}
    assert checkpointer.report is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_other_checkpointers_set_both_heads_too(make_model, tmp_path):
    """Detectron2's own, which DefaultPredictor and other people's tools use."""
    given = tensors(make_model("stock", seed=1))
    model = make_model()
    DetectionCheckpointer(model).load(zoo_pickle(tmp_path / "a.pkl", given))
    assert torch.equal(model.state_dict()[PARENT + "conv.weight"], given[PART + "conv.weight"])
    model.load_state_dict(tensors(make_model(seed=2)))  # with a parent head, which is kept
    assert torch.equal(model.state_dict()[PARENT + "conv.weight"], own_parent_head(make_model, 2))


def own_parent_head(make_model, seed):
    return make_model(seed=seed).state_dict()[PARENT + "conv.weight"]
