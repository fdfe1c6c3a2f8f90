"""``msnet train`` and ``msnet eval`` in this process."""

import argparse
import json

import pytest
import torch
from detectron2.engine import default_argument_parser

from msnet_d2.cli import build_parser, main
from msnet_d2.cli.options import add_launch_options


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_the_options_are_detectron2s():
    ours = argparse.ArgumentParser()
    add_launch_options(ours, training=True)

    def described(parser):
        return {
            (tuple(a.option_strings), a.dest, a.nargs, str(a.default), a.type)
            for a in parser._actions
            if a.dest != "help" and a.help is not argparse.SUPPRESS
        }

    assert described(ours) == described(default_argument_parser())


@pytest.mark.parametrize("words", [["A", "1"], ["--opts", "A", "1"], []])
def test_overrides_are_taken_in_detectron2s_form_and_in_ours(words):
    args = build_parser().parse_args(["train", "--config-file", "c.yaml", *words])
    assert args.opts == [word for word in words if word != "--opts"]


def test_evaluation_has_no_options_of_training(capsys):
    for option in ("--resume", "--eval-only"):
        with pytest.raises(SystemExit):
            main(["eval", "--config-file", "c.yaml", option])
        assert f"unrecognized arguments: {option}" in last_line(capsys)


def test_trains_then_evaluates_the_run_and_the_file(run, tiny_data, tmp_path, capsys):
    figures = json.loads((run / "inference" / "metrics.json").read_text())
    assert set(figures) >= {"segm", "isbda_segm", "isbda_parent"}
    # What is to be read again is in the log, not on the screen.
    assert "Running with full config" in (run / "log.txt").read_text()
    assert "Running with full config" not in capsys.readouterr().out

    # The config that training wrote means the weights that training made.
    evaluated = tmp_path / "evaluated"
    command = ["eval", "--config-file", str(run / "config.yaml"), "--dataset", f"{tiny_data}:val"]
    assert main([*command, "OUTPUT_DIR", str(evaluated)]) == 0
    assert json.loads((evaluated / "inference" / "metrics.json").read_text()) == figures

    # The predictions score the same without a model, buildings included.
    capsys.readouterr()
    file = evaluated / "inference" / "coco_instances_results.json"
    command = ["eval", "--predictions", str(file), "--dataset", f"{tiny_data}:val"]
    assert main([*command, "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert {task: pytest.approx(row, abs=1e-9) for task, row in again.items()} == figures
    table = capsys.readouterr().out
    assert "| task " in table
    assert "| isbda_parent " in table
    assert main([*command, "--tasks", "isbda_bbox"]) == 0
    assert "isbda_parent" not in capsys.readouterr().out


def test_resume_and_eval_only(run, config_file, capsys):
    command = ["train", "--config-file", str(config_file), "--resume"]
    assert main([*command, "SOLVER.MAX_ITER", "2"]) == 0
    assert (run / "last_checkpoint").read_text() == "model_final.pth"
    # The iterations are 0 and, resumed, 1.
    assert torch.load(run / "model_final.pth", weights_only=True)["iteration"] == 1
    assert main([*command, "--eval-only"]) == 0
    # From the file's own weights, which are none.
    assert main(["train", "--config-file", str(config_file), "--eval-only"]) == 2
    assert "MODEL.WEIGHTS is empty" in last_line(capsys)


def test_results_of_another_tool(tiny_data, tmp_path, capsys):
    # Both parts found exactly, with masks given as polygons and no boxes.
    entries = [
        {
            "image_id": image,
            "category_id": image,
            "score": 0.9,
            "segmentation": [[x, 22, x + 20, 22, x + 20, 42, x, 42]],
        }
        for image, x in ((1, 20), (2, 50))
    ]
    (tmp_path / "theirs.json").write_text(json.dumps(entries))
    command = ["eval", "--predictions", str(tmp_path / "theirs.json"), "--dataset"]
    assert main([*command, f"{tiny_data}:val"]) == 0
    rows = {
        row.split("|")[1].strip(): row.split("|")[2].strip()
        for row in capsys.readouterr().out.splitlines()
        if row.startswith(("| bbox", "| segm", "| isbda"))
    }
    assert rows == {
        "bbox": "100.00",
        "segm": "100.00",
        "isbda_bbox": "100.00",
        "isbda_segm": "100.00",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "give --config-file"),
        (["train", "--config-file", "nowhere.yaml"], "there is no config file 'nowhere.yaml'"),
        (["train", "--config-file", "CONFIG", "--resume"], "nothing to resume"),
        (
            ["train", "--config-file", "CONFIG", "SOLVER.MAXITER", "3"],
            "did you mean SOLVER.MAX_ITER",
        ),
        (["train", "--config-file", "CONFIG", "--num-gpus", "0"], "--num-gpus is 0"),
        (["train", "--config-file", "CONFIG", "DATASETS.TRAIN", "x:y"], "no data set 'x:y'"),
        (["eval", "--config-file", "CONFIG", "--weights", "w.pth"], "w.pth"),
        (["eval", "--config-file", "CONFIG", "--parents", "p.json"], "goes with --predictions"),
        (["eval", "--predictions", "p.json"], "--predictions needs --dataset"),
        (["eval", "--predictions", "p.json", "--dataset", "DATA:val"], "cannot read p.json"),
        (["eval", "--predictions", "p.json", "--dataset", "DATA"], "is 2 data sets"),
        (["eval", "--predictions", "p.json", "--dataset", "nowhere"], "no data set 'nowhere'"),
        (
            ["eval", "--predictions", "p.json", "--dataset", "DATA:val", "--config-file", "x"],
            "--config-file is for a model",
        ),
        (
            ["eval", "--predictions", "p.json", "--dataset", "DATA:val", "A", "1"],
            "for a model, got A",
        ),
    ],
)
def test_what_users_get_wrong_is_said_in_one_line(
    config_file, tiny_data, arguments, message, capsys
):
    stands_for = {"CONFIG": str(config_file)}
    arguments = [
        stands_for.get(a, a).replace("DATA", str(tiny_data))
        if a.startswith(("CONFIG", "DATA")) and not a.startswith("DATASETS")
        else a
        for a in arguments
    ]
    assert main(arguments) == 2
    line = last_line(capsys)
    assert line.startswith(f"msnet {arguments[0]}: error: ")
    assert message in line


def test_impossible_tasks_of_a_file(tiny_data, tmp_path, capsys):
    (tmp_path / "p.json").write_text("[]")
    command = ["eval", "--predictions", str(tmp_path / "p.json"), "--dataset", f"{tiny_data}:val"]
    assert main([*command, "--tasks", "isbda_parent"]) == 2
    assert "task isbda_parent has nothing to go by" in last_line(capsys)
    assert main([*command, "--tasks", "mask"]) == 2
    assert "task 'mask' is unknown" in last_line(capsys)
    # An empty file is a model that found nothing.
    assert main(command) == 0
    assert "| isbda_segm | 0.00 |" in " ".join(capsys.readouterr().out.split())
