"""The commands end to end, on scenes so small that nothing can be learned: they run and write."""

from __future__ import annotations

import json

import pytest

from msnet_d2.cli import main

# One step of one small picture; a pair a second apart from its negatives is all the video there is.
TINY = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0"]
TINY += ["INPUT.MIN_SIZE_TRAIN", "(64,64)", "INPUT.MIN_SIZE_TEST", "64"]
TINY += ["MODEL.TIMM.WEIGHTS", "", "MODEL.FPN.OUT_CHANNELS", "32"]
TINY_SRN = ["SOLVER.MAX_ITER", "1", "MODEL.SRN.NUM_PAIRS", "2", "MODEL.SRN.FC_DIMS", "[8]"]


@pytest.fixture
def films(scenes_at, tmp_path):
    """Frames near one another and more than ten seconds apart, of which triplets can be drawn."""
    return scenes_at(tmp_path / "films", frames=(0, 5, 400, 405))


def common(data, out):
    words = ["--dataset", str(data), "--splits", "0", "--ratio", "0.6", "--out", str(out)]
    return [*words, "--bootstrap", "5", "--refine-opts", *TINY_SRN, "--opts", *TINY]


def is_png(path):
    return path.read_bytes()[:4] == b"\x89PNG"


def test_accuracy_and_then_ablation(films, tmp_path, capsys, monkeypatch):
    out = tmp_path / "bench"
    methods = ["polarmask", "mask_rcnn_BD", "msnet", "msnet+srn"]
    command = ["bench", "accuracy", "--methods", *methods, *common(films, out)]
    assert main(command) == 0
    results = json.loads((out / "results.json").read_text())
    assert [trial["method"] for trial in results["trials"]] == methods
    for trial in results["trials"]:
        assert {"isbda_segm", "isbda_bbox"} <= trial["metrics"].keys()
        assert trial["seconds"]["train"] > 0
    assert [trial["iterations"] for trial in results["trials"]] == [1] * 4
    shown = capsys.readouterr().out
    assert "| MSNet (HRPN, II)+SRN |" in shown
    assert shown.count("for every detector") == 1
    assert is_png(out / "accuracy.png")

    # Taken up again: nothing is left to do.
    times = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/trial.json")}
    assert len(times) == 4
    assert main(command) == 0

    # The ablation takes what is there, and trains what is not; each S more is a trial more.
    for module in ("ablation", "ablation_report", "diagnostics"):
        monkeypatch.setattr(f"msnet_benchmark.{module}.THRESHOLDS", (0.1, 0.4))
    command = ["bench", "ablation", "--diagnose-images", "2", *common(films, out)]
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    results = json.loads((out / "ablation.json").read_text())
    assert results["problems"] == results["failed"] == []
    assert [trial["method"] for trial in results["trials"]] == [
        "mask_rcnn_BD",
        "mask_rcnn_BD+srn",
        "msnet",
        "msnet+srn",
        "msnet_iou",
        "msnet@0.4",
        "msnet_iou@0.1",
    ]
    of_msnet = results["diagnostics"]["msnet"]["split_0"]
    for metric in ("ioa", "iou"):
        low, high = of_msnet["kept"][metric]["all (paper)"].values()
        assert low >= high  # a higher threshold never keeps more
        assert set(results["sweep"][metric]) == {"0.1", "0.4"}
    text = (out / "ablation.md").read_text()
    for title in ("table 3", "table 4", "figure 6", "Recall of buildings", "Calibration"):
        assert title in text
    for name in ("threshold", "sizes", "diagnostics"):
        assert is_png(out / f"{name}.png")


def test_speed(tmp_path):
    out = tmp_path / "speed"
    command = ["bench", "speed", "--config-file", "quick/msnet_srn_lite0_FPN.yaml"]
    command += ["--against", "quick/polarmask_lite0_FPN.yaml", "--size", "96x64", "--rounds", "2"]
    command += ["--warmup", "0", "--device", "cpu", "--detections", "3", "--out", str(out)]
    command += ["--accelerate", "a", "--precision", "float32", "--clock", "cpu"]
    command += ["--opts", "INPUT.MIN_SIZE_TEST", "64", "MODEL.TIMM.WEIGHTS", ""]
    assert main(command) == 0
    results = json.loads((out / "speed.json").read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert {"images", "frame", "backbone + FPN", "refinement", "training step of 1"} <= rows.keys()
    assert rows["parent RPN"]["a"]["median"] > 0
    assert rows["parent RPN"]["b"]["median"] == 0
    assert rows["parent RPN"]["ratio"] is None
    assert results["a"]["detections"] == 3
    text = (out / "speed.md").read_text()
    assert "A / B" in text
    assert "- device: cpu; processor time\n- A: folded norms, channels last, precision f" in text
    assert is_png(out / "speed.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["accuracy", "--methods", "mask_rcn"], "did you mean mask_rcnn_D"),
        (["accuracy", "--opts", "SOLVER.MAX_ITER"], "--opts are pairs KEY VALUE"),
        (["accuracy", "--opts", "SOLVER.MAXITER", "3"], "did you mean SOLVER.MAX_ITER"),
        (["accuracy", "--bootstrap", "0"], "--bootstrap is 0"),
        (["accuracy", "--methods", "msnet+srn"], "leave out the methods that end in +srn"),
        (["ablation", "--parts", "moduls"], "expected some of modules"),
        (["ablation", "--diagnose-images", "0"], "--diagnose-images is 0"),
    ],
)
def test_bad_input_is_one_line_before_any_training(scenes, tmp_path, capsys, words, message):
    out = tmp_path / "bench"
    line = ["bench", words[0], "--dataset", str(scenes), "--ratio", "0.6", "--out", str(out)]
    assert main([*line, *words[1:]])
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("msnet bench: error: ")
    assert not list(out.glob("trials/*/*"))


def test_buildings_are_asked_for(scenes_at, tmp_path, capsys):
    bare = scenes_at(tmp_path / "bare", houses=False)
    assert main(["bench", "accuracy", "--methods", "msnet", *common(bare, tmp_path / "out")])
    assert "train on the boxes of buildings" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("trials/*/*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "9x9"], "expected WIDTHxHEIGHT"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--opts-a", "X"], "overrides of A are pairs"),
        (["--image", "nowhere.png"], "cannot be read as a picture"),
        (["--against", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_speed_of_what_is_not_there(words, message, capsys):
    a, b = "quick/msnet_lite0_FPN.yaml", "quick/mask_rcnn_D_lite0_FPN.yaml"
    assert main(["bench", "speed", "--config-file", a, "--against", b, *words])
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
