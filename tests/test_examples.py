"""The notebooks run from their first cell to their last, and are kept without outputs."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.ipynb"))


def printed(notebook) -> str:
    return "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    )


def run(name: str, tmp_path, monkeypatch):
    """The notebook after all of its cells; its own files go to ``tmp_path``."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = next(p for p in NOTEBOOKS if p.stem == name)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return notebook


def test_notebooks_are_kept_without_outputs():
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert (cell.outputs, cell.execution_count) == ([], None), path.name


def test_predict_and_draw_shows_truth_and_predictions(tmp_path, monkeypatch):
    notebook = run("predict_and_draw", tmp_path, monkeypatch)
    pictures = [
        o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 2
    assert "'pred_parent_boxes'" in printed(notebook)


def test_hrpn_in_mask_rcnn_keeps_some_anchors_and_has_the_losses_of_both_rpns(
    tmp_path, monkeypatch
):
    text = printed(run("hrpn_in_mask_rcnn", tmp_path, monkeypatch))
    assert "GeneralizedRCNN with HierarchicalRPN" in text
    kept, total = map(int, re.search(r"(\d+) of (\d+) anchors", text).groups())
    assert 0 < kept < total
    # Detectron2's five of a Mask R-CNN, and two of the parent RPN, in each of three steps.
    for loss in ("loss_rpn_cls", "loss_rpn_loc", "loss_rpn_parent_cls", "loss_rpn_parent_loc",
                 "loss_cls", "loss_box_reg", "loss_mask"):  # fmt: skip
        assert text.count(f"'{loss}':") == 3
