"""The documentation says what is so: its picture, its links, the examples of the README."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import torch
from helpers.flights import log_text

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "projects/*/README.md")
    for path in ROOT.glob(pattern)
)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def test_the_picture_of_the_folders_is_drawn_from_the_table_of_layers():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_folders.py"))
    assert drawing["PICTURE"].read_text() == drawing["draw"](), "run docs/draw_folders.py"
    assert set(drawing["NOTES"]) == {n for layer in drawing["layers"]() for n in layer} - {
        "version"
    }


def test_links_of_markdown_files_lead_to_files():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text()))
        if ":" not in target and not (page.parent / target).exists()
    ]
    assert len(PAGES) > 20
    assert broken == []


def python_block(page: str, containing: str) -> str:
    """The one block of Python of a page that contains a text."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    (block,) = [block for block in blocks if containing in block]
    return block


def test_the_readme_predicts_on_a_picture_as_it_says(
    tiny_cfg, save_model, tmp_path, monkeypatch, capsys
):
    config, weights = save_model(tiny_cfg)
    run = tmp_path / "output" / "run"
    run.mkdir(parents=True)
    config.rename(run / "config.yaml")
    weights.rename(run / "model_final.pth")
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((96, 128, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    exec(python_block("README.md", "Predictor"), {})
    assert re.match(r"tensor\(.*Boxes\(tensor\(", capsys.readouterr().out, re.DOTALL)


def test_the_readme_puts_hrpn_into_a_config_as_it_says():
    names = {}
    exec(python_block("README.md", "METRIC"), names)
    assert names["cfg"].MODEL.PROPOSAL_GENERATOR.NAME == "HierarchicalRPN"
    assert (names["cfg"].MODEL.HRPN.METRIC, names["cfg"].MODEL.HRPN.THRESHOLD) == ("iou", 0.4)


def test_the_guide_to_a_detector_of_ones_own_builds_one():
    names = {}
    exec(python_block("docs/guides/own_detector.md", "build_model"), names)
    model = names["model"]
    assert type(model).__name__ == "GeneralizedRCNN"
    assert type(model.proposal_generator).__name__ == "HierarchicalRPN"


def test_the_guide_to_steady_scores_refines_those_of_a_stock_detector(tmp_path, monkeypatch):
    from detectron2.modeling import build_model

    from msnet_d2 import load_config

    stock = build_model(load_config("mask_rcnn_D_R50_FPN.yaml", device="cpu"))
    torch.save({"model": stock.state_dict()}, tmp_path / "detector.pth")
    monkeypatch.chdir(tmp_path)
    frames = [torch.full((3, 64, 64), value, dtype=torch.uint8) for value in (80, 90, 100)]
    names = {"frames": frames}
    exec(python_block("docs/guides/refine_scores.md", "ScoreRefiner"), names)
    assert len(names["finished"]) == 3
    assert all(o["instances"].has("track_id") for o in names["finished"])


def test_the_guide_to_flight_logs_reads_one_as_it_says(tmp_path, monkeypatch):
    # 62 s at 4 frames a second.
    text = log_text(248, heading=90.0, start=(0.0, 0.0), speed=5.0)
    (tmp_path / "DJI_0001.SRT").write_text(text)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python_block("docs/guides/flight_logs.md", "Telemetry.read"), names)
    assert len(names["telemetry"].track) == 248


def test_every_project_and_every_measured_table_has_a_page():
    written = {*ROOT.glob("projects/*/README.md"), *ROOT.glob("benchmarks/*.md")}
    included = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"^```\{include\} (\S+)", page.read_text(), re.MULTILINE)
    }
    assert len(written) > 5
    missing = written - included - {ROOT / "benchmarks" / "README.md"}
    assert missing == set(), "write pages in docs/projects or docs/measured that include them"


def test_every_config_is_in_the_table_of_configurations():
    page = (ROOT / "docs" / "configurations.md").read_text()
    configs = {path.name for path in ROOT.glob("configs/*.yaml")}
    bases = {"Base-MSNet.yaml", "Base-RCNN-FPN.yaml"}
    assert {name for name in configs - bases if name not in page} == set()
    named = re.findall(r"`configs/(\w[\w/.-]*\.yaml)`", page)
    assert [name for name in named if not (ROOT / "configs" / name).is_file()] == []
