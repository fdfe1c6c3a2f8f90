"""``msnet predict`` in this process."""

import json
import os
import shutil
import signal

import pytest
from PIL import Image

from msnet_d2.cli import main


@pytest.fixture
def predict(run, tiny_data, tmp_path):
    def predict(*arguments, config=run / "config.yaml"):
        command = ["predict", *map(str, arguments), "--config-file", str(config)]
        return main([*command, "--out", str(tmp_path / "out"), "--min-score", "0.01"])

    return predict


def test_pictures_and_folders(predict, tiny_data, tmp_path, run, capsys):
    shutil.copy(tiny_data / "val" / "0_1.png", tmp_path / "photo.png")
    assert predict(tmp_path / "photo.png", tiny_data / "val") == 0
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file"] for image in result["images"]] == ["photo.png", "0_1.png", "1_1.png"]
    for image in result["images"]:
        assert Image.open(tmp_path / "out" / image["drawn"]).size == (128, 96)
    assert result["config"] == "config.yaml"
    # The same picture gets the same result wherever it lies.
    first, second, _ = result["images"]
    assert first["instances"] == second["instances"]
    assert len(first["instances"]) > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "0_1.jpg",
        "1_1.jpg",
        "photo.jpg",
        "predictions.json",
    ]


def test_unreadable_pictures_are_listed_and_the_rest_goes_on(predict, tiny_data, tmp_path, capsys):
    broken = tiny_data / "val" / "0_1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    capsys.readouterr()
    assert predict(tiny_data / "val") == 1
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file"] for image in result["images"]] == ["1_1.png"]
    assert [entry["file"] for entry in result["unreadable"]] == ["0_1.png"]


def test_pictures_of_kinds_that_are_not_read_are_listed(predict, tiny_data, tmp_path, capsys):
    Image.open(tiny_data / "val" / "0_1.png").save(tmp_path / "a.jp2")
    for name in ("a.jp2", "b.HEIC", "c.dng", "a.tfw", "notes.txt"):
        target = tiny_data / "val" / name
        if name == "a.jp2":
            shutil.copy(tmp_path / name, target)
        else:
            target.write_bytes(b"something")
    assert predict(tiny_data / "val") == 1
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["file"] for entry in result["unreadable"]] == ["a.jp2", "b.HEIC", "c.dng"]
    assert ".heic files are not read; convert it to TIFF, PNG or JPEG" in capsys.readouterr().err
    assert [image["file"] for image in result["images"]] == ["0_1.png", "1_1.png"]


def test_a_picture_that_is_too_large_is_never_answered_with_nothing(
    predict, run, tiny_data, tmp_path, capsys
):
    # Trained on 128×96 with a short side of 96: scale 1. A short side of 385 is seen at
    # 96 / 385 < 1/4, one of 384 at 1/4.
    picture = Image.open(tiny_data / "val" / "0_1.png")
    picture.resize((400, 385)).save(tmp_path / "mosaic.png")
    picture.resize((400, 384)).save(tmp_path / "photo.png")
    assert predict(tmp_path / "mosaic.png", tmp_path / "photo.png") == 1
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["file"] for entry in result["shrunk"]] == ["mosaic.png"]
    assert result["shrunk"][0]["scale"] == pytest.approx(96 / 385)
    assert "too large: mosaic.png: the network sees its objects at 25%" in capsys.readouterr().err


def test_a_picture_with_parts_missing_is_said_to_be_damaged(predict, tiny_data, tmp_path, capsys):
    pytest.importorskip("av")
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.open(tiny_data / "val" / "0_1.png").save(folder / "a.jpg")
    content = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(content[: len(content) * 9 // 10] + b"\xff\xd9")
    assert predict(folder) == 1
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert result["damaged"] == ["a.jpg"]
    assert "damaged: a.jpg" in capsys.readouterr().err


def test_options_of_the_model(predict, run, tiny_data, tmp_path, config_file):
    picture = tiny_data / "val" / "0_1.png"
    # The file that training began from has no weights of its own.
    assert predict(picture, config=config_file) == 2
    assert predict(picture, "--weights", run / "model_final.pth", config=config_file) == 0
    arguments = ["--opts", "TEST.DETECTIONS_PER_IMAGE", "1"]
    command = [
        "predict",
        str(picture),
        "--config-file",
        str(run / "config.yaml"),
        "--device",
        "cpu",
    ]
    assert main([*command, "--min-score", "0", "--out", str(tmp_path / "one"), *arguments]) == 0
    result = json.loads((tmp_path / "one" / "predictions.json").read_text())
    assert len(result["images"][0]["instances"]) == 1


def test_pictures_that_it_did_not_draw_are_not_drawn_over(predict, tiny_data, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "0_1.jpg").write_text("precious")
    for _ in range(2):  # the second run draws over the first one's
        assert predict(tiny_data / "val" / "0_1.png") == 0
        assert (out / "0_1.jpg").read_text() == "precious"
        names = ["0_1.jpg", "0_1_2.jpg", "predictions.json"]
        assert sorted(p.name for p in out.iterdir()) == names
    (out / "predictions.json").write_text("[]")
    assert predict(tiny_data / "val" / "0_1.png") == 2
    assert "was not written by msnet predict" in capsys.readouterr().err
    assert (out / "predictions.json").read_text() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_work_after_the_picture_in_hand(
    predict, tiny_data, tmp_path, number, monkeypatch, capsys
):
    from msnet_d2.inference import images

    def interrupted(path, limits, depth):
        os.kill(os.getpid(), number)
        return read(path, limits, depth)

    read = images.read_image
    monkeypatch.setattr(images, "read_image", interrupted)
    assert predict(tiny_data / "val") == 130
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert result["status"] == "interrupted"
    assert [image["file"] for image in result["images"]] == ["0_1.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "there is no picture or folder nowhere.jpg"),
        (["EMPTY"], "holds no picture"),
        (["PICTURE", "--min-score", "2"], "--min-score is a probability"),
        (["PICTURE", "--device", "abacus"], "none of torch's devices"),
        (["PICTURE", "--weights", "nowhere.pth"], "nowhere.pth"),
        (["PICTURE"], "MODEL.WEIGHTS is empty"),
        (["PICTURE", "--opts", "TEST.DETECTION", "1"], "unknown config key TEST.DETECTION"),
    ],
)
def test_what_users_get_wrong_is_said_in_one_line(
    config_file, tiny_data, tmp_path, arguments, message, capsys
):
    (tmp_path / "empty").mkdir()
    stands_for = {
        "EMPTY": str(tmp_path / "empty"),
        "PICTURE": str(tiny_data / "val" / "0_1.png"),
    }
    pictures, options = arguments[:1], arguments[1:]
    command = ["predict", *(stands_for.get(a, a) for a in pictures)]
    command += ["--config-file", str(config_file), "--out", str(tmp_path / "out"), *options]
    assert main(command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("msnet predict: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["MODEL.WEIGHTS", "x.pth"], True),
        (["--colour", "red"], False),
    ],
)
def test_overrides_in_the_wrong_place_are_told_the_right_one(words, hint, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predict", "a.jpg", "--config-file", "c.yaml", "--out", "o", *words])
    assert caught.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"unrecognized arguments: {' '.join(words)}" in line
    assert ("come last, behind --opts: --opts MODEL.WEIGHTS x.pth" in line) == hint
