"""A folder of pictures and masks with every quirk of the flood area data set, in small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msnet_d2.cli import main
from msnet_d2.data.importers.mask_folder import import_mask_folder
from msnet_d2.errors import InputError

SIZES = {"0": (60, 40), "1": (60, 40), "14": (40, 30), "15": (50, 30), "20": (60, 40),
         "3059": (60, 40), "21": (40, 60), "22": (60, 40)}  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "flood"
    for name in ("Image", "Mask"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        picture = rng.integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
        picture = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255
        mask[height // 2] = 100  # a grey border
        if name == "20":  # the same picture as 1, at a fifth more
            picture = Image.open(root / "Image/1.jpg").resize((72, 48))
            mask = np.asarray(Image.fromarray(mask).resize((72, 48), Image.Resampling.NEAREST))
        exif = Image.Exif()
        if name == "21":
            # Stored lying, shown upright.
            picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
        kind = "WEBP" if name == "0" else "JPEG"
        picture.save(root / f"Image/{name}.jpg", kind, exif=exif, quality=95)
        Image.fromarray(mask).save(root / f"Mask/{name}.png")
    # Swapped masks, and one that was drawn on another shape.
    masks = root / "Mask"
    (masks / "14.png").rename(masks / "x.png")
    (masks / "15.png").rename(masks / "14.png")
    (masks / "x.png").rename(masks / "15.png")
    Image.new("L", (60, 30)).save(masks / "3059.png")
    _table(root, [f"{n}.jpg,{n}.png" for n in SIZES])
    return root


def _table(root: Path, rows: list[str]) -> None:
    (root / "metadata.csv").write_text("\n".join(["Image,Mask", *rows]) + "\n")


def test_every_quirk_is_handled_and_told(folder, tmp_path):
    done = import_mask_folder(folder, tmp_path / "out", val_share=0.5)
    assert {(issue.image_id, issue.kind) for issue in done.issues} == {
        ("0", "other-format"), ("14", "swapped-masks"), ("3059", "mask-size"),
        ("21", "exif-orientation"),
    }  # fmt: skip
    assert all(issue.severity == "kept" for issue in done.issues)
    assert done.groups == [["1", "20"]]
    assert sum(done.counts.values()) == 8
    sides = {}
    for side in ("train", "val"):
        document = json.loads((tmp_path / f"out/annotations/semantic_{side}.json").read_text())
        for entry in document["images"]:
            sides[Path(entry["file_name"]).stem] = side
            picture = Image.open(tmp_path / f"out/{side}" / entry["file_name"])
            label = Image.open(tmp_path / f"out/semantic/{side}" / entry["sem_seg_file_name"])
            assert (picture.format, label.mode) == ("JPEG", "L")
            assert picture.size == label.size == (entry["width"], entry["height"])
    assert sides["1"] == sides["20"]
    assert main(["check", f"semantic@{tmp_path / 'out'}", "--no-progress"]) == 0


@pytest.mark.parametrize(("ignore_gray", "row"), [(False, 0), (True, 255)])
def test_masks_are_cut_at_128_before_they_are_resized(folder, tmp_path, ignore_gray, row):
    import_mask_folder(folder, tmp_path / "out", ignore_gray=ignore_gray)
    (label,) = (tmp_path / "out/semantic").rglob("22.png")
    values = np.asarray(Image.open(label))
    assert values[:20].min() == 1
    assert (values[20] == row).all()
    assert values[21:].max() == 0


def test_the_baseline_is_that_of_calling_all_background(folder, tmp_path):
    done = import_mask_folder(folder, tmp_path / "out", val_share=0.5)
    counts = np.zeros(256)
    for path in (tmp_path / "out/semantic/val").iterdir():
        counts += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    assert done.background_share == pytest.approx(counts[0] / counts.sum())


def test_large_pictures_are_shrunk(folder, tmp_path):
    Image.new("RGB", (2100, 1050), (9, 90, 9)).save(folder / "Image/22.jpg")
    Image.new("L", (2100, 1050), 255).save(folder / "Mask/22.png")
    import_mask_folder(folder, tmp_path / "out")
    (picture,) = (tmp_path / "out").rglob("22.jpg")
    assert Image.open(picture).size == (1024, 512)


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (lambda root: (root / "Mask/22.png").unlink(), "missing-file"),
        (lambda root: _table(root, ["../metadata.csv,1.png"]), "file-name"),
        (lambda root: _table(root, ["1.jpg,1.png", "1.jpg,1.png"]), "duplicate-name"),
        (lambda root: (root / "Image/22.jpg").write_bytes(b"none"), "unreadable-file"),
        (lambda root: Image.new("I;16", (60, 40)).save(root / "Mask/22.png"), "mask-mode"),
        (lambda root: Image.new("L", (60, 30)).save(root / "Mask/22.png"), "mask-shape"),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_written(folder, tmp_path, capsys, break_it, kind):
    break_it(folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 2
    output = capsys.readouterr()
    assert f"fatal: {kind}" in output.out
    assert "nothing was written" in output.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none(tmp_path, capsys):
    with pytest.raises(InputError, match="no such folder"):
        import_mask_folder(tmp_path / "no", tmp_path / "out")
    assert main(["import", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "got 0 .csv files" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("A,B\n1,2\n")
    with pytest.raises(InputError, match="columns Image and Mask"):
        import_mask_folder(tmp_path, tmp_path / "out")


def test_the_command_tells_the_baseline(folder, tmp_path, capsys):
    arguments = ["import", str(folder), "--out", str(tmp_path / "out"), "--ratio", "0.5"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "kept: swapped-masks: image '14'" in text
    assert "the same picture: 1, 20" in text
    assert "calling all of val background" in text
