"""The data set on disk and the command that writes it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_flights.config import GENERATOR_VERSION, SceneConfig
from synthetic_flights.telemetry import to_latlon
from synthetic_flights.writer import DatasetPlan, default_val_videos, write_dataset

from msnet_d2.cli import main
from msnet_d2.errors import InputError

SCENE = SceneConfig(width=192, height=108, fps=4.0, seconds=1.0, seed=2, supersample=1.0)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    counts = []
    summary = write_dataset(DatasetPlan(out, SCENE, 2, every=2), counts.append)
    assert sum(counts) == 8
    assert [summary[s]["images"] for s in ("train", "val")] == [2, 2]
    return out


def test_layout_is_isbdas(written):
    names = set(_digests(written))
    assert names == {
        ".msnet-files.json", ".msnet-synth.json",
        "ground_truth.json", "annotations/instances_train.json",
        "annotations/instances_val.json",
        "train/1_0.jpg", "train/1_2.jpg", "val/2_0.jpg", "val/2_2.jpg",
        "videos/1.mp4", "videos/1.srt", "videos/2.mp4", "videos/2.srt",
    }  # fmt: skip
    for side in ("train", "val"):
        document = json.loads((written / f"annotations/instances_{side}.json").read_text())
        assert [(c["id"], c["name"]) for c in document["categories"]] == [
            (1, "1"),
            (2, "2"),
            (3, "3"),
        ]
        for image in document["images"]:
            picture = cv2.imread(str(written / side / image["file_name"]))
            assert picture.shape == (108, 192, 3)
            assert (image["width"], image["height"], image["fps"]) == (192, 108, 4.0)
            assert image["file_name"] == f"{image['video_id']}_{image['frame_index']}.jpg"
        for annotation in document["annotations"]:
            assert "bbox" not in annotation
            assert (
                annotation["parent_id"] == annotation["building_id"] == annotation["part_id"] // 10
            )
            assert all(len(p) >= 6 and len(p) % 2 == 0 for p in annotation["segmentation"])


def test_pycocotools_reads_it_once_there_is_a_bbox(written, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    document = json.loads((written / "annotations/instances_train.json").read_text())
    for annotation in document["annotations"]:
        annotation["bbox"] = annotation["damage_bbox"]
    (tmp_path / "with_bbox.json").write_text(json.dumps(document))
    loaded = coco.COCO(str(tmp_path / "with_bbox.json"))
    assert len(loaded.getImgIds()) == 2
    assert len(loaded.getAnnIds()) == len(document["annotations"]) > 0
    for annotation in loaded.loadAnns(loaded.getAnnIds()):
        area = loaded.annToMask(annotation).sum()
        assert area == pytest.approx(annotation["area"], rel=0.2, abs=12)


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(written, tmp_path):
    write_dataset(DatasetPlan(tmp_path / "again", SCENE, 2, every=2, workers=2))
    assert _digests(tmp_path / "again") == _digests(written)


def test_pictures_without_videos_are_the_same(written, tmp_path):
    write_dataset(DatasetPlan(tmp_path / "stills", SCENE, 2, every=2, write_videos=False))
    full = _digests(written)
    stills = _digests(tmp_path / "stills")
    for name in (".msnet-synth.json", ".msnet-files.json"):  # which tell that there are no videos
        del stills[name], full[name]
    assert stills == {k: v for k, v in full.items() if not k.startswith("videos/")}


def test_video_has_all_frames_and_telemetry_agrees_with_the_truth(written):
    truth = json.loads((written / "ground_truth.json").read_text())
    assert (truth["generator_version"], truth["seed"]) == (GENERATOR_VERSION, 2)
    assert [v["split"] for v in truth["videos"]] == ["train", "val"]
    for video in truth["videos"]:
        capture = cv2.VideoCapture(str(written / f"videos/{video['video_id']}.mp4"))
        assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 4 == len(video["poses"])
        capture.release()
        text = (written / f"videos/{video['video_id']}.srt").read_text()
        found = re.findall(
            r"\[latitude: (\S+)\] \[longitude: (\S+)\] \[rel_alt: (\S+) .*?"
            r"gb_yaw: (\S+) gb_pitch: (\S+)",
            text,
        )
        assert len(found) == 4
        origin = (video["origin"]["latitude"], video["origin"]["longitude"])
        for pose, values in zip(video["poses"], found):
            latitude, longitude, altitude, yaw, pitch = map(float, values)
            assert (latitude, longitude) == pytest.approx(
                (pose["latitude"], pose["longitude"]), abs=1e-7
            )
            assert altitude == pytest.approx(pose["position"][2], abs=1e-3)
            assert (yaw, pitch) == pytest.approx((pose["yaw"], pose["pitch"]), abs=0.006)
            here = to_latlon(np.array(pose["position"][:2]), origin)
            assert tuple(here) == pytest.approx((latitude, longitude), abs=1e-7)


def test_labels_name_parts_of_the_truth(written):
    truth = json.loads((written / "ground_truth.json").read_text())
    for video, side in zip(truth["videos"], ("train", "val")):
        parts = {p["part_id"]: (b, p) for b in video["buildings"] for p in b["parts"]}
        assert {b["level"] for b in video["buildings"]} >= {0}
        document = json.loads((written / f"annotations/instances_{side}.json").read_text())
        for annotation in document["annotations"]:
            building, part = parts[annotation["part_id"]]
            assert building["building_id"] == annotation["building_id"]
            assert part["category_id"] == annotation["category_id"]
            assert part["outlines_local"]


def test_all_levels_come_up_in_about_isbdas_shares():
    # Plans only, nothing is rendered: what is decided for the buildings of five scenes.
    from synthetic_flights.scene import Flight

    levels, buildings = [], []
    for video in range(1, 6):
        flight = Flight(SceneConfig(width=64, height=36, seconds=12.0, seed=0, video=video))
        levels += [p.level for _, p in flight.parts.values()]
        buildings += [b.level for b in flight.buildings]
    shares = np.bincount(levels, minlength=4) / len(levels)
    assert 0.6 < shares[1] < 0.88
    assert 0.1 < shares[2] < 0.3
    assert 0.01 < shares[3] < 0.15
    assert 0.45 < np.mean(np.array(buildings) == 0) < 0.75


@pytest.mark.parametrize(("videos", "val"), [(1, 0), (2, 1), (5, 1), (10, 2), (12, 2), (13, 3)])
def test_default_share_of_validation_videos(videos, val):
    assert default_val_videos(videos) == val


def test_foreign_folders_are_left_alone(tmp_path, capsys):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not written by `msnet synth`"):
        write_dataset(DatasetPlan(tmp_path, SCENE, 1))
    assert (tmp_path / "train" / "mine.txt").read_text() == "precious"


def test_our_own_folder_is_replaced_whole(tmp_path):
    scene = SceneConfig(64, 36, 2.0, 0.5, supersample=1.0)
    plan = DatasetPlan(tmp_path / "d", scene, 1, every=1, write_videos=False)
    write_dataset(plan)
    before = _digests(plan.out)
    (plan.out / "train" / "1_0.jpg").unlink()
    write_dataset(plan)
    assert _digests(plan.out) == before


@pytest.mark.parametrize("place", ["train/stray.jpg", "annotations/mine.json"])
def test_what_others_put_into_our_folder_is_neither_removed_nor_mixed_up(tmp_path, place):
    scene = SceneConfig(64, 36, 2.0, 0.5, supersample=1.0)
    plan = DatasetPlan(tmp_path / "d", scene, 1, every=1, write_videos=False)
    write_dataset(plan)
    before = _digests(plan.out)
    (plan.out / place).write_bytes(b"precious")
    with pytest.raises(InputError, match=f"holds other files .{place}"):
        write_dataset(plan)
    assert (plan.out / place).read_bytes() == b"precious"
    write_dataset(replace(plan, overwrite=True))
    assert _digests(plan.out) == before
    assert (tmp_path / "d.before" / place).read_bytes() == b"precious"


class Rendered(Exception):
    """Stands for the work that begins once a folder is found free."""


@pytest.mark.parametrize("change", ["seed", "videos", "an older marker", "a broken marker"])
def test_a_whole_data_set_of_other_settings_is_not_replaced(written, tmp_path, change, monkeypatch):
    def render(*_):
        raise Rendered

    monkeypatch.setattr("synthetic_flights.writer._write_flight", render)
    out = tmp_path / "d"
    shutil.copytree(written, out)
    plan = DatasetPlan(out, SCENE, 2, every=2)
    other = plan
    if change == "seed":
        other = replace(plan, scene=replace(SCENE, seed=SCENE.seed + 1))
    elif change == "videos":
        other = replace(plan, videos=3)
    else:
        (out / ".msnet-synth.json").write_text("{}" if "older" in change else "{")
    before = _digests(out)
    with pytest.raises(InputError, match=r"made with other settings.*--overwrite"):
        write_dataset(other)
    assert _digests(out) == before
    # One that was interrupted has nothing to lose.
    (out / "ground_truth.json").unlink()
    with pytest.raises(Rendered):
        write_dataset(other)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_replaced_without_a_word(written, tmp_path, overwrite, monkeypatch):
    def render(*_):
        raise Rendered

    monkeypatch.setattr("synthetic_flights.writer._write_flight", render)
    shutil.copytree(written, tmp_path / "d")
    scene = replace(SCENE, seed=SCENE.seed + 1) if overwrite else SCENE
    plan = DatasetPlan(tmp_path / "d", scene, 2, every=2, overwrite=overwrite)
    with pytest.raises(Rendered):
        write_dataset(plan)


def test_overwrite_spares_what_is_not_of_the_layout(tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    scene = SceneConfig(64, 36, 2.0, 0.5, supersample=1.0)
    write_dataset(DatasetPlan(tmp_path, scene, 1, write_videos=False, overwrite=True))
    assert (tmp_path / "notes.txt").read_text() == "keep"
    assert json.loads((tmp_path / "annotations/instances_val.json").read_text())["images"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8x8"], "a frame of 8x8 cannot be rendered"),
        (["--videos", "0"], "0 videos: expected at least 1"),
        (["--videos", "2", "--val-videos", "3"], "3 validation videos of 2"),
        (["--seconds", "0"], "0.0 s"),
        (["--every", "0"], "--every 0"),
        (["--workers", "0"], "0 workers"),
        (["--seed", "-1"], "seed -1"),
    ],
)
def test_command_refuses_in_one_line(tmp_path, capsys, arguments, message):
    assert main(["synth", "--out", str(tmp_path / "d"), *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "d").exists()


def test_command_refuses_a_file_as_folder(tmp_path, capsys):
    (tmp_path / "f").write_text("")
    assert main(["synth", "--out", str(tmp_path / "f"), "--videos", "1", "--seconds", "1"]) == 2
    assert "is a file" in capsys.readouterr().err


def test_command_refuses_a_size_that_is_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["synth", "--out", str(tmp_path / "d"), "--size", "wide"])
    assert "expected WIDTHxHEIGHT" in capsys.readouterr().err


def test_command_writes_and_reports(tmp_path, capsys):
    out = tmp_path / "d"
    arguments = [
        "--videos",
        "1",
        "--seconds",
        "1",
        "--fps",
        "2",
        "--size",
        "64x36",
        "--every",
        "1",
        "--no-video",
    ]
    assert main(["synth", "--out", str(out), *arguments]) == 0
    text = capsys.readouterr().out
    assert "train: 1 videos, 2 pictures" in text
    assert (out / "ground_truth.json").is_file()
    assert not (out / "videos").exists()


def test_a_failure_leaves_no_half_written_file(tmp_path, monkeypatch):
    from synthetic_flights import writer

    def fail(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(writer, "flight_truth", fail)
    with pytest.raises(RuntimeError, match="broken"):
        write_dataset(DatasetPlan(tmp_path / "d", SCENE, 1, every=2))
    assert list(tmp_path.iterdir()) == []
