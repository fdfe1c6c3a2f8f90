"""f at boxes only against RoIAlign of f's dense output, and the pixels that RoIAlign reads."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from msnet_d2.config import get_msnet_cfg
from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement.network import ScoreRefinementNetwork
from msnet_d2.score_refinement.sparse_roi_align import (
    pixels_read_by_roi_align,
    pool_by_map,
    pool_by_rows,
)

HEIGHT, WIDTH = 256, 320
NAMES, STRIDES = ["p2", "p3", "p4", "p5"], [4, 8, 16, 32]


def network(**changes):
    torch.manual_seed(0)
    arguments = {
        "in_features": NAMES,
        "in_channels": 6,
        "strides": STRIDES,
        "fc_dims": [16, 12],
    }
    net = ScoreRefinementNetwork(**{**arguments, **changes})
    with torch.no_grad():  # f(0) shall not be 0: a pixel that is read but not computed must show
        for layer in net.layers:
            layer.bias.uniform_(0.5, 1.5)
    return net


def pyramid(batch=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, 6, HEIGHT // s, WIDTH // s, generator=g)
        for name, s in zip(NAMES, STRIDES)
    }


def dense(net, features, boxes, resolution=7):
    pooler = ROIPooler(resolution, [1 / s for s in net.strides], 0, "ROIAlignV2")
    embedded = net(features)
    return pooler([embedded[name] for name in net.in_features], boxes)


def test_shapes_and_one_f_for_all_levels():
    net = network()
    same = torch.randn(1, 6, 4, 4)
    out = net(dict.fromkeys(NAMES, same) | {"p6": same})
    assert list(out) == NAMES
    assert all(x.shape == (1, 12, 4, 4) for x in out.values())
    assert torch.equal(out["p2"], out["p5"])
    assert sum(p.numel() for p in net.parameters()) == 6 * 16 + 16 + 16 * 12 + 12


def test_f_is_three_linear_layers_with_relu_after_each():
    # One channel, weights 2, -1, 3 and biases 1, 4, -2. At x = 1: 3 → relu(-3 + 4) = 1 → relu(3 -
    # 2) = 1. At x = 2: 5 → relu(-5 + 4) = 0 → relu(0 - 2) = 0, where without the last ReLU it would
    # be -2.
    net = network(in_channels=1, fc_dims=[1, 1, 1], in_features=["p2"], strides=[4])
    with torch.no_grad():
        for layer, weight, bias in zip(net.layers, (2.0, -1.0, 3.0), (1.0, 4.0, -2.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert net({"p2": x})["p2"].flatten().tolist() == [1.0, 0.0]
    assert net.embed_pixels(x.view(2, 1)).flatten().tolist() == [1.0, 0.0]


coordinates = st.floats(-60, 380, width=32)
corners = st.tuples(coordinates, coordinates, coordinates, coordinates)
# Integers meet pixel borders exactly, where floor and ceil change.
grid = st.integers(-40, 360).map(float)
random_boxes = st.lists(corners | st.tuples(grid, grid, grid, grid), max_size=6)


@given(first=random_boxes, second=random_boxes, resolution=st.sampled_from([1, 2, 7]))
@settings(max_examples=60, deadline=None)
def test_sparse_equals_dense(first, second, resolution):
    """Any boxes: beyond the frame, wholly outside, empty, and with corners the wrong way round."""
    net, features = network(pooler_resolution=resolution), pyramid(batch=2)
    boxes = [Boxes(torch.tensor(b, dtype=torch.float32).reshape(-1, 4)) for b in (first, second)]
    got = net.embed_boxes(features, boxes)
    expected = dense(net, features, boxes, resolution)
    assert got.shape == (len(first) + len(second), 12, resolution, resolution)
    assert torch.allclose(got, expected, atol=1e-5)


def test_sparse_equals_dense_at_ordinary_boxes_of_all_levels():
    net, features = network(), pyramid(seed=3)
    sides = torch.tensor([3.0, 20, 60, 100, 150, 230, 320, 900])
    centers = torch.rand(8, 2, generator=torch.Generator().manual_seed(1)) * 256
    boxes = Boxes(torch.cat([centers - sides[:, None] / 2, centers + sides[:, None] / 2], dim=1))
    got, expected = net.embed_boxes(features, [boxes]), dense(net, features, [boxes])
    assert (got - expected).abs().max() < 1e-5
    assert got.flatten(1).abs().sum(1).gt(0).all()  # the comparison was not one of zeros


def test_f_is_evaluated_only_where_roi_align_reads(monkeypatch):
    net, features = network(), pyramid()
    rows = []
    embed = net.embed_pixels
    monkeypatch.setattr(net, "embed_pixels", lambda x: rows.append(len(x)) or embed(x))
    # A box of 28 × 28 pixels at (40, 40) is pooled from p2 (stride 4): it reads pixels 9.5 + [0,
    # 7], one point a cell at 10, 11, … 16, each with its right-hand neighbour: 10 … 17, give or
    # take one for rounding at the border.
    net.embed_boxes(features, [Boxes(torch.tensor([[40.0, 40, 68, 68]]))])
    assert 8 * 8 <= sum(rows) <= 10 * 10
    rows.clear()
    net.embed_boxes(features, [Boxes(torch.tensor([[40.0, 40, 68, 68]] * 50))])
    assert sum(rows) <= 10 * 10  # boxes share their pixels


@given(
    boxes=st.lists(corners, min_size=1, max_size=5),
    resolution=st.sampled_from([1, 3, 7]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=100, deadline=None)
def test_pixels_read_contains_every_pixel_with_a_weight(boxes, resolution, size):
    """The gradient of RoIAlign's sum is each pixel's weight."""
    rois = torch.tensor(boxes, dtype=torch.float32).view(-1, 2, 2).sort(dim=1).values.flatten(1) / 8
    x = torch.ones(2, 1, *size, requires_grad=True)
    image = torch.arange(len(rois)) % 2
    roi_align(
        x, torch.cat([image[:, None].float(), rois], 1), resolution, aligned=True
    ).sum().backward()
    weighted = x.grad[:, 0] != 0
    read = pixels_read_by_roi_align(rois, image, (2, *size), resolution)
    assert not (weighted & ~read).any()


def test_pixels_read_is_not_much_more():
    """A map of 100 × 100 and ordinary boxes: at most the border of a box is read in vain."""
    g = torch.Generator().manual_seed(0)
    corner, side = torch.rand(20, 2, generator=g) * 60 + 5, torch.rand(20, 2, generator=g) * 25 + 2
    for box in torch.cat([corner, corner + side], dim=1):
        x = torch.ones(1, 1, 100, 100, requires_grad=True)
        roi_align(x, torch.cat([torch.zeros(1), box])[None], 7, aligned=True).sum().backward()
        weighted = int((x.grad != 0).sum())
        read = int(pixels_read_by_roi_align(box[None], torch.tensor([0]), (1, 100, 100), 7).sum())
        # a few columns or rows more only where a point lies within rounding of a pixel's centre
        assert weighted <= read <= weighted * 1.1 + 2


@given(
    boxes=st.lists(corners | st.tuples(grid, grid, grid, grid), min_size=1, max_size=8),
    resolution=st.sampled_from([1, 3, 7]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@example(boxes=[(0.0, 0.0, 8.0, 1e-7)], resolution=1, size=(1, 1))  # without height in float32
@settings(max_examples=150, deadline=None)
def test_both_ways_of_pooling_are_roi_align(boxes, resolution, size):
    """Of a map that is zero where RoIAlign does not read."""
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 2, 2).sort(dim=1).values.flatten(1)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)] / 8
    if len(boxes) == 0:
        return
    image = torch.arange(len(boxes)) % 2
    full = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    expected = roi_align(
        full, torch.cat([image[:, None].float(), boxes], 1), resolution, aligned=True
    )
    read = pixels_read_by_roi_align(boxes, image, (2, *size), resolution)
    rows = full.permute(0, 2, 3, 1)[read]
    for pool in (pool_by_map, pool_by_rows):
        got = pool(rows, read, boxes, image, resolution)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_thousands_of_boxes():
    net, features = network(), pyramid(batch=2)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3000, 2, generator=generator) * 300 - 20
    side = torch.exp(torch.rand(3000, 2, generator=generator) * 5)
    boxes = torch.cat([corner, corner + side], dim=1)
    given_boxes = [Boxes(boxes[:2000]), Boxes(boxes[2000:])]
    got, expected = net.embed_boxes(features, given_boxes), dense(net, features, given_boxes)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_no_boxes():
    net = network()
    assert net.embed_boxes(pyramid(), [Boxes(torch.zeros(0, 4))]).shape == (0, 12, 7, 7)
    two = [Boxes(torch.zeros(0, 4)), Boxes(torch.tensor([[10.0, 10, 50, 50]]))]
    assert net.embed_boxes(pyramid(batch=2), two).shape == (1, 12, 7, 7)


def test_an_empty_box_embeds_to_zero():
    out = network().embed_boxes(pyramid(), [Boxes(torch.tensor([[50.0, 50, 50, 80]]))])
    assert out.abs().sum() == 0


def test_gradients_reach_f_and_the_features():
    net, features = network(), {k: v.requires_grad_() for k, v in pyramid().items()}
    net.embed_boxes(features, [Boxes(torch.tensor([[40.0, 40, 68, 68]]))]).sum().backward()
    assert features["p2"].grad.abs().sum() > 0
    assert net.layers[0].weight.grad.abs().sum() > 0


def test_corners_the_wrong_way_round_embed_to_zero():
    boxes = Boxes(torch.tensor([[50.0, 50, 40, 80], [50, 50, 60, 40], [60, 60, 20, 20]]))
    assert network().embed_boxes(pyramid(), [boxes]).abs().sum() == 0
    single = network(in_features=["p3"], strides=[8])
    assert single.embed_boxes(pyramid(), [boxes]).abs().sum() == 0


def test_one_level_alone():
    net = network(in_features=["p3"], strides=[8])
    features = pyramid()
    boxes = [Boxes(torch.tensor([[10.0, 20, 90, 140], [0, 0, 320, 256]]))]
    assert torch.allclose(net.embed_boxes(features, boxes), dense(net, features, boxes), atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_boxes_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        network().embed_boxes(pyramid(), [Boxes(torch.tensor([[0.0, 0, value, 9]]))])


def test_boxes_of_each_image_are_needed():
    with pytest.raises(ValueError, match="boxes of 1 images were given for features of 2"):
        network().embed_boxes(pyramid(batch=2), [Boxes(torch.zeros(1, 4))])


class TestConfig:
    def shapes(self, channels=(8, 8, 8, 8)):
        return {n: ShapeSpec(channels=c, stride=s) for n, c, s in zip(NAMES, channels, STRIDES)}

    def test_the_papers_is_the_default(self):
        net = ScoreRefinementNetwork(get_msnet_cfg(), self.shapes())
        assert net.in_features == NAMES
        assert net.strides == STRIDES
        assert [layer.out_features for layer in net.layers] == [1024, 1024, 1024]
        assert net.pooler_resolution == 7

    def test_a_missing_map(self):
        cfg = get_msnet_cfg(opts=["MODEL.SRN.IN_FEATURES", "['p2', 'p9']"])
        with pytest.raises(ConfigError, match=r"\['p9'\], but the backbone has"):
            ScoreRefinementNetwork(cfg, self.shapes())

    def test_maps_of_unequal_width(self):
        with pytest.raises(ConfigError, match=r"\[8, 9\] channels"):
            ScoreRefinementNetwork(get_msnet_cfg(), self.shapes((8, 8, 9, 8)))

    def test_no_maps(self):
        with pytest.raises(ConfigError, match="needs feature maps"):
            ScoreRefinementNetwork(get_msnet_cfg(), {"p6": ShapeSpec(channels=8, stride=64)})

    def test_maps_of_strides_that_do_not_double(self):
        cfg = get_msnet_cfg(opts=["MODEL.SRN.IN_FEATURES", "['p2', 'p4']"])
        with pytest.raises(ConfigError, match=r"\[4, 16\]"):
            ScoreRefinementNetwork(cfg, self.shapes())

    def test_coarser_maps_are_left_out_and_the_finest_comes_first(self):
        shapes = {"p6": ShapeSpec(channels=8, stride=64), **self.shapes()}
        reversed_shapes = dict(reversed(shapes.items()))
        assert ScoreRefinementNetwork(get_msnet_cfg(), reversed_shapes).in_features == NAMES

    def test_without_layers_features_stay_as_they_are(self):
        cfg = get_msnet_cfg(opts=["MODEL.SRN.FC_DIMS", "[]"])
        net, features = ScoreRefinementNetwork(cfg, self.shapes((6, 6, 6, 6))), pyramid()
        assert net.out_channels == 6
        assert not net.state_dict()
        assert all(torch.equal(x, features[name]) for name, x in net(features).items())
        boxes = [Boxes(torch.tensor([[40.0, 40, 68, 68]]))]
        pooler = ROIPooler(7, [1 / stride for stride in STRIDES], 0, "ROIAlignV2")
        expected = pooler([features[name] for name in NAMES], boxes)
        assert torch.allclose(net.embed_boxes(features, boxes), expected, atol=1e-5)
