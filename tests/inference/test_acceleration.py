"""Accelerated models find what the plain ones find."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from msnet_d2.cli import build_parser
from msnet_d2.cli.options import acceleration_of
from msnet_d2.errors import ConfigError
from msnet_d2.inference import acceleration
from msnet_d2.inference.acceleration import InferenceOptions, accelerate
from msnet_d2.inference.fuse_bn import _fuse_traced, fuse_bn
from msnet_d2.inference.predictor import Predictor

EXACT = InferenceOptions(fuse_bn=True, channels_last=True)
BFLOAT16 = InferenceOptions(fuse_bn=True, channels_last=True, precision="bfloat16")


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (80, 110, 3), dtype=np.uint8)


def frozen_norm(channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    norm = FrozenBatchNorm2d(channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2, generator=generator)
    return norm


def random_norms(model):
    """Statistics as of a trained model; fresh ones change nothing."""
    for seed, module in enumerate(model.modules()):
        if isinstance(module, FrozenBatchNorm2d):
            module.load_state_dict(frozen_norm(len(module.weight), seed).state_dict())


def test_folding_by_hand():
    norm = FrozenBatchNorm2d(1, eps=1.0)
    norm.weight.fill_(6)
    norm.bias.fill_(5)
    norm.running_mean.fill_(7)
    norm.running_var.fill_(8)
    conv = Conv2d(1, 1, 1, bias=True, norm=norm, activation=torch.neg).eval()
    conv.weight.data.fill_(10)
    conv.bias.data.fill_(1)
    assert fuse_bn(conv) == 1
    # s = 6 / sqrt(8 + 1) = 2; 10 · 2 = 20; 1 · 2 + 5 − 7 · 2 = −7; the activation stays.
    assert conv.norm is None
    assert (conv.weight.item(), conv.bias.item()) == (20, -7)
    assert conv(torch.full((1, 1, 1, 1), 3.0)).item() == -(20 * 3 - 7)


def test_all_norms_of_a_resnet(tiny_cfg):
    torch.manual_seed(0)
    model = build_model(tiny_cfg).eval()
    random_norms(model)
    image = torch.randn(1, 3, 64, 96)
    before = model.backbone(image)
    # The stem, two a block in eight blocks, and the shortcuts of three stages: 20 at least.
    count = sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    assert fuse_bn(model) == count >= 20
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    after = model.backbone(image)
    for name, expected in before.items():
        scale = expected.abs().max()
        torch.testing.assert_close(after[name] / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("freeze", [True, False])
def test_all_norms_of_a_timm_model(tiny_cfg, freeze):
    pytest.importorskip("timm")
    tiny_cfg.MODEL.BACKBONE.NAME = "build_timm_fpn_backbone"
    tiny_cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    tiny_cfg.MODEL.TIMM.WEIGHTS = ""
    tiny_cfg.MODEL.TIMM.FREEZE_NORM = freeze
    torch.manual_seed(0)
    model = build_model(tiny_cfg).eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.uniform_(-0.5, 0.5)
    image = torch.randn(1, 3, 64, 96)
    before = model.backbone(image)
    norms = sum(hasattr(m, "running_var") for m in model.modules())
    assert fuse_bn(model) == norms > 40
    assert not any(hasattr(m, "running_var") for m in model.modules())
    for name, value in model.backbone(image).items():
        scale = before[name].abs().max()
        torch.testing.assert_close(value / scale, before[name] / scale, atol=1e-5, rtol=0)


class Twice(nn.Module):
    """The convolution's output is used beside the norm's: folding would change it."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm, self.own = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y + self.own(self.other(x))


def test_what_another_layer_reads_is_not_folded():
    body = Twice().eval()
    body.own.running_mean.fill_(3)
    x = torch.randn(1, 2, 4, 4)
    before = body(x)
    assert _fuse_traced(body) == 1
    assert isinstance(body.norm, nn.BatchNorm2d)
    assert not isinstance(body.own, nn.BatchNorm2d)
    torch.testing.assert_close(body(x), before)


class Untraceable(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_stays():
    assert _fuse_traced(Untraceable().eval()) == 0


@pytest.mark.parametrize("how", [EXACT, BFLOAT16], ids=["float32", "bfloat16"])
def test_what_goes_between_the_parts_keeps_type_and_layout(tiny_cfg, how):
    model = build_model(tiny_cfg).eval()
    image = torch.randn(1, 3, 64, 96)
    plain = model.backbone(image)
    accelerate(model, how)
    maps = model.backbone(image)
    for name, expected in plain.items():
        # bfloat16 has 8 bits, and the errors of some twenty layers are as often up as down.
        tolerance = 1e-5 if how is EXACT else 0.05
        assert (maps[name] - expected).abs().max() < tolerance * expected.abs().max()
    logits, deltas = model.proposal_generator.rpn_head(list(maps.values()))
    pooled = torch.randn(3, 32, 7, 7)
    for tensor in (*maps.values(), *logits, *deltas, model.roi_heads.box_head(pooled)):
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
    inside = model.backbone.bottom_up.stem.conv1.weight
    assert inside.dtype == getattr(torch, how.precision)
    assert inside.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(2, 3, 50, 60), (1, 4, 1, 1), (2, 5, 0, 3)])
def test_maps_between_the_parts(size, dtype):
    """More positions than are transposed at once, one, and none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).to(dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    out = acceleration._contiguous_float(last)
    assert torch.equal(out, x.float())
    assert out.is_contiguous()
    if size[2] * size[3] > 1:
        # Who wants the map as it was need not make it again, unless it has changed.
        assert acceleration._before_cast(out) is last
        out += 1
    assert acceleration._before_cast(out) is None


def test_maps_made_without_versions():
    with torch.inference_mode():
        x = torch.randn(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
        out = acceleration._contiguous_float(x)
        assert torch.equal(out, x)
        assert acceleration._before_cast(out) is None


@pytest.mark.parametrize("architecture", ["MSNet", "GeneralizedRCNN"])
@pytest.mark.parametrize("how", [EXACT, BFLOAT16], ids=["float32", "bfloat16"])
def test_the_same_detections(tiny_cfg, architecture, how):
    """With random weights it is chance which boxes are the best, and rounding decides on some."""
    if architecture == "GeneralizedRCNN":
        tiny_cfg.MODEL.META_ARCHITECTURE = architecture
        tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    found = []
    for each in (None, how):
        torch.manual_seed(4)
        predictor = Predictor(tiny_cfg, allow_random_weights=True, acceleration=each)
        found.append(predictor(picture())["instances"])
    plain, fast = found
    assert len(plain) == len(fast) > 10
    assert fast.pred_masks.dtype == torch.bool
    assert (fast.scores - plain.scores).abs().median() < (1e-4 if how is EXACT else 0.01)
    if how is EXACT:
        torch.testing.assert_close(fast.scores, plain.scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            fast.pred_boxes.tensor, plain.pred_boxes.tensor, atol=0.05, rtol=0
        )
        assert (fast.pred_masks != plain.pred_masks).float().mean() < 1e-3


def test_the_embedding_multiplies_in_the_same_precision(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    tiny_cfg.MODEL.SRN.DETECTOR = "MSNet"
    tiny_cfg.MODEL.SRN.FC_DIMS = [16, 16]
    torch.manual_seed(0)
    model = build_model(tiny_cfg).eval()
    fast = copy.deepcopy(model)
    accelerate(fast, BFLOAT16)
    assert fast.srn.layers[1].weight.dtype == torch.bfloat16
    rows = torch.randn(9, 32)
    ours, plain = fast.srn.embed_pixels(rows), model.srn.embed_pixels(rows)
    assert ours.dtype == torch.float32
    # bfloat16 has 8 bits: two layers of sums of terms that are each good for 2^-8.
    assert (ours - plain).abs().max() < 0.03 * plain.abs().max()
    assert not torch.equal(ours, plain)
    # So does the detector beside it.
    weight = fast.detector.backbone.bottom_up.res2[0].conv1.weight
    assert weight.dtype == torch.bfloat16
    assert fast.detector.roi_heads.box_head.fc1.weight.dtype == torch.bfloat16


def test_an_embedding_without_layers_is_left_as_it_is(tiny_cfg):
    tiny_cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    tiny_cfg.MODEL.SRN.DETECTOR = "MSNet"
    tiny_cfg.MODEL.SRN.FC_DIMS = []
    model = build_model(tiny_cfg).eval()
    accelerate(model, BFLOAT16)
    frame = {"image": torch.zeros(3, 96, 128, dtype=torch.uint8), "video_id": "a"}
    with torch.no_grad():
        (output,) = model([frame])
    assert output["instances"].embeddings.dtype == torch.float32


def test_nothing_is_changed_unless_asked(tiny_cfg):
    predictor = Predictor(tiny_cfg, allow_random_weights=True)
    assert predictor.acceleration == InferenceOptions()
    assert any(isinstance(m, FrozenBatchNorm2d) for m in predictor.model.modules())
    assert not predictor.model.backbone._forward_pre_hooks


@pytest.mark.parametrize(("supported", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_device_computes(monkeypatch, supported, precision):
    cpu = torch.device("cpu")
    monkeypatch.setattr(acceleration, "computes_bfloat16", lambda device: supported)
    assert InferenceOptions.fast().resolved(cpu).precision == precision
    assert EXACT.resolved(cpu) is EXACT


def test_compiling_is_an_option(tiny_cfg):
    """Not run here: it takes a compiler and a minute."""
    for how in (InferenceOptions(), InferenceOptions(compile=True)):
        model = build_model(tiny_cfg).eval()
        accelerate(model, how)
        assert (model.backbone._compiled_call_impl is not None) == how.compile


def test_what_cannot_be_accelerated(tiny_cfg):
    with pytest.raises(ConfigError, match="evaluation mode"):
        accelerate(build_model(tiny_cfg).train(), EXACT)
    with pytest.raises(ConfigError, match="'half'; there are: auto"):
        InferenceOptions(precision="half")


def test_options_of_the_commands():
    parser = build_parser()
    base = {"predict": ["a.jpg", "--config-file", "c", "--out", "o"], "video": ["a.mp4"]}
    for command, words in base.items():
        how = acceleration_of(parser.parse_args([command, *words]))
        assert how == InferenceOptions(True, True, "auto", True, False)
        words = [*words, "--precision", "float32", "--compile"]
        how = acceleration_of(parser.parse_args([command, *words]))
        assert how == InferenceOptions(True, True, "float32", True, True)
