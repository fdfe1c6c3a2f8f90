"""What the samples of a picture are: their depth, their bands, and how they become 8 bits of color.

Pillow turns 16-bit color into 8 bits by its high bytes, so that 12 bits in 16 become black, and
divides colors by an alpha that may be no alpha. So the layout is read from the file's header, and
what cannot be shown as it is meant is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from PIL import Image, TiffImagePlugin

from msnet_d2.errors import ConfigError

__all__ = [
    "DEPTHS",
    "Layout",
    "checked_depth",
    "explain_tiff",
    "layout_of",
    "read_deep",
    "scale_to_8_bits",
    "too_deep",
]

# INPUT.DEPTH: what becomes of samples of more than 8 bits.
DEPTHS = ("refuse", "auto", "min-max", "bits")
_REMEDY = (
    "write its red, green and blue bands as a picture of its own, such as by gdal_translate "
    "-b 1 -b 2 -b 3"
)
# Depths of sensors; samples of 10 to 14 bits are stored in 16.
_SENSOR_BITS = (8, 10, 11, 12, 14, 16, 24, 32)

# TIFF 6.0 tags.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 262, 274
_BANDS, _PLANAR, _EXTRA, _FORMAT = 277, 284, 338, 339
_GRAY, _RGB = (0, 1), 2
_KINDS = {1: "unsigned", 2: "signed", 3: "float"}


@dataclass(frozen=True)
class Layout:
    """How a picture stores its samples.

    Attributes:
        bits: of a sample.
        kind: "unsigned", "signed" or "float".
        bands: samples a pixel, those of an alpha or other extra band included.
        problem: why its colors are not known or cannot be read; None: they can.
    """

    bits: int = 8
    kind: str = "unsigned"
    bands: int = 3
    problem: str | None = None

    @property
    def is_deep(self) -> bool:
        """Whether a sample has to be scaled to become 8 bits."""
        return self.bits > 8 or self.kind != "unsigned"

    def __str__(self) -> str:
        """Return, such as "16 bits a sample (3 bands)"."""
        kind = "" if self.kind == "unsigned" else f" {self.kind}"
        return f"{self.bits}{kind} bits a sample ({self.bands} band{'s' * (self.bands > 1)})"


def layout_of(image: Image.Image) -> Layout:
    """Layout of an opened picture whose pixels have not been read yet."""
    if image.format == "TIFF":
        return _tiff_layout(image.tag_v2)  # type: ignore[attr-defined]
    # Pillow names what it reads from a PNG: "RGB;16B" for colors of 16 bits.
    rawmode = str(image.tile[0][3]) if image.tile else ""  # type: ignore[attr-defined]
    deep = "16B" in rawmode or image.mode.startswith("I;16")
    return Layout(16 if deep else 8, bands=len(image.getbands()))


def explain_tiff(path: str | Path) -> str | None:
    """Why Pillow does not read a file that is a TIFF; None if it is none, or cannot be told."""
    with open(path, "rb") as file:
        header = file.read(8)
        if header[:4] not in (b"II*\0", b"MM\0*"):
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
            layout = _tiff_layout(tags)
        except Exception:  # a damaged header can raise anything
            return None
    return layout.problem or f"a TIFF of {layout}, which cannot be read; {_REMEDY} -ot Byte -scale"


def read_deep(image: Image.Image, layout: Layout, path: str | Path) -> np.ndarray:
    """Samples of a picture of more than 8 bits, as they are stored.

    Args:
        image: opened; its header has passed all limits.
        layout: of it.
        path: of its file.

    Returns:
        (H, W) grey or (H, W, 3) BGR, turned as its EXIF data say; alpha is dropped.

    Raises:
        ValueError: if it cannot be read.
    """
    turn = image.getexif().get(_ORIENTATION, 1)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)  # Pillow turns TIFFs itself
    else:
        if image.format == "TIFF" and turn > 4:  # OpenCV fails on these
            raise ValueError(f"it has {layout} and lies on its side (orientation {turn}); turn it")
        data = np.fromfile(path, dtype=np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ValueError(f"it has {layout}, and its data cannot be decoded")
        pixels = decoded
    if pixels.ndim == 3:
        pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    return pixels if image.format == "TIFF" else _turned(pixels, turn)


def scale_to_8_bits(pixels: np.ndarray, layout: Layout, depth: str) -> np.ndarray:
    """Samples scaled to 8 bits.

    Args:
        pixels: of any shape, integers or floats.
        layout: of the picture that they come from.
        depth: "bits": the full range of the stored type is taken for black to white. "auto": that
            of the smallest usual sensor (8, 10, 11, 12, 14, 16 bits) that holds the largest sample;
            floats from 0 to 1. "min-max": from the smallest to the largest sample of the picture,
            over all bands.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: if ``depth`` is "refuse", or cannot be applied; it names the key to set.
    """
    if depth == "refuse":
        raise ValueError(too_deep(layout))
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("it has pixels that are not numbers")
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if depth != "min-max":
        unit = pixels.dtype.kind == "f" and high <= 1 and depth == "auto"
        if low < 0 or (pixels.dtype.kind == "f" and not unit):
            raise ValueError(
                f"it has {layout} from {low:g} to {high:g}; INPUT.DEPTH {depth} takes integers "
                "from 0 (auto: also floats from 0 to 1); set it to min-max"
            )
        needed = layout.bits
        if depth == "auto":
            needed = next(b for b in (*_SENSOR_BITS, 64) if int(high).bit_length() <= b)
        low, high = 0.0, 1.0 if unit else float(2**needed - 1)
    scaled = (pixels.astype(np.float32) - low) * (255 / (high - low) if high > low else 0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def too_deep(layout: Layout) -> str:
    """Why a picture is refused where ``INPUT.DEPTH`` is "refuse"."""
    return (
        f"it has {layout}; set INPUT.DEPTH to auto, min-max or bits to scale it, or convert it to "
        "8 bits"
    )


def checked_depth(cfg: CfgNode) -> str:
    """``INPUT.DEPTH``.

    Raises:
        ConfigError: if it is none of :data:`DEPTHS`.
    """
    if cfg.INPUT.DEPTH not in DEPTHS:
        raise ConfigError(f"INPUT.DEPTH is {cfg.INPUT.DEPTH!r}; there are: {', '.join(DEPTHS)}")
    return cfg.INPUT.DEPTH


def _tiff_layout(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Layout:
    bits = max(_numbers(tags, _BITS, 1))
    kind = _KINDS.get(_numbers(tags, _FORMAT, 1)[0], "complex")
    bands = _numbers(tags, _BANDS, 1)[0]
    extra = _numbers(tags, _EXTRA, None)
    layout = Layout(bits, kind, bands)
    photometric = tags.get(_PHOTOMETRIC)
    alphas = sum(value in (1, 2) for value in extra)
    problem = None
    if photometric in _GRAY and bands - alphas != 1:
        problem = (
            f"it has {bands} bands, and does not say that they are red, green and blue; {_REMEDY}"
        )
    elif kind == "complex":
        problem = f"it has samples that are no colors; {_REMEDY}"
    elif layout.is_deep and bands > 4:
        problem = f"it has {layout}; {_REMEDY} -ot Byte -scale"
    elif layout.is_deep and bands > 1 and _numbers(tags, _PLANAR, 1)[0] == 2:
        problem = f"it has {layout} in planes; write it anew by gdal_translate -co INTERLEAVE=PIXEL"
    elif layout.is_deep and photometric not in (*_GRAY, _RGB):
        problem = f"it has {layout} that are neither grey nor RGB; {_REMEDY} -ot Byte -scale"
    return Layout(bits, kind, bands, problem)


def _numbers(
    tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, default: int | None
) -> tuple[int, ...]:
    value = tags.get(tag)
    if value is None or value == ():
        return () if default is None else (default,)
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a viewer shows them, by EXIF's orientation (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
