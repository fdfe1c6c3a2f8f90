"""The networks: sizes as published, output as large as the picture, what is computed by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from semantic_seg.fcn import FCNHead, Upsampling, bilinear_kernel
from semantic_seg.unet import UNetBackbone, mirror
from semantic_seg.vgg import VGG16, load_vgg_classifier

from msnet_d2.config import get_msnet_cfg
from msnet_d2.errors import ConfigError, WeightsError


def net_cfg(backbone, head, *opts):
    base = ["MODEL.META_ARCHITECTURE", "TiledSegmentor", "MODEL.BACKBONE.NAME", backbone]
    base += ["MODEL.SEM_SEG_HEAD.NAME", head, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2]
    return get_msnet_cfg(opts=[*base, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *opts])


def fcn_cfg(*opts):
    return net_cfg("build_vgg16_backbone", "FCNHead", *opts)


def unet_cfg(*opts):
    return net_cfg("build_unet_backbone", "UNetHead", *opts)


def size_of(cfg):
    """Number of parameters; on the device meta, which neither fills nor stores them."""
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("stride", "classes", "size"),
    [
        # VGG16's convolutions 14,714,688; fc6 512·49·4096 + 4096, fc7 4096² + 4096; scores
        # 4096·K + K, and 512·K + K of pool4, 256·K + K of pool3.
        (32, 21, 134_346_581),
        (16, 21, 134_357_354),
        (8, 21, 134_362_751),
        (32, 2, 134_268_738),
        (16, 2, 134_269_764),
        (8, 2, 134_270_278),
    ],
)
def test_fcn_has_the_papers_size(stride, classes, size):
    opts = ["MODEL.FCN.STRIDE", stride, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes]
    assert size_of(fcn_cfg(*opts)) == size


def test_the_decoder_of_transposed_convolutions_has_the_slides_size():
    assert size_of(net_cfg("build_pairs_backbone", "FCNDeconvHead")) == 13_334_050
    assert size_of(net_cfg("build_vgg16_backbone", "FCNDeconvHead")) == 18_643_746


def test_unet_has_the_papers_size():
    assert size_of(unet_cfg()) == 31_031_810
    assert size_of(unet_cfg("MODEL.UNET.NORM", "BN")) == 31_037_698


SMALL_FCN = ["MODEL.FCN.FC_DIM", 8]
SMALL_UNET = ["MODEL.UNET.CHANNELS", [4, 4, 4, 4, 4]]
ORIGINAL = ["MODEL.VGG.FIRST_PADDING", 100, "MODEL.FCN.UPSAMPLE", "fixed"]


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (75, 100), (45, 67)])
@pytest.mark.parametrize(
    "cfg",
    [
        lambda: fcn_cfg(*SMALL_FCN),
        lambda: fcn_cfg(*SMALL_FCN, "MODEL.FCN.UPSAMPLE", "learned", "MODEL.FCN.STRIDE", 16),
        lambda: fcn_cfg(*SMALL_FCN, *ORIGINAL),
        lambda: fcn_cfg(*SMALL_FCN, *ORIGINAL, "MODEL.FCN.STRIDE", 16),
        lambda: fcn_cfg(*SMALL_FCN, *ORIGINAL, "MODEL.FCN.STRIDE", 32),
        lambda: unet_cfg(*SMALL_UNET),
        lambda: unet_cfg(*SMALL_UNET, "MODEL.UNET.PADDING", "valid"),
    ],
    ids=["fcn8s", "fcn16s-learned", "fcn8s-100", "fcn16s-100", "fcn32s-100", "unet", "unet-valid"],
)
def test_the_output_is_as_large_as_the_picture(cfg, size):
    model = build_model(cfg()).eval()
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, *size, dtype=torch.uint8)}])
    assert output["sem_seg"].shape == (2, *size)
    assert torch.isfinite(output["sem_seg"]).all()


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_the_original_crops_stay_inside_for_every_size(stride):
    """Sizes of maps alone: 100 on both sides of conv1_1, poolings that round up, fc6 of 7."""
    for side in range(1, 1025):
        maps, length = {}, side + 198
        for n in range(1, 6):
            length = maps[2**n] = -(-length // 2)
        total, offsets = length - 6, {32: [19], 16: [5, 27], 8: [5, 9, 31]}[stride]
        for skip, offset in zip((16, 8), offsets[:-1]):
            total = 2 * (total + 1)
            assert offset + total <= maps[skip]
        assert offsets[-1] + side <= stride * (total + 1)


def test_the_kernel_of_factor_two():
    # c = 1.5: 1 − |x − 1.5| / 2 at x = 0, 1, 2, 3.
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(bilinear_kernel(2), row[:, None] * row)


@pytest.mark.parametrize("factor", [2, 8, 32])
def test_transposed_convolutions_upsample_as_bilinear_interpolation_inside(factor):
    x = torch.rand(1, 3, 4, 5)
    ours = Upsampling(3, factor, "fixed", crop=True)(x)
    exact = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert ours.shape == exact.shape
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    assert torch.allclose(ours[inside], exact[inside], atol=1e-6)
    # Outside of the picture the transposed convolution sees nothing: it fades to the border.
    assert not torch.allclose(ours, exact, atol=1e-3)


def test_fixed_kernels_are_no_parameters_and_learned_ones_are():
    assert not list(Upsampling(2, 2, "fixed", crop=True).parameters())
    (weight,) = Upsampling(2, 2, "learned", crop=True).parameters()
    assert weight.shape == (2, 1, 4, 4)


def test_the_convolutionized_classifier_computes_what_the_linear_one_did(tmp_path):
    width, state = 6, {}
    for name, given in (("classifier.0", 512 * 49), ("classifier.3", width)):
        layer = torch.nn.Linear(given, width)
        state |= {f"{name}.{key}": value for key, value in layer.state_dict().items()}
    torch.save(state, tmp_path / "vgg.pth")
    fc6, fc7 = torch.nn.Conv2d(512, width, 7), torch.nn.Conv2d(width, width, 1)
    load_vgg_classifier(fc6, fc7, str(tmp_path / "vgg.pth"))
    x = torch.randn(2, 512, 7, 7)
    hidden = F.linear(x.flatten(1), state["classifier.0.weight"], state["classifier.0.bias"])
    linear = F.linear(hidden.relu(), state["classifier.3.weight"], state["classifier.3.bias"])
    assert torch.allclose(fc7(fc6(x).relu()).flatten(1), linear, atol=1e-5)
    with pytest.raises(WeightsError, match="classifier.0.weight is .* should be"):
        load_vgg_classifier(torch.nn.Conv2d(512, 9, 7), fc7, str(tmp_path / "vgg.pth"))


def test_vgg_takes_torchvisions_weights_and_refuses_others(tmp_path):
    source = VGG16()
    path = tmp_path / "vgg.pth"
    torch.save({f"features.{k}": v for k, v in source.features.state_dict().items()}, path)
    opts = ["MODEL.VGG.WEIGHTS", str(path), "MODEL.FCN.FC_DIM", 0]
    model = build_model(fcn_cfg(*opts))
    assert torch.equal(model.backbone.features[28].weight, source.features[28].weight)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"MODEL.VGG.WEIGHTS .* does not fit VGG16"):
        build_model(fcn_cfg(*opts))


def test_weights_of_a_coarser_stage_fit_but_for_the_new_scores():
    """FCN-16s begins with FCN-32s: what is new starts at zero and changes nothing."""
    coarse = build_model(fcn_cfg(*SMALL_FCN, "MODEL.FCN.STRIDE", 32))
    fine = build_model(fcn_cfg(*SMALL_FCN, "MODEL.FCN.STRIDE", 16))
    torch.nn.init.normal_(coarse.sem_seg_head.score_fr.weight)
    left = fine.load_state_dict(coarse.state_dict(), strict=False)
    assert sorted(left.missing_keys) == [
        "sem_seg_head.score_stride16.bias",
        "sem_seg_head.score_stride16.weight",
    ]
    assert left.unexpected_keys == []
    assert not fine.sem_seg_head.score_stride16.weight.any()


def test_valid_unet_has_the_papers_sizes_and_crops():
    maps = UNetBackbone(3, [2, 2, 2, 2, 2], padding="valid")(torch.zeros(1, 3, 388, 388))
    sizes = [maps[f"stride{2**n}"].shape[-1] for n in range(5)]
    assert sizes == [568, 280, 136, 64, 28]
    # What goes up is 56, 104, 200 and 392 pixels wide: skips lose half of the rest on each side.
    ups = [2 * side for side in (28, 52, 100, 196)]
    crops = [(skip - up) // 2 for skip, up in zip(sizes[3::-1], ups)]
    assert crops == [4, 16, 40, 88]


def test_mirroring_repeats_no_border_and_reaches_beyond_a_small_picture():
    row = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    assert mirror(row, 3, 1, 9).flatten().tolist() == [2, 3, 2, 1, 2, 3, 2, 1, 2]
    assert mirror(row[..., :1], 2, 1, 4).flatten().tolist() == [1, 1, 1, 1]


def test_valid_unet_sees_the_same_in_a_part_of_a_picture():
    """Shifted by a multiple of 16, away from the mirrored border."""
    torch.manual_seed(0)
    cfg = unet_cfg("MODEL.UNET.CHANNELS", [2, 2, 2, 2, 2], "MODEL.UNET.PADDING", "valid")
    model = build_model(cfg).eval()
    image = torch.randint(0, 255, (3, 400, 400), dtype=torch.uint8)
    with torch.no_grad():
        whole = model([{"image": image}])[0]["sem_seg"]
        part = model([{"image": image[:, 48:348, 64:364]}])[0]["sem_seg"]
    # Sums of other lengths are rounded in another order.
    rounding = 1e-5 * float(whole.abs().max())
    inside, again = whole[:, 140:256, 156:272], part[:, 92:208, 92:208]
    assert torch.allclose(inside, again, rtol=0, atol=rounding)
    # The mirrored border is another context.
    assert not torch.allclose(whole[:, 48:64, 64:80], part[:, :16, :16], rtol=0, atol=rounding)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.FCN.STRIDE", 4], "MODEL.FCN.STRIDE is 4; there are: 32, 16, 8"),
        (["MODEL.FCN.UPSAMPLE", "nearest"], "MODEL.FCN.UPSAMPLE is 'nearest'; there are"),
        (["MODEL.VGG.FIRST_PADDING", 3], "MODEL.VGG.FIRST_PADDING is 3; there are: 1, 100"),
        (["MODEL.VGG.FIRST_PADDING", 100], "goes with MODEL.FCN.UPSAMPLE fixed or learned"),
        (["MODEL.SEGMENTOR.LOSS", "focal"], "MODEL.SEGMENTOR.LOSS is 'focal'; there are"),
        (["MODEL.SEGMENTOR.LOSS", "cross_entropy_sum"], "set 1e-10, or the loss cross_entropy"),
        (["MODEL.SEGMENTOR.TILE", 200], "TILE_OVERLAP is 128; expected at most half"),
    ],
)
def test_what_cannot_be_built_is_said_by_its_key(opts, message):
    with pytest.raises(ConfigError, match=message):
        build_model(fcn_cfg(*SMALL_FCN, *opts))


def test_a_head_says_which_map_the_backbone_lacks():
    with pytest.raises(ConfigError, match="needs a feature map of stride 32, and the backbone has"):
        FCNHead(fcn_cfg(), {"p2": VGG16().output_shape()["pool2"]})
