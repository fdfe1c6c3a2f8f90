"""The graph convolution, by hand."""

from __future__ import annotations

import pytest
import torch
from bcnet.gcn import GraphConvolution
from torch import nn

from msnet_d2.errors import ConfigError


def make_gcn(norm: str = "LN", channels: int = 8) -> GraphConvolution:
    torch.manual_seed(0)
    return GraphConvolution(channels, norm)


def test_without_query_and_key_all_cells_get_the_same_mean():
    gcn = make_gcn()
    nn.init.zeros_(gcn.query.weight)
    nn.init.zeros_(gcn.key.weight)
    x = torch.randn(2, 8, 3, 4)
    cells = x.flatten(2).transpose(1, 2)
    # A is uniform, 1 / 12, so that A v is the mean of v over the cells.
    torch.testing.assert_close(gcn.attention(cells), torch.full((2, 12, 12), 1 / 12))
    mean = gcn.out(gcn.value(cells).mean(1))
    expected = x + gcn.norm(mean).relu()[:, :, None, None]
    torch.testing.assert_close(gcn(x), expected)


def test_attention_is_the_softmax_of_scaled_products():
    gcn = make_gcn(channels=4)
    nn.init.eye_(gcn.query.weight)
    nn.init.eye_(gcn.key.weight)
    cells = torch.zeros(1, 2, 4)
    cells[0, 0, 0], cells[0, 1, 1] = 2.0, 2.0
    # Products 4 with itself and 0 with the other, by sqrt(4): softmax of (2, 0) = 0.8808, 0.1192.
    expected = torch.tensor([[[0.8808, 0.1192], [0.1192, 0.8808]]])
    torch.testing.assert_close(gcn.attention(cells), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", ["LN", "BN"])
def test_cells_have_no_order(norm):
    gcn = make_gcn(norm).eval()
    nn.init.ones_(gcn.norm.weight)
    x = torch.randn(1, 8, 4, 4)
    order = torch.randperm(16)
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = gcn(x).flatten(2)[:, :, order].reshape(x.shape)
    torch.testing.assert_close(gcn(shuffled), expected)


def test_every_weight_has_a_gradient_from_the_start():
    gcn = make_gcn()
    gcn(torch.randn(2, 8, 4, 4)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in gcn.parameters())


def test_batch_normalization_starts_as_the_identity():
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(make_gcn("BN")(x), x)


@pytest.mark.parametrize("norm", ["LN", "BN"])
def test_no_regions_are_no_error(norm):
    assert make_gcn(norm)(torch.zeros(0, 8, 4, 4)).shape == (0, 8, 4, 4)


def test_products_beyond_half_floats_stay_finite():
    gcn = make_gcn()
    nn.init.constant_(gcn.query.weight, 20.0)
    nn.init.constant_(gcn.key.weight, 20.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cells = torch.full((1, 4, 8), 10.0)
        # A product is 8 * 1600 * 1600 / sqrt(8) = 7.2 million; a half float ends at 65,504.
        assert torch.equal(gcn.attention(cells), torch.full((1, 4, 4), 0.25))


def test_an_unknown_normalization_is_refused():
    with pytest.raises(ConfigError, match="GCN_NORM is 'GN'; expected LN or BN"):
        GraphConvolution(8, "GN")
