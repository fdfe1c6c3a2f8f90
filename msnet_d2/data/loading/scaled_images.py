"""Pictures that Detectron2's reader takes for others, scaled to 8 bits on their way to it.

Detectron2 opens files by its ``PathManager``; paths that begin with ``msnet-8bit://`` are opened by
:func:`msnet_d2.utils.image_io.read_bgr` and handed on as a bitmap in memory.
"""

from __future__ import annotations

import io
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from PIL import Image

from msnet_d2.utils.image_io import Limits, read_bgr

__all__ = ["scaled_path"]

_PREFIX = "msnet-8bit://"


def scaled_path(path: str, depth: str) -> str:
    """A path for ``PathManager`` under which the picture ``path`` has 8 bits a sample.

    Args:
        path: of a picture that has passed all limits.
        depth: see :func:`msnet_d2.utils.image_layout.scale_to_8_bits`.
    """
    return f"{_PREFIX}{depth}:{path}"


class _ScaledImages(PathHandler):
    """Opens the paths of :func:`scaled_path`."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> io.BytesIO:
        depth, _, file = path[len(_PREFIX) :].partition(":")
        pixels = read_bgr(file, Limits(1 << 62, 1 << 62), depth)
        buffer = io.BytesIO()
        Image.fromarray(pixels[:, :, ::-1]).save(buffer, "BMP")
        buffer.seek(0)
        return buffer


PathManager.register_handler(_ScaledImages(), allow_override=True)
