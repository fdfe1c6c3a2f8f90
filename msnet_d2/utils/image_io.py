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
from PIL import Image, ImageOps, UnidentifiedImageError

from msnet_d2.utils.image_layout import (
    explain_tiff,
    layout_of,
    read_deep,
    scale_to_8_bits,
    too_deep,
)

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "Limits",
    "check_size",
    "decodes_strictly",
    "keep_stored_colors",
    "open_image",
    "read_bgr",
]

# Files of a folder that are taken for images. A file that is named is opened whatever its suffix.
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow knows forty more; the one for EPS starts Ghostscript, whatever the file is called.
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_TILE_WIDTH, _TILE_LENGTH = 322, 323


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
        except UnidentifiedImageError as error:
            reason = explain_tiff(path)
            if reason is None:
                raise
            raise ValueError(reason) from error
        except Image.DecompressionBombError as error:
            raise ValueError(" ".join(str(error).split())) from error
    with image:
        check_size(image, limits)
        yield image


def check_size(image: Image.Image, limits: Limits) -> None:
    """See that an opened picture is small enough to be decoded, in its tiles too.

    Raises:
        ValueError: if it is not.
    """
    width, height = image.size
    tags = getattr(image, "tag_v2", {})
    # A tile is decoded whole, however little of it the picture shows.
    tile = [tags.get(tag) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    sizes = [(width, height), tuple(side if isinstance(side, int) else 0 for side in tile)]
    for (width, height), what in zip(sizes, ("", "tiles of ")):
        if width * height > limits.max_pixels:
            raise ValueError(
                f"it has {what}{width}x{height} pixels, over the limit of {limits.max_pixels} "
                "(INPUT.MAX_PIXELS)"
            )


def read_bgr(
    path: str | Path, limits: Limits = DEFAULT_LIMITS, depth: str = "refuse"
) -> np.ndarray:
    """Read a picture as its viewer sees it, that is turned as its EXIF says.

    Args:
        path: of the picture.
        limits: what it may have at most.
        depth: what becomes of more than 8 bits a sample, see
            :func:`~msnet_d2.utils.image_layout.scale_to_8_bits`; "refuse": an error.

    Returns:
        (H, W, 3) uint8, BGR. Grey becomes color, alpha and other extra bands are dropped.

    Raises:
        OSError, SyntaxError, ValueError, MemoryError: what Pillow raises for broken files, and
            :func:`open_image`; ValueError also for bands that are not said to be colors.
    """
    try:
        return _read_bgr(path, limits, depth)
    except (OSError, SyntaxError, ValueError, MemoryError):
        raise
    # Malformed tags raise whatever Pillow's decoders make of them.
    except Exception as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from error


def _read_bgr(path: str | Path, limits: Limits, depth: str) -> np.ndarray:
    with open_image(path, limits) as image:
        layout = layout_of(image)
        if layout.problem:
            raise ValueError(layout.problem)
        if layout.is_deep:
            if depth == "refuse":
                raise ValueError(too_deep(layout))
            pixels = scale_to_8_bits(read_deep(image, layout, path), layout, depth)
            if pixels.ndim == 2:
                pixels = np.repeat(pixels[:, :, None], 3, axis=2)
            return np.ascontiguousarray(pixels)
        keep_stored_colors(image)
        # Without copies: a picture takes four bytes a pixel in Pillow, a progressive JPEG up to six
        # more while it is decoded.
        ImageOps.exif_transpose(image, in_place=True)
        colors = image if image.mode == "RGB" else image.convert("RGB")
        return np.ascontiguousarray(np.asarray(colors)[:, :, ::-1])


def keep_stored_colors(image: Image.Image) -> bool:
    """Let Pillow read the colors of a TIFF as they are stored, not divided by an associated alpha.

    A color divided by a band that is called alpha and is none (near infrared) is garbage.

    Args:
        image: opened, not loaded.

    Returns:
        Whether Pillow would have divided them.
    """
    found = False
    for index, tile in enumerate(image.tile if image.format == "TIFF" else ()):  # type: ignore[attr-defined]
        arguments = tile[3]
        if isinstance(arguments, tuple) and str(arguments[0]).startswith("RGBa"):
            found = True
            stored = ("RGBA" + arguments[0][4:], *arguments[1:])
            # A named tuple from Pillow 11.1 on.
            named = hasattr(tile, "_replace")
            image.tile[index] = tile._replace(args=stored) if named else (*tile[:3], stored)  # type: ignore[attr-defined]
    return found


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
