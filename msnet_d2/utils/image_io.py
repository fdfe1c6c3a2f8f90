"""Opening pictures that others made: bounded in memory, and by decoders that decode alone."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "Limits",
    "decodes_strictly",
    "open_image",
    "read_bgr",
]

# Files of a folder that are taken for images. A file that is named is opened whatever its suffix.
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow knows forty more; the one for EPS starts Ghostscript, whatever the file is called.
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


@dataclass(frozen=True)
class Limits:
    """What a picture may have at most.

    Attributes:
        max_pixels: width times height. Decoding takes up to ten bytes a pixel. Pillow refuses more
            than 178 million by itself.
        max_bytes: of the file.
    """

    max_pixels: int = 1 << 26  # 8192 × 8192; cameras of drones have up to 50 million
    max_bytes: int = 1 << 28


DEFAULT_LIMITS = Limits()


@contextmanager
def open_image(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Image.Image]:
    """Open a picture; only its header is read yet.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.
        limits: what it may have at most.

    Raises:
        OSError: if there is no such file, or it is none of these.
        ValueError: if it is no ordinary file, or over the limits.
    """
    # Looked at before it is opened: a pipe would block, a device would never end.
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a file")
    if found.st_size > limits.max_bytes:
        raise ValueError(f"it has {found.st_size} bytes, over the limit of {limits.max_bytes}")
    with warnings.catch_warnings():
        # Pillow's own limit is a warning first; ours stands below.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise ValueError(" ".join(str(error).split())) from error
    with image:
        width, height = image.size
        if width * height > limits.max_pixels:
            raise ValueError(
                f"it has {width}x{height} pixels, over the limit of {limits.max_pixels} "
                "(INPUT.MAX_PIXELS)"
            )
        yield image


def read_bgr(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Read a picture as its viewer sees it, that is turned as its EXIF says.

    Args:
        path: of the picture.
        limits: what it may have at most.

    Returns:
        (H, W, 3) uint8, BGR. Grey becomes colour, more than 8 bits are scaled down, transparency is
        dropped.

    Raises:
        OSError, SyntaxError, ValueError, MemoryError: what Pillow raises for broken files, and
            :func:`open_image`.
    """
    with open_image(path, limits) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I") or image.mode == "F":
            pixels = _to_8_bits(np.asarray(image), image.mode)
            return np.ascontiguousarray(np.repeat(pixels[:, :, None], 3, axis=2))
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def decodes_strictly(path: str | Path) -> bool:
    """Whether a decoder that stops at errors gets to the end of a JPEG.

    Pillow goes on silently, with grey in place of what is missing. The other formats have check
    sums, or an end that Pillow looks for, and count as sound here.

    Args:
        path: of a picture that :func:`read_bgr` reads.

    Returns:
        False if parts of the picture are wrong. The decoder is FFmpeg's, of the optional package
        av; without it every picture passes, and so do those that it does not know.
    """
    try:
        import av
    except ImportError:
        return True
    with open_image(path, Limits(1 << 62, 1 << 62)) as image:
        if image.format != "JPEG" or image.mode not in ("RGB", "L"):
            return True
    try:
        context = av.CodecContext.create("mjpeg", "r")
        context.options = {"err_detect": "explode"}
        frames = [*context.decode(av.Packet(Path(path).read_bytes())), *context.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        return isinstance(error, av.error.PatchWelcomeError)  # valid, but FFmpeg cannot decode it
    return bool(frames)


def _to_8_bits(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Grey of 16 or 32 bits, or floating point, as 8 bits; ``mode`` is Pillow's name for it."""
    pixels = pixels.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ValueError("it has pixels that are not numbers")
    top = pixels.max(initial=0)
    # Some versions of Pillow read 16 bits as 32. Floating point goes from 0 to 1 or to 255.
    if mode.startswith("I;16") or (mode == "I" and top > 255):
        pixels /= 257
    elif mode == "F" and top <= 1:
        pixels *= 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
