"""``msnet video`` in this process, with a model of random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msnet_d2.cli import main
from msnet_d2.video.reader import VideoReader

pytest.importorskip("av")


@pytest.fixture
def model(tiny_cfg, save_model):
    """(config file, weights) of a tiny MSNet with an SRN, which finds many things anywhere."""
    cfg = tiny_cfg
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.MODEL.META_ARCHITECTURE = "RefinedDetector"
    cfg.MODEL.SRN.DETECTOR = "MSNet"
    cfg.MODEL.SRN.FC_DIMS = [16]
    return save_model(cfg)


@pytest.fixture
def video(model, tmp_path):
    """Run ``msnet video`` with the model; returns (exit code, results or None)."""

    def run(source, *arguments):
        config, weights = model
        results = tmp_path / "out.json"
        command = ["video", source, "--config-file", config, "--weights", weights]
        command += ["--out", tmp_path / "out.mp4", "--results", results, "--no-progress"]
        code = main([str(part) for part in (*command, *arguments)])
        return code, json.loads(results.read_text()) if results.exists() else None

    return run


def test_a_video_is_refined_and_written(video, video_tools, tmp_path, capsys):
    source = video_tools.write(tmp_path / "flight.mp4", 6)
    code, results = video(source, "--min-score", "0")
    assert code == 0
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert len(list(reader)) == 6
    assert [f["index"] for f in results["frames"]] == list(range(6))
    assert len(results["model"]["weights_sha256"]) == 64
    assert results["model"]["refined_by"] == "previous"
    assert results["model"]["meta_architecture"] == "MSNet"
    found = [i for f in results["frames"] for i in f["instances"]]
    assert len(found) == 30
    assert {"bbox", "score", "score_raw", "segmentation", "category_id"} <= found[0].keys()
    # The first frame has no previous one.
    assert all(i["score"] == i["score_raw"] for i in results["frames"][0]["instances"])
    out = capsys.readouterr().out
    assert "flight.mp4: 6 frames" in out


@pytest.mark.parametrize("neighbors", ["next", "both", "off"])
def test_neighbors(video, video_tools, tmp_path, neighbors):
    source = video_tools.write(tmp_path / "flight.mp4", 5)
    code, results = video(source, "--neighbor", neighbors, "--batch-size", "2")
    assert code == 0
    assert [f["index"] for f in results["frames"]] == list(range(5))
    raw = ["score_raw" in i for f in results["frames"] for i in f["instances"]]
    assert all(raw) if neighbors != "off" else not any(raw)
    assert results["model"]["refined_by"] == (None if neighbors == "off" else neighbors)


def test_batches_change_nothing(video, video_tools, tmp_path):
    source = video_tools.write(tmp_path / "flight.mp4", 5)
    _, single = video(source)
    _, batched = video(source, "--batch-size", "3")
    for one, three in zip(single["frames"], batched["frames"], strict=True):
        for a, b in zip(one["instances"], three["instances"], strict=True):
            assert np.allclose(a["bbox"], b["bbox"], atol=0.1)
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_a_damaged_video_exits_with_1_and_says_what_is_missing(
    video, video_tools, tmp_path, capsys
):
    source = video_tools.write(tmp_path / "flight.mp4", 30, size=(160, 128))
    video_tools.corrupt(source, 14)
    code, results = video(source, "--neighbour", "off")
    assert code == 1
    lost = results["summary"]["frames_lost"]
    assert lost > 0
    assert f"Incomplete: {lost} of 30 frames were lost" in capsys.readouterr().err
    assert results["summary"]["status"] == "incomplete"


def test_no_frame_exits_with_2_and_leaves_no_file(video, video_tools, tmp_path, capsys):
    source = video_tools.write(tmp_path / "v.mkv", 10)
    source.write_bytes(source.read_bytes()[: video_tools.packets(source)[0][0]])
    code, results = video(source)
    assert code == 2
    assert results is None
    assert not (tmp_path / "out.mp4").exists()
    assert capsys.readouterr().err.count("\n") >= 1


def test_overrides_come_last(video, video_tools, tmp_path):
    source = video_tools.write(tmp_path / "flight.mp4", 2)
    code, results = video(source, "--opts", "TEST.DETECTIONS_PER_IMAGE", "1")
    assert code == 0
    assert [len(f["instances"]) for f in results["frames"]] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4", "--out", "o.mp4"], "none.mp4 does not exist"),
        (["none.mp4"], "nothing to write"),
        (["none.mp4", "--out", "o.mp4", "--min-score", "50"], "from 0 to 1"),
        (["none.mp4", "--out", "o.mp4", "--stride", "0"], "--stride must be at least 1"),
        (["none.mp4", "--out", "o.mp4", "--batch-size", "0"], "--batch-size must be at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(["video", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_neighbors_need_a_refined_detector(video, video_tools, tmp_path, capsys):
    source = video_tools.write(tmp_path / "flight.mp4", 2)
    code, _ = video(source, "--neighbor", "both", "--opts", "MODEL.META_ARCHITECTURE", "MSNet")
    assert code == 2
    assert "needs a RefinedDetector" in capsys.readouterr().err


def test_files_of_the_user_are_not_replaced_and_those_of_an_earlier_run_are(
    video, video_tools, tmp_path, capsys
):
    source = video_tools.write(tmp_path / "flight.mp4", 2)
    # A film and a table of the user's own, under the names that the run would write.
    film = video_tools.write(tmp_path / "out.mp4", 3).read_bytes()
    assert video(source)[0] == 2
    assert (
        "out.mp4 exists, and is not known to be written by msnet video" in capsys.readouterr().err
    )
    assert (tmp_path / "out.mp4").read_bytes() == film
    (tmp_path / "out.mp4").unlink()
    (tmp_path / "out.json").write_text('{"mine": 1}')
    assert video(source)[0] == 2
    assert "out.json exists" in capsys.readouterr().err
    assert (tmp_path / "out.json").read_text() == '{"mine": 1}'
    assert not (tmp_path / "out.mp4").exists()

    assert video(source, "--overwrite")[0] == 0
    assert video(source)[0] == 0  # both are its own now


def test_the_input_is_never_replaced(video, video_tools, tmp_path, capsys):
    source = video_tools.write(tmp_path / "flight.mp4", 2)
    (tmp_path / "link.mp4").symlink_to(source)
    for name in (source, tmp_path / "link.mp4"):
        assert video(source, "--out", name, "--overwrite")[0] == 2
        assert "is the input, and would be replaced" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".avi"])
def test_annotated_videos_are_known_again(tmp_path, suffix):
    from msnet_d2.video.writer import VideoWriter, was_written_here

    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, width=64, height=48, fps=10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    assert was_written_here(path)
    path.write_bytes(b"no video")
    assert not was_written_here(path)
