"""The real depth and bands of a picture: scaled as asked or refused, never taken for 8 bits.

Each picture below stores the same colors, in another layout.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msnet_d2.data import ISBDADatasetMapper
from msnet_d2.data.isbda.image_checks import check_image
from msnet_d2.errors import ConfigError, DatasetError
from msnet_d2.utils.image_io import read_bgr
from msnet_d2.utils.image_layout import Layout, checked_depth, scale_to_8_bits

RGB = np.random.default_rng(0).integers(0, 231, (18, 32, 3), dtype=np.uint8)
NIR = np.full((18, 32, 1), 30, np.uint8)
RGBN = np.concatenate([RGB, NIR], 2)


def write_tiff(path, pixels, photometric=2, extra=None, planar=1):
    """The smallest TIFF of any depth and number of bands (TIFF 6.0, section 2)."""
    height, width, bands = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    stored = pixels if planar == 1 else pixels.transpose(2, 0, 1)
    data = stored.astype(pixels.dtype.newbyteorder("<")).tobytes()
    planes = bands if planar == 2 else 1
    start = 8 + len(data)
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [pixels.dtype.itemsize * 8] * bands),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [8 + n * len(data) // planes for n in range(planes)]),
        277: ("H", [bands]),
        278: ("I", [height]),
        279: ("I", [len(data) // planes] * planes),
        284: ("H", [planar]),
        339: ("H", [kind] * bands),
    }
    if extra is not None:
        tags[338] = ("H", extra)
    table, tail = b"", b""
    tail_start = start + 2 + 12 * len(tags) + 4
    for tag, (code, values) in sorted(tags.items()):
        raw = struct.pack(f"<{len(values)}{code}", *values)
        place = raw.ljust(4, b"\0")
        if len(raw) > 4:
            place = struct.pack("<I", tail_start + len(tail))
            tail += raw
        table += struct.pack("<HHI", tag, 3 if code == "H" else 4, len(values)) + place
    head = struct.pack("<2sHI", b"II", 42, start)
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + table + bytes(4) + tail)
    return path


def in_bits(bits):
    """The colors as a sensor of so many bits gives them, stored in 16."""
    return RGB.astype(np.uint16) << (bits - 8)


AS_THEY_ARE = {
    "planes": lambda path: write_tiff(path, RGB, planar=2),
    "a fourth band": lambda path: write_tiff(path, RGBN, extra=[0]),
    "associated alpha, which is none": lambda path: write_tiff(path, RGBN, extra=[1]),
    "alpha": lambda path: write_tiff(path, RGBN, extra=[2]),
    "five bands, the first three RGB": lambda path: write_tiff(
        path, np.concatenate([RGBN, NIR], 2), extra=[0, 0]
    ),
}


@pytest.mark.parametrize("name", list(AS_THEY_ARE))
def test_layouts_of_8_bits_are_read_as_they_are_meant(tmp_path, name, tiny_cfg):
    path = tmp_path / "a.tif"
    AS_THEY_ARE[name](path)
    assert (read_bgr(path) == RGB[:, :, ::-1]).all()
    record = {"file_name": str(path), "image_id": 1, "width": 32, "height": 18}
    assert check_image(record) == []
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0
    mapped = ISBDADatasetMapper(tiny_cfg, is_train=False)(record)
    assert (mapped["image"].permute(1, 2, 0).numpy() == RGB[:, :, ::-1]).all()
    assert mapped["file_name"] == str(path)


SCALED = {
    "12 bits in 16, TIFF": ("a.tif", lambda path: write_tiff(path, in_bits(12))),
    "12 bits in 16, PNG": (
        "a.png",
        lambda path: cv2.imwrite(str(path), in_bits(12)[:, :, ::-1]),
    ),
    "12 bits in 16, LZW": (
        "a.tiff",
        lambda path: cv2.imwrite(str(path), in_bits(12)[:, :, ::-1]),
    ),
    "11 bits in 16 with alpha": (
        "a.tif",
        lambda path: write_tiff(path, np.concatenate([in_bits(11), in_bits(11)[..., :1]], 2),
                                extra=[2]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SCALED))
def test_more_than_8_bits_are_scaled_as_asked_or_refused(tmp_path, name, tiny_cfg):
    file_name, write = SCALED[name]
    path = tmp_path / file_name
    write(path)
    with pytest.raises(ValueError, match="it has 16 bits a sample .*set INPUT.DEPTH to auto"):
        read_bgr(path)
    # The colors are 0 to 230 of 255; scaled by the sensor's bits they lose at most their last one.
    assert np.abs(read_bgr(path, depth="auto").astype(int) - RGB[:, :, ::-1]).max() <= 1
    full = read_bgr(path, depth="min-max")
    assert (full.min(), full.max()) == (0, 255)
    # 12 bits of 16 are a sixteenth of the range: nearly black, as "bits" says.
    assert read_bgr(path, depth="bits").max() < 16

    record = {"file_name": str(path), "image_id": 1, "width": 32, "height": 18}
    (issue,) = check_image(record)
    assert (issue.severity, issue.kind) == ("fatal", "image-depth")
    assert check_image(record, depth="auto") == []
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0
    with pytest.raises(DatasetError, match=rf"{path} cannot be used: it has 16 bits"):
        ISBDADatasetMapper(tiny_cfg, is_train=False)(record)
    tiny_cfg.INPUT.DEPTH = "auto"
    image = ISBDADatasetMapper(tiny_cfg, is_train=False)(record)["image"]
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - RGB[:, :, ::-1]).max() <= 1


REFUSED = {
    "four bands of grey": (
        lambda path: write_tiff(path, RGBN, 1, [0, 0, 0]),
        "it has 4 bands, and does not say that they are red, green and blue; .*gdal_translate",
    ),
    "five bands of 16 bits": (
        lambda path: write_tiff(
            path, np.concatenate([RGBN, NIR], 2).astype(np.uint16) * 16, 1, [0, 0, 0, 0]
        ),
        "it has 5 bands, and does not say",
    ),
    "planes of 16 bits": (
        lambda path: write_tiff(path, in_bits(11), planar=2),
        "it has 16 bits a sample .3 bands. in planes",
    ),
    "floats in color": (
        lambda path: write_tiff(path, RGB.astype(np.float32) / 255),
        "32 float bits a sample",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.parametrize("depth", ["refuse", "auto"])
def test_bands_that_are_not_known_to_be_colors_are_refused_by_name(tmp_path, name, depth):
    path = tmp_path / "a.tif"
    write, message = REFUSED[name]
    write(path)
    with pytest.raises(ValueError, match=message):
        read_bgr(path, depth=depth)
    (issue,) = check_image({"file_name": str(path), "image_id": 1, "width": 32, "height": 18})
    assert issue.fatal


def test_heights_of_a_surface_model_are_no_picture_by_their_bits(tmp_path):
    path = write_tiff(tmp_path / "dsm.tif", RGB[:, :, :1].astype(np.float32) * 3 + 1200, 1)
    for depth in ("auto", "bits"):
        with pytest.raises(ValueError, match="set it to min-max"):
            read_bgr(path, depth=depth)
    assert read_bgr(path, depth="min-max").max() == 255


def test_a_deep_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise by 90 degrees
    gray = in_bits(16)[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(RGB[:, :, 0], -1)
    read = read_bgr(tmp_path / "a.png", depth="bits")[:, :, 0]
    assert np.abs(read.astype(int) - upright).max() <= 1


@settings(max_examples=50, deadline=None)
@given(bits=st.sampled_from([8, 10, 11, 12, 14, 16]), seed=st.integers(0, 2**32 - 1))
def test_auto_finds_the_bits_of_a_sensor_from_a_bright_picture(bits, seed):
    # Samples over half of the range, as in any daylight picture, have the sensor's highest bit.
    samples = np.random.default_rng(seed).integers(0, 2**bits, (9, 9, 3))
    samples[0, 0, 0] = 2**bits - 1
    scaled = scale_to_8_bits(samples.astype(np.uint16), Layout(16), "auto")
    assert np.abs(scaled - samples * (255 / (2**bits - 1))).max() <= 0.51


def test_an_unknown_depth_names_the_key(tiny_cfg):
    tiny_cfg.INPUT.DEPTH = "minmax"
    with pytest.raises(ConfigError, match="INPUT.DEPTH is 'minmax'; there are: refuse, auto"):
        checked_depth(tiny_cfg)
