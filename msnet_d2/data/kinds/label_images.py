"""Pictures whose pixels are numbers: labels in grey, segment ids in three bands."""

from __future__ import annotations

import numpy as np
from PIL import Image

from msnet_d2.errors import DatasetError
from msnet_d2.utils.image_io import open_image

__all__ = ["read_labels", "read_segment_ids"]


def read_labels(path: str) -> np.ndarray:
    """Labels (H, W) uint8 of a grey picture of 8 bits.

    Raises:
        DatasetError: if it is none, or cannot be read. A palette is refused too: Detectron2's
            mapper would turn it into the greys of its colors.
    """
    return np.asarray(_read(path, "L", "a grey picture of 8 bits (Pillow's mode L)"))


def read_segment_ids(path: str) -> np.ndarray:
    """Segment ids (H, W) int32 of COCO's panoptic pictures: R + 256 G + 65536 B.

    Raises:
        DatasetError: if it is no picture of three bands of 8 bits, or cannot be read.
    """
    pixels = np.asarray(_read(path, "RGB", "a picture of red, green and blue (Pillow's mode RGB)"))
    return pixels.astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def _read(path: str, mode: str, expected: str) -> Image.Image:
    try:
        with open_image(path) as image:
            if image.mode != mode:
                raise DatasetError(
                    f"{path} has Pillow's mode {image.mode!r}; expected {expected}, without loss "
                    "as in PNG"
                )
            image.load()
            return image.copy()
    except DatasetError:
        raise
    # Decoders meet damaged files with almost any exception.
    except Exception as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
