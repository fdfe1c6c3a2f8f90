"""The graph convolution of BCNet: every cell of a region looks at every other."""

from __future__ import annotations

import torch
from torch import nn

from msnet_d2.errors import ConfigError

__all__ = ["GraphConvolution"]

NORMS = ("LN", "BN")


class GraphConvolution(nn.Module):
    """Z = σ(A X W) + X, with A = softmax of θ(x_i)·φ(x_j) / √C over j (section 3.2, eq. 1 to 3).

    The factor 1 / √C is the authors' code's. W is two linear maps, around the product with A, as in
    the code.
    """

    def __init__(self, channels: int, norm: str = "LN"):
        """Make a graph convolution.

        Args:
            channels: C, of input and output.
            norm: σ; "LN": LayerNorm over channels and ReLU; "BN": batch normalisation that starts
                at zero. LayerNorm must not start at zero: behind it ReLU would have no gradient.

        Raises:
            ConfigError: if ``norm`` is neither.
        """
        super().__init__()
        if norm not in NORMS:
            raise ConfigError(f"MODEL.BCNET.GCN_NORM is {norm!r}; expected LN or BN")
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        self.layer_norm = norm == "LN"
        if self.layer_norm:
            self.norm = nn.LayerNorm(channels)
        else:
            self.norm = nn.BatchNorm1d(channels, eps=1e-4)
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        cells = x.flatten(2).transpose(1, 2)
        update = self.out(self.attention(cells).to(x.dtype) @ self.value(cells))
        if self.layer_norm:
            update = self.norm(update).relu().transpose(1, 2)
        elif len(x):
            update = self.norm(update.transpose(1, 2))
        else:  # batch normalisation of nothing has no mean
            update = update.transpose(1, 2)
        return x + update.reshape(x.shape)

    def attention(self, cells: torch.Tensor) -> torch.Tensor:
        """A of cells (B, N, C): (B, N, N) float32, rows adding up to 1.

        Products and softmax are in float32 whatever the precision around: half floats overflow.
        """
        query, key = self.query(cells), self.key(cells)
        with torch.autocast(cells.device.type, enabled=False):
            scale = cells.shape[-1] ** -0.5
            return (query.float() * scale @ key.float().transpose(1, 2)).softmax(-1)
