"""Pictures that take all memory, start programs, or are not where they should be."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from msnet_d2.data import ISBDADatasetMapper, find_issues, load_isbda_json
from msnet_d2.data.loading.frame_sources import find_frame_sources
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.inference.images import read_image


def bomb(path, side=13_000):
    """A PNG of one colour, ``side`` squared: 0.5 MB that decode to half a gigabyte."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = b"\0" * (3 * side + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture(scope="module")
def bomb_file(tmp_path_factory):
    return bomb(tmp_path_factory.mktemp("bomb") / "5_1.png")


def content_for(name, width=100, height=80):
    return {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "annotations": [],
        "categories": [{"id": 1, "name": "Slight"}],
    }


def write_json(folder, content):
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


READERS = {
    "predict": lambda path, cfg: read_image(path, depth=cfg.INPUT.DEPTH),
    "mapper": lambda path, cfg: ISBDADatasetMapper(cfg, is_train=False)(
        {"file_name": str(path), "image_id": 1}
    ),
    "frames of triplets": lambda path, cfg: find_frame_sources(
        [str(path.parent)], 30.0, cfg.INPUT.DEPTH
    )[0].read([0]),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_a_bomb_is_refused_before_it_is_decoded(bomb_file, tiny_cfg, reader):
    with pytest.raises((InputError, DatasetError), match=r"13000x13000 .*limit of \d+"):
        READERS[reader](bomb_file, tiny_cfg)


def test_the_bombs_memory_is_never_taken(bomb_file):
    """In a process of its own, since the highest mark of memory does not fall."""
    code = (
        "import resource, sys\n"
        "from msnet_d2.data.isbda.image_checks import check_image\n"
        "from msnet_d2.inference.images import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "issues = check_image({'file_name': sys.argv[1], 'image_id': 1, 'width': 1, 'height': 1})\n"
        "assert [f.kind for f in issues] == ['unreadable-image'], issues\n"
        "try:\n"
        "    read_image(sys.argv[1])\n"
        "except ValueError as error:\n"
        "    assert 'limit' in str(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bomb_file)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 50_000  # kB; decoded it is 500,000


def test_msnet_check_names_the_bomb(bomb_file):
    (issue,) = find_issues(write_json(bomb_file.parent, content_for("5_1.png")), bomb_file.parent)
    assert issue.kind == "unreadable-image"
    assert str(bomb_file) in issue.message


def test_limits_can_be_set(tmp_path, tiny_cfg):
    path = tmp_path / "5_1.png"
    cv2.imwrite(str(path), np.zeros((80, 100, 3), np.uint8))
    tiny_cfg.INPUT.MAX_PIXELS = 7999
    with pytest.raises(DatasetError, match="100x80 .*limit of 7999"):
        READERS["mapper"](path, tiny_cfg)
    tiny_cfg.INPUT.MAX_PIXELS = 8000
    READERS["mapper"](path, tiny_cfg)
    tiny_cfg.INPUT.MAX_BYTES = 20
    with pytest.raises(DatasetError, match=r"bytes, over the limit of 20"):
        READERS["mapper"](path, tiny_cfg)

    from msnet_d2.utils.image_io import Limits

    with pytest.raises(InputError, match="limit of 7999"):
        read_image(path, Limits(max_pixels=7999))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 80\n%%EndComments\n(x) run\n%%EOF\n"


@pytest.mark.parametrize("reader", list(READERS))
def test_formats_that_start_programs_are_refused(tmp_path, tiny_cfg, reader, monkeypatch):
    # Pillow hands EPS to Ghostscript, whatever the file is called.
    path = tmp_path / "5_1.png"
    path.write_bytes(EPS)
    started = []
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: started.append(a))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))

    with pytest.raises((InputError, DatasetError)):
        READERS[reader](path, tiny_cfg)

    assert started == []


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "missing", "empty", "text"])
def test_what_is_no_picture_is_an_error_at_once(tmp_path, tiny_cfg, reader, kind):
    path = tmp_path / "5_1.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"no picture")
    with pytest.raises((InputError, DatasetError)):
        READERS[reader](path, tiny_cfg)


def damaged(suffix, kind):
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    data = bytearray(encoded(noise, suffix))
    middle = len(data) // 2
    if kind == "a byte":
        data[middle] ^= 0xFF
    elif kind == "cut off":
        del data[middle:]
    elif kind == "a hole":
        data[middle:-12] = bytes(len(data) - 12 - middle)
    else:
        data[middle:] = b"\xff\xd9"  # it says that this is the end of a JPEG
    return bytes(data)


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", "a byte"), (".png", "a hole"), (".png", "cut off"), (".jpg", "cut off")],
)
def test_a_damaged_picture_is_an_error(tmp_path, tiny_cfg, reader, suffix, kind):
    path = tmp_path / "5_1.png"
    path.write_bytes(damaged(suffix, kind))
    # The caller of the first names it: it has several.
    with pytest.raises((InputError, DatasetError), match="." if reader == "predict" else "5_1.png"):
        READERS[reader](path, tiny_cfg)


def test_a_jpeg_that_ends_early_is_not_taken_for_whole(tmp_path, tiny_cfg):
    """Pillow makes the rest grey without a word, and in grey nothing is damaged."""
    pytest.importorskip("av")
    from msnet_d2.inference.images import find_images, predict_images
    from msnet_d2.inference.predictor import Predictor
    from msnet_d2.video.reader import VideoReader

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(encoded(np.zeros((80, 100, 3), np.uint8), ".jpg"))
    (folder / "2.jpg").write_bytes(damaged(".jpg", "ends early"))

    predictor = Predictor(tiny_cfg, allow_random_weights=True)
    summary = predict_images(predictor, find_images([folder]), tmp_path / "out")
    assert summary["damaged"] == ["2.jpg"]
    assert [image["file"] for image in summary["images"]] == ["1.jpg", "2.jpg"]
    with VideoReader(folder) as reader:
        assert [frame.damaged for frame in reader] == [False, True]
    assert not reader.report.is_complete
    (folder / "5_1.png").write_bytes(damaged(".jpg", "ends early"))
    (issue,) = find_issues(write_json(folder, content_for("5_1.png")), folder)
    assert issue.kind == "damaged-image"


def encoded(array, suffix=".png"):
    return cv2.imencode(suffix, array)[1].tobytes()


def test_sixteen_bits_and_exif_come_out_right_everywhere(tmp_path, tiny_cfg):
    """Refused or scaled, and turned with their boxes, whoever reads."""
    gray = np.linspace(0, 65535, 8000, dtype=np.uint16).reshape(80, 100)
    deep = tmp_path / "deep" / "deep.png"
    deep.parent.mkdir()
    deep.write_bytes(encoded(gray))
    wanted = np.repeat(np.rint(gray / 257).astype(np.uint8)[:, :, None], 3, axis=2)
    for reader in READERS.values():
        with pytest.raises((InputError, DatasetError), match="16 bits a sample .*INPUT.DEPTH"):
            reader(deep, tiny_cfg)
    tiny_cfg.INPUT.DEPTH = "bits"
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0  # no resizing
    for name, reader in READERS.items():
        image = reader(deep, tiny_cfg)
        if name == "mapper":
            assert image["file_name"] == str(deep)
            image = image["image"].permute(1, 2, 0).numpy()
        image = image[0] if isinstance(image, list) else image
        assert np.abs(image.astype(int) - wanted).max() <= 1, name

    picture = np.arange(80 * 100 * 3, dtype=np.uint32).reshape(80, 100, 3) % 251
    picture = picture.astype(np.uint8)
    turned = tmp_path / "turned" / "turned.png"
    turned.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, ::-1]).save(buffer, "PNG", exif=exif)
    turned.write_bytes(buffer.getvalue())
    for name in ("predict", "frames of triplets"):
        image = READERS[name](turned, tiny_cfg)
        image = image[0] if isinstance(image, list) else image
        np.testing.assert_array_equal(image, np.rot90(picture, -1), err_msg=name)


# What EXIF's orientation tag asks for -> how an upright picture is stored with it.
STORED = {
    3: lambda upright: np.rot90(upright, 2),
    6: lambda upright: np.rot90(upright, 1),  # to be turned clockwise by 90 degrees
    8: lambda upright: np.rot90(upright, -1),
}


def write_turned(path, upright, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright)[:, :, ::-1])
    Image.fromarray(stored).save(path, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", list(STORED))
def test_boxes_and_masks_lie_on_a_turned_picture(tmp_path, tiny_cfg, orientation):
    """Labels are of the picture as it is seen: 100 wide, 80 high, one white part."""
    upright = np.full((80, 100, 3), 20, np.uint8)
    upright[10:30, 60:90] = 255
    write_turned(tmp_path / "5_1.png", upright, orientation)
    content = content_for("5_1.png")
    content["annotations"] = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[60, 10, 90, 10, 90, 30, 60, 30]],
            "area": 600,
            "iscrowd": 0,
            "damage_bbox": [60, 10, 30, 20],
            "house_bbox": [50, 5, 50, 40],
        }
    ]
    json_file = write_json(tmp_path, content)
    assert [(f.kind, f.fatal) for f in find_issues(json_file, tmp_path)] == [
        ("exif-orientation", False)
    ]
    (record,) = load_isbda_json(json_file, tmp_path)
    tiny_cfg.INPUT.MASK_FORMAT = "bitmask"
    tiny_cfg.INPUT.RANDOM_FLIP = "none"
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (80,)
    mapped = ISBDADatasetMapper(tiny_cfg, is_train=True)(record)
    white = mapped["image"].numpy().min(axis=0) > 200
    assert white.shape == (80, 100)
    np.testing.assert_array_equal(mapped["instances"].gt_masks.tensor[0].numpy(), white)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[60, 10, 90, 30]]
    assert mapped["instances"].gt_parent_boxes.tensor.tolist() == [[50, 5, 100, 45]]


def test_labels_of_a_turned_picture_as_it_is_stored_are_refused(tmp_path, tiny_cfg):
    write_turned(tmp_path / "5_1.png", np.zeros((80, 100, 3), np.uint8), 6)
    json_file = write_json(tmp_path, content_for("5_1.png", width=80, height=100))
    assert [f.kind for f in find_issues(json_file, tmp_path)] == ["image-size"]
    (record,) = load_isbda_json(json_file, tmp_path)
    with pytest.raises(DatasetError, match=r"5_1\.png"):
        ISBDADatasetMapper(tiny_cfg, is_train=True)(record)


@pytest.fixture
def outside(tmp_path):
    """A data folder beside a file that must not be reached from it."""
    root = tmp_path / "data"
    root.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((80, 100, 3), np.uint8))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "chain.png").symlink_to("folder/secret.png")
    return root


WAYS_OUT = [
    "../secret.png",
    "a/../../secret.png",
    "ABSOLUTE",
    "link.png",
    "folder/secret.png",
    "chain.png",
    "http://127.0.0.1:9/secret.png",
    "file://ABSOLUTE",
    "detectron2://secret.png",
    "..\\secret.png",
    "~/secret.png/../../secret.png",
    "C:\\secret.png",
]


@pytest.mark.parametrize("name", WAYS_OUT)
def test_no_file_name_leaves_the_folder(outside, tmp_path, name):
    name = name.replace("ABSOLUTE", str(tmp_path / "secret.png"))
    json_file = write_json(outside, content_for(name))

    with pytest.raises(DatasetError, match="file-name"):
        load_isbda_json(json_file, outside)
    assert [f.kind for f in find_issues(json_file, outside) if f.fatal] == ["file-name"]
