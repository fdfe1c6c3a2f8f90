"""The project of docs/guides/own_project.md: built from the page, installed, used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import msnet_d2
from msnet_d2.config import get_msnet_cfg
from msnet_d2.engine import train
from msnet_d2.projects import installed_projects

PAGE = Path(msnet_d2.__file__).resolve().parents[1] / "docs" / "guides" / "own_project.md"
FILES = dict(re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Folder into which the project of the page is installed."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    line = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "target")]
    done = subprocess.run([*line, str(folder / "source")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "target"


def test_the_smallest_project_has_less_than_60_lines():
    assert {"pyproject.toml", "findings/plugin.py", "findings/command.py"} <= set(FILES)
    assert sum(text.count("\n") for text in FILES.values()) < 60


def test_its_command_and_doctor_know_it_once_it_is_installed(target, tmp_path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{}, {}, {}]))

    def msnet(*words):
        return subprocess.run(
            [sys.executable, "-m", "msnet_d2.cli", *words],
            env={**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert msnet("count", str(results)).stdout == "3 findings\n"
    assert "count the entries of a results file" in msnet("--help").stdout
    done = msnet("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\[ ok \] project Findings +0.1.0: counts what a model finds", done.stdout)


def test_its_evaluator_and_key_work_in_a_training(target, train_cfg, monkeypatch):
    monkeypatch.syspath_prepend(target)
    installed_projects.cache_clear()
    try:
        cfg = get_msnet_cfg(None, ["TEST.COUNT_ABOVE", "0.0"])
        cfg.merge_from_other_cfg(train_cfg)
        cfg.TEST.EVALUATORS = ("CountFindings",)
        # Two images; the untrained heads keep as many detections of each as they may.
        cfg.TEST.DETECTIONS_PER_IMAGE = 4
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        assert train(cfg) == {"findings": {"count": 8}}
    finally:
        installed_projects.cache_clear()
        for name in [n for n in sys.modules if n.partition(".")[0] == "findings"]:
            del sys.modules[name]
        from msnet_d2.evaluation import EVALUATOR_REGISTRY

        EVALUATOR_REGISTRY._obj_map.pop("CountFindings", None)
