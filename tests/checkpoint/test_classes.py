"""The names of a model's classes travel in its checkpoints and in its config."""

from __future__ import annotations

import json
import logging

import cv2
import pytest
import torch
from detectron2.modeling import build_model

from msnet_d2.checkpoint import MSNetCheckpointer
from msnet_d2.checkpoint.classes import ModelClasses, with_classes_of_weights
from msnet_d2.cli import main
from msnet_d2.config import load_config
from msnet_d2.engine import evaluate, train
from msnet_d2.errors import ConfigError, DatasetError, WeightsError

NAMES = ("crack", "collapse", "rubble")
COLORS = ((1, 2, 3), (40, 50, 60), (200, 0, 0))


def renamed(folder, split, names, new=None):
    """A copy ``new`` of a data set's split in which the categories 1, 2, 3 … have other names."""
    new = new or split
    annotations = folder / "annotations"
    content = json.loads((annotations / f"instances_{split}.json").read_text())
    content["categories"] = [{"id": i, "name": n} for i, n in enumerate(names, start=1)]
    (annotations / f"instances_{new}.json").write_text(json.dumps(content))
    if new != split:
        (folder / new).symlink_to(split)
    return (f"{folder}:{new}",)


@pytest.fixture
def named_weights(tiny_cfg, tmp_path):
    checkpointer = MSNetCheckpointer(build_model(tiny_cfg), str(tmp_path))
    checkpointer.classes = ModelClasses(NAMES, COLORS)
    checkpointer.save("named")
    return str(tmp_path / "named.pth")


def test_a_checkpoint_gives_back_names_and_colors(tiny_cfg, named_weights):
    checkpointer = MSNetCheckpointer(build_model(tiny_cfg))
    checkpointer.load(named_weights)
    assert checkpointer.loaded_classes == ModelClasses(NAMES, COLORS)
    assert checkpointer.classes == ModelClasses()  # what it would save is not what it read


@pytest.mark.parametrize(
    "value", [3, ["a"], {"names": "abc"}, {"names": [1]}, {"names": ["a"], "colors": [[0, 0]]}]
)
def test_names_of_another_form_are_refused(value):
    with pytest.raises(WeightsError, match=r"the weights w\.pth hold no names of classes"):
        ModelClasses.read(value, "w.pth")


def test_predictions_are_in_the_names_of_the_model(tiny_cfg, named_weights, tiny_data, tmp_path):
    config = tmp_path / "c.yaml"
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    config.write_text(tiny_cfg.dump())
    out = tmp_path / "out"
    picture = str(tiny_data / "val" / "0_1.png")
    arguments = ["--config-file", str(config), "--weights", named_weights, "--out", str(out)]
    assert main(["predict", picture, *arguments, "--min-score", "0"]) == 0
    summary = json.loads((out / "predictions.json").read_text())
    assert summary["levels"] == list(NAMES)
    found = {instance["level"] for instance in summary["images"][0]["instances"]}
    assert found
    assert found <= set(NAMES)
    assert cv2.imread(str(out / "0_1.jpg")) is not None


def test_weights_and_config_that_name_other_classes_are_refused(tiny_cfg):
    tiny_cfg.MODEL.CLASS_NAMES = ["collapse", "crack", "rubble"]
    with pytest.raises(WeightsError, match="crack, collapse, rubble, but MODEL.CLASS_NAMES is"):
        with_classes_of_weights(tiny_cfg, ModelClasses(NAMES), "w.pth")
    tiny_cfg.MODEL.CLASS_NAMES = ["Crack", "collapse ", "rubble"]
    assert with_classes_of_weights(tiny_cfg, ModelClasses(NAMES), "w.pth").MODEL.CLASS_NAMES


def test_weights_without_names_are_taken_for_isbdas_with_a_warning(tiny_cfg, caplog):
    with caplog.at_level(logging.WARNING):
        cfg = with_classes_of_weights(tiny_cfg, ModelClasses(), "old.pth")
    assert cfg.MODEL.CLASS_NAMES == ["Slight", "Severe", "Debris"]
    assert "old.pth and the config name no classes: they are taken for Slight" in caplog.text
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
    assert with_classes_of_weights(tiny_cfg, ModelClasses(), "old.pth").MODEL.CLASS_NAMES == []


def test_training_hands_the_names_of_its_data_to_all_that_follows(train_cfg, tiny_data, tmp_path):
    renamed(tiny_data, "train", NAMES)
    renamed(tiny_data, "val", NAMES)
    train(train_cfg)
    run = tmp_path / "run"
    saved = torch.load(run / "model_final.pth", weights_only=True)
    assert saved["classes"] == {"names": list(NAMES), "colors": []}
    cfg = load_config(run / "config.yaml")
    assert list(NAMES) == cfg.MODEL.CLASS_NAMES
    assert (f"{tiny_data}:train",) == cfg.DATASETS.TRAIN

    # The same labels under other numbers are the same figures; other names are refused.
    weights = str(run / "model_final.pth")
    figures = evaluate(cfg, weights)
    path = tiny_data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = 7 - annotation["category_id"]  # 1, 2, 3 -> 6, 5, 4
    content["categories"] = [{"id": 7 - i, "name": n} for i, n in enumerate(NAMES, start=1)]
    (tiny_data / "annotations" / "instances_other.json").write_text(json.dumps(content))
    (tiny_data / "other").symlink_to("val")
    cfg.defrost()
    cfg.DATASETS.TEST = (f"{tiny_data}:other",)
    assert str(evaluate(cfg, weights)) == str(figures)

    for number, name in enumerate(("dent", "dust", "void")):
        content["categories"][number]["name"] = name
    (tiny_data / "annotations" / "instances_wrong.json").write_text(json.dumps(content))
    cfg.DATASETS.TEST = (f"{tiny_data}:wrong",)
    with pytest.raises(DatasetError, match="void, dust, dent, but the model has crack, collapse"):
        evaluate(cfg, weights)

    # Resuming with other classes, or another number of them, is refused before the first step.
    train_cfg.SOLVER.MAX_ITER = 3
    train_cfg.DATASETS.TEST = ()
    names = ("rubble", "crack", "collapse")
    train_cfg.DATASETS.TRAIN = renamed(tiny_data, "train", names, "turned")
    with pytest.raises(ConfigError, match="cannot resume in .* classes crack, collapse, rubble"):
        train(train_cfg, resume=True)
    train_cfg.DATASETS.TRAIN = renamed(tiny_data, "train", (*NAMES, "dust"), "more")
    train_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    with pytest.raises(WeightsError, match="cannot be resumed: .*another number of classes"):
        train(train_cfg, resume=True)
