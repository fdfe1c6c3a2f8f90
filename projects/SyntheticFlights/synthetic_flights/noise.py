"""Random fields: tileable fractal noise for the ground, cheap value noise for textures, irregular
regions for damage.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["blob_field", "fractal_noise", "sample_tiled", "value_noise"]


def fractal_noise(
    rng: np.random.Generator,
    size: int,
    exponent: float,
    longest: float = np.inf,
    shortest: float = 0.0,
) -> np.ndarray:
    """Return tileable noise (size, size), float32, mean 0, deviation 1.

    Its amplitude falls as ``frequency ** -exponent``; wavelengths outside ``shortest..longest``
    cells are left out.
    """
    white = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    gain = frequency**-exponent
    gain[(frequency < 1 / longest) | (frequency * shortest > 1)] = 0.0
    gain[0, 0] = 0.0
    field = np.fft.irfft2(white * gain, s=(size, size)).astype(np.float32)
    return field / max(float(field.std()), 1e-9)


def sample_tiled(
    field: np.ndarray, x0: int, y0: int, width: int, height: int, scale: int
) -> np.ndarray:
    """Return the window ``x0, y0, width, height`` of ``field`` repeated for ever and enlarged
    ``scale`` times.

    The value at a place depends on the place alone, so that windows that overlap agree.
    """
    cx, cy = x0 // scale, y0 // scale
    nx, ny = width // scale + 3, height // scale + 3
    size = field.shape[0]
    cells = field[np.ix_(np.arange(cy, cy + ny) % size, np.arange(cx, cx + nx) % size)]
    if scale == 1:
        return cells[:height, :width]
    back = np.array([[1 / scale, 0, x0 / scale - cx], [0, 1 / scale, y0 / scale - cy]], np.float64)
    return cv2.warpAffine(
        cells,
        back,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def value_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 1
) -> np.ndarray:
    """Return smooth noise of ``shape``, float32, deviation about 1, whose grains are ``cell``
    texels (halved an octave).
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.standard_normal(
            (int(height / step) + 2, int(width / step) + 2), dtype=np.float32
        )
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * (0.6**octave)
    return total


def blob_field(
    rng: np.random.Generator,
    shape: tuple[int, int],
    center: tuple[float, float],
    radii: tuple[float, float],
    roughness: float = 0.35,
    step: int = 5,
) -> np.ndarray:
    """Return a field (float32) that is positive in an irregular region around ``centre`` (x, y),
    of half axes ``radii``.

    The border moves in steps of ``step`` texels, as shingles tear off by rows and sheets break at
    nails.
    """
    height, width = shape
    rows, columns = (height + step - 1) // step, (width + step - 1) // step
    y = ((np.arange(rows) + 0.5) * step - center[1]) / max(radii[1], 1e-3)
    x = ((np.arange(columns) + 0.5) * step - center[0]) / max(radii[0], 1e-3)
    # Between a rectangle and an ellipse: the sum of fourth powers.
    distance = (y[:, None] ** 4 + x[None] ** 4) ** 0.25
    noise = value_noise(rng, (rows, columns), max(max(radii) / step * 0.6, 2.0), 3)
    field = (1 - distance + roughness * noise).astype(np.float32)
    field = cv2.resize(field, (columns * step, rows * step), interpolation=cv2.INTER_NEAREST)[
        :height, :width
    ]
    return field + 0.06 * rng.standard_normal(shape, dtype=np.float32)
