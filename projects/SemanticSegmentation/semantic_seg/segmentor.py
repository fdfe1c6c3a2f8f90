"""Detectron2's ``SemanticSegmentor``, which looks at large pictures in overlapping tiles."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.modeling.postprocessing import sem_seg_postprocess

from msnet_d2.errors import ConfigError

__all__ = ["TiledSegmentor", "tile_starts"]

# The coarsest stride of the networks here, in pixels.
GRID = 32


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side so that neighbors share at least ``overlap``.

    They begin at multiples of :data:`GRID`: there poolings meet the pixels that they meet
    in the whole picture. The last tile may be shorter.

    Args:
        length: of the side, pixels.
        tile: of a tile; a shorter side is one tile.
        overlap: at most half of ``tile``.
    """
    if length <= tile:
        return [0]
    step = (tile - overlap) // GRID * GRID
    return list(range(0, length - overlap, step))


@META_ARCH_REGISTRY.register()
class TiledSegmentor(SemanticSegmentor):
    """A class for every pixel.

    In inference, pictures larger than a tile are looked at in tiles; where they overlap their
    probabilities are averaged, the weight of a tile falling to its borders.
    """

    @configurable
    def __init__(self, *, tile: int = 0, overlap: int = 128, **parts):
        """Build it of Detectron2's parts.

        Args:
            tile: side of a tile in pixels of the network's input; 0: pictures are seen whole.
            overlap: of neighboring tiles.
            parts: of ``SemanticSegmentor``.

        Raises:
            ConfigError: if tiles would overlap by half of them or more.
        """
        super().__init__(**parts)
        if tile and 2 * overlap > tile:
            raise ConfigError(
                f"MODEL.SEGMENTOR.TILE_OVERLAP is {overlap}; expected at most half of TILE, {tile}"
            )
        self.tile, self.overlap = tile, overlap

    @classmethod
    def from_config(cls, cfg) -> dict:
        """The arguments that a config means."""
        keys = cfg.MODEL.SEGMENTOR
        return {**super().from_config(cfg), "tile": keys.TILE, "overlap": keys.TILE_OVERLAP}

    def forward(self, batched_inputs: list[dict]) -> dict | list[dict]:
        """Losses in training, else ``sem_seg`` (K, H, W) of each input.

        They are logits; of pictures in tiles the logarithms of probabilities.
        """
        if self.training or not self.tile:
            return super().forward(batched_inputs)
        return [self._look(given) for given in batched_inputs]

    def _look(self, given: dict) -> dict:
        image = given["image"]
        height, width = image.shape[-2:]
        if max(height, width) <= self.tile:
            return super().forward([given])[0]
        total = torch.zeros((), device=self.device)
        weights = torch.zeros((height, width), device=self.device)
        for y, x in self._tiles(height, width):
            part = image[:, y : y + self.tile, x : x + self.tile]
            found = super().forward([{"image": part}])[0]["sem_seg"].float().softmax(dim=0)
            if not total.ndim:
                total = total.new_zeros((len(found), height, width))
            weight = self._weight(*found.shape[1:])
            total[:, y : y + self.tile, x : x + self.tile] += found * weight
            weights[y : y + self.tile, x : x + self.tile] += weight
        logits = (total / weights).clamp(min=1e-12).log()
        size = given.get("height", height), given.get("width", width)
        return {"sem_seg": sem_seg_postprocess(logits, (height, width), *size)}

    def _tiles(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        for y in tile_starts(height, self.tile, self.overlap):
            for x in tile_starts(width, self.tile, self.overlap):
                yield y, x

    def _weight(self, height: int, width: int) -> torch.Tensor:
        rows, columns = (
            torch.arange(1, side + 1, device=self.device, dtype=torch.float32)
            for side in (height, width)
        )
        ramp = max(self.overlap, 1)
        rows = torch.minimum(rows, rows.flip(0)).clamp(max=ramp) / ramp
        columns = torch.minimum(columns, columns.flip(0)).clamp(max=ramp) / ramp
        return rows[:, None] * columns
