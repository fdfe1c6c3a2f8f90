"""Images that training would stumble over are found by msnet check, and named by the mapper."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from msnet_d2.data import ISBDADatasetMapper, find_issues, load_isbda_json
from msnet_d2.errors import DatasetError

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (80, 100, 3), dtype=np.uint8))


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_orientation(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, "JPEG", exif=exif)


PNG, JPEG = encode(NOISE, "PNG"), encode(NOISE, "JPEG")
DEEP = encode(Image.fromarray(np.full((80, 100), 40_000, dtype=np.uint16)), "PNG")

# severity, kind, the bytes of the second image, why
CASES = [
    ("fatal", "unreadable-image", b"", "an empty file"),
    ("fatal", "unreadable-image", b"not a picture", "text renamed"),
    ("fatal", "unreadable-image", PNG[: len(PNG) // 2], "a download cut short"),
    ("fatal", "unreadable-image", JPEG[: len(JPEG) // 2], "a download cut short"),
    (
        "fatal",
        "unreadable-image",
        PNG[:5000] + bytes(100) + PNG[5100:],
        "a hole in the middle, which its check sum gives away",
    ),
    (
        "fatal",
        "image-size",
        encode(NOISE.resize((100, 79)), "PNG"),
        "a row less than the JSON says",
    ),
    ("fatal", "image-size", with_orientation(NOISE, 6), "100x80 stored, but 80x100 once turned"),
    ("fatal", "image-depth", DEEP, "16 bits: all of it would become white"),
    (
        "kept",
        "exif-orientation",
        with_orientation(NOISE, 3),
        "pixels are turned by 180 degrees on reading, annotations are not",
    ),
    (
        "kept",
        "exif-orientation",
        with_orientation(NOISE.transpose(Image.Transpose.ROTATE_90), 6),
        "80x100 stored, 100x80 once turned, as the JSON says",
    ),
]


@pytest.mark.parametrize(("severity", "kind", "content", "reason"), CASES)
def test_one_bad_image_is_found_alone(
    isbda_content, write_isbda, severity, kind, content, reason, tiny_cfg
):
    json_file, root = write_isbda(isbda_content)
    (root / "5_110.png").write_bytes(content)
    (issue,) = find_issues(json_file, root, workers=2)
    assert (issue.severity, issue.kind, issue.image_id) == (severity, kind, 2), reason
    assert str(root / "5_110.png") in issue.message

    # Loading opens no image; whoever trains on it is told which one it is.
    record = load_isbda_json(json_file, root)[1]
    mapper = ISBDADatasetMapper(tiny_cfg, is_train=True)
    if severity == "fatal":
        with pytest.raises(DatasetError, match="5_110.png"):
            mapper(record)
    else:
        assert mapper(record)["image"].shape[1:] == (96, 120)  # short side 80 -> 96


def test_missing_images_and_folders_in_their_place(isbda_content, write_isbda):
    json_file, root = write_isbda(isbda_content)
    (root / "5_100.png").unlink()
    (root / "5_110.png").unlink()
    (root / "5_110.png").mkdir()
    issues = find_issues(json_file, root)
    assert [(f.severity, f.kind, f.image_id) for f in issues] == [
        ("fatal", "missing-image", 1),
        ("fatal", "missing-image", 2),
    ]


def test_a_hole_in_a_jpeg_is_found_where_a_strict_decoder_is_installed(isbda_content, write_isbda):
    pytest.importorskip("av")
    json_file, root = write_isbda(isbda_content)
    # Smooth enough that zeros decode to something: Pillow opens it without a word.
    smooth = NOISE.resize((10, 8)).resize((100, 80))
    content = encode(smooth, "JPEG", quality=95)
    middle = len(content) * 3 // 4
    holed = content[:middle] + bytes(100) + content[middle + 100 :]
    Image.open(io.BytesIO(holed)).load()
    (root / "5_110.png").write_bytes(holed)
    (issue,) = find_issues(json_file, root)
    assert (issue.severity, issue.kind, issue.image_id) == ("kept", "damaged-image", 2)


@pytest.mark.parametrize(
    "content",
    [
        JPEG,
        encode(NOISE, "JPEG", progressive=True),
        encode(NOISE.convert("L"), "JPEG"),
        encode(NOISE.convert("CMYK"), "JPEG"),
        JPEG + JPEG,  # drones append previews
        encode(NOISE.convert("P"), "PNG"),
        encode(NOISE.convert("RGBA"), "PNG"),
        encode(NOISE, "BMP"),
        encode(NOISE, "WEBP"),
    ],
    ids=["jpeg", "progressive", "grey", "cmyk", "appended", "palette", "alpha", "bmp", "webp"],
)
def test_ordinary_images_of_all_kinds_pass(isbda_content, write_isbda, content):
    json_file, root = write_isbda(isbda_content)
    (root / "5_110.png").write_bytes(content)
    assert find_issues(json_file, root) == []
