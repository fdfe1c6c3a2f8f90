"""Every command that takes a config takes PolarMask's, with nothing imported by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import polarmask
import pytest

from msnet_d2.cli import main

PROJECT = Path(polarmask.__file__).resolve().parents[1]
CONFIG = PROJECT / "configs" / "quick" / "polarmask_lite0_FPN.yaml"
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,64)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.TIMM.WEIGHTS", ""]
SMALL += ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0"]
SMALL += ["MODEL.POLARMASK.SCORE_THRESH_TEST", "0.0", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def run(tiny_data, tmp_path):
    """Folder of a training of one step, begun from the config's path."""
    pytest.importorskip("timm")
    data = ["DATASETS.TRAIN", f"{tiny_data}:train", "DATASETS.TEST", f"{tiny_data}:val"]
    out = tmp_path / "run"
    command = ["train", "--config-file", str(CONFIG), "OUTPUT_DIR", str(out), *SMALL, *data]
    assert main(command) == 0
    return out


def test_a_trained_model_goes_through_every_command(run, tiny_data, tmp_path, capsys):
    pytest.importorskip("av")
    config = ["--config-file", str(run / "config.yaml")]
    assert json.loads((run / "inference" / "metrics.json").read_text())["isbda_segm"]
    assert main(["eval", *config, "--dataset", f"{tiny_data}:val"]) == 0

    picture = str(tiny_data / "val" / "0_1.png")
    assert main(["predict", picture, *config, "--out", str(tmp_path / "found")]) == 0
    assert (tmp_path / "found" / "0_1.jpg").is_file()

    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((64, 96, 3), 90, np.uint8))
    results = tmp_path / "found.json"
    assert main(["video", str(frames), *config, "--results", str(results), "--no-progress"]) == 0
    assert len(json.loads(results.read_text())["frames"]) == 3

    pytest.importorskip("pyproj")
    line = ["map", str(frames), *config, "--out", str(tmp_path / "map"), "--no-progress"]
    assert main([*line, "--no-telemetry", "--min-score", "0.9"]) in (0, 1)
    assert (tmp_path / "map" / "index.html").is_file()


def test_its_own_script_ends_with_2_for_a_wrong_config(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("MODEL:\n  POLARMASK:\n    NUM_RAY: 3\n")
    script = [sys.executable, str(PROJECT / "train_net.py"), "--config-file", str(wrong)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "unknown config key MODEL.POLARMASK.NUM_RAY; did you mean" in line
