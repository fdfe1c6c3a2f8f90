"""The demo on tiny flights and a tiny model: each step, what it leaves, what it does not repeat."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from synthetic_flights.demo import Demo, DemoSettings, _spread

from msnet_d2.errors import InputError

HEADS = "proposal_generator.parent_roi_heads."


@pytest.fixture
def settings(tiny_cfg, tmp_path):
    tiny_cfg.merge_from_list(["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2])
    tiny_cfg.MODEL.HRPN.PARENT_ROI_HEADS = "StandardROIHeads"
    tiny_cfg.merge_from_list(["SOLVER.BASE_LR", 0.001, "TEST.DETECTIONS_PER_IMAGE", 5])
    detector = tmp_path / "tiny.yaml"
    detector.write_text(tiny_cfg.dump())
    tiny_cfg.MODEL.HRPN.PARENT_ROI_HEADS = ""
    tiny_cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "RefinedDetector"])
    tiny_cfg.merge_from_list(["MODEL.SRN.DETECTOR", "MSNet", "MODEL.SRN.FC_DIMS", [8, 8]])
    tiny_cfg.merge_from_list(["MODEL.SRN.NUM_PAIRS", 2, "SOLVER.IMS_PER_BATCH", 1])
    tiny_cfg.merge_from_list(["SOLVER.OPTIMIZER", "ADAM"])
    srn = tmp_path / "tiny_srn.yaml"
    srn.write_text(tiny_cfg.dump())
    return DemoSettings(
        videos=2,
        val_videos=1,
        seconds=1.0,
        fps=2.0,
        every=1,
        clips=2,
        clip_seconds=11.0,
        size=(160, 96),
        config=str(detector),
        srn_config=str(srn),
        pictures=2,
    )


def test_demo_leaves_figures_pictures_and_clip_and_repeats_nothing(settings, tmp_path, capsys):
    out = tmp_path / "demo"
    Demo(out, settings, workers=1).run()

    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["figures"]) >= {"bbox", "segm", "isbda_bbox", "isbda_segm", "isbda_parent"}
    assert "isbda_segm" in metrics["figures_refined"]
    for name in (
        "pictures.jpg",
        "clip.mp4",
        "clip.json",
        "strip.jpg",
        "map/index.html",
        "README.md",
    ):
        assert (out / name).stat().st_size > 0, name
    assert len(list((out / "pictures").iterdir())) == 2
    assert "damage masks" in capsys.readouterr().out

    # Score refinement keeps the detector as it is, with the second stage of its buildings.
    (heads,) = {
        tuple(sorted(k for k in torch.load(out / name / "model_final.pth")["model"] if HEADS in k))
        for name in ("model", "model_srn")
    }
    assert heads

    weights = (out / "model" / "model_final.pth").stat().st_mtime_ns
    Demo(out, settings, workers=1).run()
    assert (out / "model" / "model_final.pth").stat().st_mtime_ns == weights
    assert capsys.readouterr().out.count("done before") == 8  # one line a step


def test_the_seed_is_also_that_of_the_trainings(settings, tmp_path):
    def seeds(demo):
        configs = (demo._config(settings.config, demo.model), demo._refined_config())
        return [cfg.SEED for cfg in configs]

    assert seeds(Demo(tmp_path, settings)) == [7, 7]
    assert seeds(Demo(tmp_path, replace(settings, seed=3))) == [3, 3]
    assert seeds(Demo(tmp_path, replace(settings, opts=("SEED", "5")))) == [5, 5]


def test_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        Demo(tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [5]), (2, [2, 7]), (20, list(range(10)))],  # never more than there are
)
def test_spread_takes_items_at_equal_distances(count, expected):
    assert _spread(list(range(10)), count) == expected
