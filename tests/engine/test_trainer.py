"""Training and evaluation on three pictures."""

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.engine import AMPTrainer, SimpleTrainer, hooks
from detectron2.evaluation import COCOEvaluator

import msnet_d2.engine.trainer as trainer_module
from msnet_d2.checkpoint import last_checkpoint
from msnet_d2.engine import MSNetTrainer, evaluate, train
from msnet_d2.engine import train_loop as loops
from msnet_d2.engine.optimizer import build_optimizer
from msnet_d2.engine.train_loop import CPUAutocastTrainer, build_loop
from msnet_d2.errors import (
    ConfigError,
    DatasetError,
    MSNetError,
    TrainingError,
    WeightsError,
)
from msnet_d2.evaluation import TASKS, ISBDAEvaluator
from msnet_d2.utils.worker_errors import error_of_worker


def test_trains_evaluates_and_leaves_everything_in_its_folder(train_cfg):
    results = train(train_cfg)
    assert list(results) == list(TASKS)
    assert all(0 <= results[task]["AP"] <= 100 for task in TASKS)
    run = Path(train_cfg.OUTPUT_DIR)
    assert last_checkpoint(run) == str(run / "model_final.pth")
    assert {"config.yaml", "metrics.json", "model_0000000.pth", "inference"} <= {
        p.name for p in run.iterdir()
    }
    assert {p.name for p in (run / "inference").iterdir()} == {
        "coco_instances_results.json",
        "coco_parents_results.json",
        "metrics.json",
    }
    kept = json.loads((run / "inference" / "metrics.json").read_text())
    assert kept["isbda_segm"]["AP"] == results["isbda_segm"]["AP"]
    # Neither picture has a large part: undefined, null in JSON.
    assert math.isnan(results["isbda_segm"]["APl"])
    assert kept["isbda_segm"]["APl"] is None
    # The specs stay as they were given, so that the file can be used again.
    assert train_cfg.DATASETS.TEST[0] in (run / "config.yaml").read_text()

    # Evaluation of what was saved gives what training said.
    again = evaluate(train_cfg, last_checkpoint(run))
    for task in TASKS:
        assert again[task] == pytest.approx(results[task], nan_ok=True, abs=1e-6)


def test_a_stock_mask_rcnn_goes_the_same_way(train_cfg):
    train_cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    train_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    train_cfg.SOLVER.MAX_ITER = 1
    results = train(train_cfg)
    assert list(results) == ["bbox", "segm", "isbda_bbox", "isbda_segm"]
    assert list(evaluate(train_cfg, last_checkpoint(train_cfg.OUTPUT_DIR))) == list(results)


def test_training_lowers_the_loss(train_cfg):
    train_cfg.DATASETS.TEST = ()
    train_cfg.SOLVER.MAX_ITER = 12
    train_cfg.SOLVER.CHECKPOINT_PERIOD = 100
    train_cfg.SOLVER.OPTIMIZER = "ADAM"
    train_cfg.SOLVER.BASE_LR = 0.002
    trainer = MSNetTrainer(train_cfg)
    assert trainer.train() == {}
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert len(losses) == 12
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_resuming_goes_on_where_training_stopped(train_cfg):
    train_cfg.DATASETS.TEST = ()
    train(train_cfg)
    train_cfg.SOLVER.MAX_ITER = 3
    trainer = MSNetTrainer(train_cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    trainer.train()
    assert last_checkpoint(train_cfg.OUTPUT_DIR).endswith("model_final.pth")
    saved = torch.load(Path(train_cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)
    assert saved["iteration"] == 2


def test_resuming_from_nothing_is_an_error(train_cfg):
    with pytest.raises(ConfigError, match="nothing to resume: OUTPUT_DIR"):
        train(train_cfg, resume=True)
    assert not Path(train_cfg.OUTPUT_DIR, "config.yaml").exists()


def test_a_loss_that_is_not_finite_names_iteration_and_images(train_cfg, caplog):
    trainer = MSNetTrainer(train_cfg)
    head = trainer.model.roi_heads.box_predictor.cls_score
    forward = head.forward
    calls = []

    def broken(x):
        calls.append(0)
        return forward(x) * (math.nan if len(calls) == 2 else 1)

    head.forward = broken
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    message = str(caught.value)
    assert "\n" not in message
    assert "diverged at iteration 1" in message
    assert "'loss_cls': " in message
    assert message.count("_1.png") == 1
    # No evaluation afterwards, no traceback in the log, no broken checkpoint.
    assert trainer._last_eval_results == {}
    assert "Traceback" not in caplog.text
    assert sorted(p.name for p in Path(train_cfg.OUTPUT_DIR).glob("*.pth")) == ["model_0000000.pth"]


def test_weights_that_are_not_finite_are_not_saved(train_cfg):
    train_cfg.SOLVER.MAX_ITER = 1
    trainer = MSNetTrainer(train_cfg)
    # The loss of the only step is finite, its gradient is not.
    bias = trainer.model.roi_heads.box_predictor.cls_score.bias
    bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"iteration 0: .*cls_score\.bias is not finite"):
        trainer.train()
    assert list(Path(train_cfg.OUTPUT_DIR).glob("*.pth")) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("ADAMW", torch.optim.AdamW)],
)
def test_optimizer_of_the_config(tiny_cfg, name, kind):
    tiny_cfg.SOLVER.OPTIMIZER = name
    tiny_cfg.SOLVER.BASE_LR = 0.0125
    tiny_cfg.SOLVER.WEIGHT_DECAY = 0.05
    tiny_cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[0].bias.requires_grad = False
    optimizer = build_optimizer(tiny_cfg, model)
    assert type(optimizer) is kind
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    # The frozen bias is left out; normalisation has a decay of its own.
    assert decays == {
        id(model[0].weight): 0.05,
        id(model[1].weight): 0.0,
        id(model[1].bias): 0.0,
    }
    assert {group["lr"] for group in optimizer.param_groups} == {0.0125}


def test_gradients_are_clipped_for_every_optimizer(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER = "ADAM"
    tiny_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    tiny_cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    tiny_cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(tiny_cfg, model)
    model.weight.grad = torch.full_like(model.weight, 7.0)
    optimizer.step()
    assert model.weight.grad.item() == 0.5


def test_optimizers_that_cannot_be(tiny_cfg):
    tiny_cfg.SOLVER.OPTIMIZER = "LION"
    with pytest.raises(ConfigError, match="'LION'; there are: SGD, ADAM, ADAMW"):
        build_optimizer(tiny_cfg, torch.nn.Linear(1, 1))
    tiny_cfg.SOLVER.OPTIMIZER = "SGD"
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(tiny_cfg, torch.nn.Linear(1, 1).requires_grad_(False))


def test_mixed_precision_on_a_cpu_trains_in_bfloat16(train_cfg, monkeypatch):
    monkeypatch.setattr(loops, "computes_bfloat16", lambda device: True)
    train_cfg.SOLVER.AMP.ENABLED = True
    train_cfg.DATASETS.TEST = ()
    trainer = MSNetTrainer(train_cfg)
    assert type(trainer._trainer) is CPUAutocastTrainer
    seen = []
    trainer.model.backbone.fpn_output2.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    before = trainer.model.backbone.fpn_output2.weight.detach().clone()
    trainer.train()
    assert seen == [torch.bfloat16] * 2
    assert not torch.equal(before, trainer.model.backbone.fpn_output2.weight)
    assert before.dtype == torch.float32


def test_the_loop_of_the_config(tiny_cfg):
    model = torch.nn.Linear(1, 1)
    assert type(build_loop(tiny_cfg, model, [], None)) is SimpleTrainer
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.MODEL.DEVICE = "cuda"
    assert type(build_loop(tiny_cfg, model, [], None)) is AMPTrainer


@pytest.mark.parametrize(
    ("capabilities", "loop"),
    [
        ({"avx512_bf16": True}, CPUAutocastTrainer),
        (
            {"avx512_bf16": False, "amx_bf16": False, "avx2": True},
            SimpleTrainer,
        ),  # emulated: slower
        ({}, SimpleTrainer),  # unknown
    ],
)
def test_a_cpu_without_bfloat16_trains_in_float32(tiny_cfg, monkeypatch, capabilities, loop):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    tiny_cfg.SOLVER.AMP.ENABLED = True
    assert type(build_loop(tiny_cfg, torch.nn.Linear(1, 1), [], None)) is loop


def test_evaluators_by_the_type_of_the_data_set(train_cfg, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from msnet_d2.data import resolve_dataset

    (name,) = resolve_dataset(train_cfg.DATASETS.TEST[0])
    assert type(MSNetTrainer.build_evaluator(train_cfg, name)) is ISBDAEvaluator
    DatasetCatalog.register("other_type", list)
    MetadataCatalog.get("other_type").set(thing_classes=["a"])
    try:
        other = MSNetTrainer.build_evaluator(train_cfg, "other_type", str(tmp_path))
        assert type(other) is COCOEvaluator
    finally:
        DatasetCatalog.remove("other_type")
        MetadataCatalog.remove("other_type")


def test_several_test_sets_keep_their_predictions_apart(train_cfg, tiny_data):
    train_cfg.DATASETS.TEST = (str(tiny_data),)
    train_cfg.SOLVER.MAX_ITER = 1
    results = train(train_cfg)
    assert len(results) == 2
    assert all("isbda_segm" in figures for figures in results.values())
    folders = {p.name for p in Path(train_cfg.OUTPUT_DIR, "inference").iterdir() if p.is_dir()}
    assert folders == set(results)
    for name in folders:
        assert Path(
            train_cfg.OUTPUT_DIR, "inference", name, "coco_instances_results.json"
        ).is_file()


def test_evaluates_with_augmentation(train_cfg):
    train_cfg.SOLVER.MAX_ITER = 1
    train_cfg.TEST.AUG.ENABLED = True
    train_cfg.TEST.AUG.MIN_SIZES = (96,)
    results = train(train_cfg)
    assert set(results) >= {"isbda_segm", "isbda_segm_TTA", "bbox_TTA"}
    assert Path(train_cfg.OUTPUT_DIR, "inference_TTA", "coco_instances_results.json").is_file()
    again = evaluate(train_cfg, last_checkpoint(train_cfg.OUTPUT_DIR))
    assert list(again) == list(results)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"DATASETS.TRAIN": ()}, ConfigError, "DATASETS.TRAIN is empty"),
        ({"DATASETS.TRAIN": ("nowhere:train",)}, DatasetError, "nowhere:train"),
        ({"SOLVER.MAX_ITER": 0}, ConfigError, "SOLVER.MAX_ITER is 0"),
        ({"SOLVER.IMS_PER_BATCH": 0}, ConfigError, "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_what_cannot_be_trained(train_cfg, change, error, message):
    for key, value in change.items():
        train_cfg.merge_from_list([key, value])
    with pytest.raises(error, match=message):
        train(train_cfg)


def test_a_data_set_without_damage_cannot_be_trained_on(train_cfg, tiny_data):
    path = tiny_data / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(DatasetError, match="cannot train on"):
        train(train_cfg)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_breaks_during_training_is_named(train_cfg, tiny_data, workers):
    for path in (tiny_data / "train").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    train_cfg.DATALOADER.NUM_WORKERS = workers
    with pytest.raises(DatasetError, match=r"_1\.png cannot be used") as caught:
        train(train_cfg)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_errors_of_other_processes_are_told_apart_from_their_tracebacks():
    text = """

-- Process 1 terminated with the following error:
Traceback (most recent call last):
  File "train_net.py", line 40, in main
    raise DatasetError("first")
msnet_d2.errors.DatasetError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train_net.py", line 41, in main
msnet_d2.errors.ConfigError: SOLVER.MAX_ITER is 0: odd
"""
    error = error_of_worker(RuntimeError(text))
    assert type(error) is ConfigError
    assert str(error) == "SOLVER.MAX_ITER is 0: odd"
    assert error_of_worker(RuntimeError("Traceback …\nValueError: no error of ours")) is None
    assert error_of_worker(RuntimeError("msnet_d2.errors.Unheard: of")) is None
    assert error_of_worker(ConfigError("plain")) is None


def test_evaluation_needs_data_and_weights(train_cfg):
    with pytest.raises(WeightsError, match="MODEL.WEIGHTS is empty"):
        evaluate(train_cfg)
    train_cfg.DATASETS.TEST = ()
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty"):
        evaluate(train_cfg, "model.pth")


def test_on_a_terminal_a_bar_stands_for_the_lines(train_cfg, monkeypatch, capsys):
    monkeypatch.setattr(trainer_module, "on_terminal", lambda: True)
    train_cfg.DATASETS.TEST = ()
    trainer = MSNetTrainer(train_cfg)
    writer = next(hook for hook in trainer._hooks if isinstance(hook, hooks.PeriodicWriter))
    names = [type(w).__name__ for w in writer._writers]
    assert "CommonMetricPrinter" not in names
    assert "JSONWriter" in names
    trainer.train()
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "loss=" in shown


def _without_parents(tiny_data):
    path = tiny_data / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        del annotation["house_bbox"]
    path.write_text(json.dumps(content))


def test_parents_as_a_class_need_parents_in_the_data(train_cfg, tiny_data):
    _without_parents(tiny_data)
    train_cfg.MODEL.META_ARCHITECTURE = "ParentClassRCNN"
    train_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    train_cfg.MODEL.ROI_HEADS.NAME = "MaskedClassROIHeads"
    train_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4
    train_cfg.MODEL.ROI_HEADS.PARENT_CLASS = 3
    with pytest.raises(DatasetError, match="no annotation of data_train has a parent_bbox"):
        train(train_cfg)


def test_the_hierarchy_needs_parents_in_the_data(train_cfg, tiny_data):
    _without_parents(tiny_data)
    with pytest.raises(MSNetError, match="parent_bbox .*HierarchicalRPN learns it"):
        train(train_cfg)


@pytest.mark.parametrize("number", [2, 4])
def test_another_number_of_classes_is_told_before_training(train_cfg, number):
    train_cfg.MODEL.ROI_HEADS.NUM_CLASSES = number
    with pytest.raises(
        ConfigError,
        match=rf"NUM_CLASSES is {number}, but data_train has 3 classes .*; set it to 3",
    ):
        train(train_cfg)
