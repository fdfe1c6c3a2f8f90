"""Training that diverges, is killed, finds no room on the disk, or goes on later."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase, hooks
from torch import nn

from msnet_d2.checkpoint import last_checkpoint
from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.engine import MSNetTrainer, train
from msnet_d2.errors import MSNetError, OutputError, TrainingError, WeightsError

# `make fuzz` raises it.
KILLS = int(os.environ.get("MSNET_FUZZ_KILLS", "12"))
TRAIN_KILLS = max(2, KILLS // 5)


class Inject(HookBase):
    """Breaks something at an iteration, after the step or before it."""

    def __init__(self, iteration, action, before=False):
        self.iteration, self.action, self.before = iteration, action, before

    def before_step(self):
        if self.before and self.trainer.iter == self.iteration:
            self.action(self.trainer)

    def after_step(self):
        if not self.before and self.trainer.iter == self.iteration:
            self.action(self.trainer)


def break_loss(value):
    def action(trainer):
        head = trainer.model.roi_heads.box_predictor.cls_score
        head.register_forward_hook(lambda _module, _inputs, output: output * value)

    return action


def break_gradient(value):
    def action(trainer):
        weight = trainer.model.roi_heads.box_predictor.cls_score.weight
        weight.register_hook(lambda gradient: gradient * value)

    return action


def break_weight(trainer):
    with torch.no_grad():
        trainer.model.roi_heads.box_predictor.cls_score.weight[0, 0] = math.nan


def break_buffer(trainer):
    next(b for b in trainer.model.buffers() if b.is_floating_point() and b.numel() > 3)[0] = (
        math.nan
    )


def break_moment(trainer):
    state = next(
        s for s in trainer.optimizer.state.values() if s.get("momentum_buffer") is not None
    )
    state["momentum_buffer"].view(-1)[0] = math.inf


def break_pixel(trainer):
    trainer.model.pixel_mean[0] = math.nan


# what is broken, before or after the step, and words of the error
INJECTIONS = {
    "loss is NaN": (break_loss(math.nan), True, "loss"),
    "loss is infinite": (break_loss(math.inf), True, "loss"),
    "gradient is NaN": (break_gradient(math.nan), True, "gradient of .*cls_score.weight"),
    "gradient is infinite": (break_gradient(math.inf), True, "gradient of .*cls_score.weight"),
    "weight is NaN": (break_weight, False, "cls_score.weight is not finite"),
    "buffer is NaN": (break_buffer, False, "is not finite"),
    "momentum is infinite": (break_moment, False, "momentum_buffer"),
    "pixels are NaN": (break_pixel, True, "contain Inf/NaN"),
}


# In between, and in the last step.
@pytest.mark.parametrize(
    ("what", "when"), [*((what, 1) for what in INJECTIONS), ("weight is NaN", 3)]
)
def test_no_checkpoint_is_not_finite(train_cfg, what, when):
    action, before, words = INJECTIONS[what]
    # Hooks of others run before the one that saves.
    trainer = MSNetTrainer(train_cfg)
    trainer._hooks.insert(0, inject := Inject(when, action, before))
    inject.trainer = trainer

    with pytest.raises((TrainingError, MSNetError), match=words) as caught:
        trainer.train()

    message = str(caught.value)
    assert f"iteration {when}" in message
    assert "\n" not in message
    assert message.count("_1.png") == 2  # the batch's pictures
    if what != "pixels are NaN":  # then there are no losses yet
        assert "loss_cls" in message
    files = list(Path(train_cfg.OUTPUT_DIR).glob("*.pth"))
    assert len(files) == when
    for file in files:
        for tensor in tensors_of(torch.load(file, weights_only=True)):
            assert torch.isfinite(tensor).all()


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_of(item)


def test_large_gradients_that_are_finite_do_not_stop(train_cfg):
    train_cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    train_cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    train_cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    train_cfg.SOLVER.MAX_ITER = 2
    trainer = MSNetTrainer(train_cfg)
    # Its square, and so the sum of squares, overflows.
    trainer.model.roi_heads.box_predictor.cls_score.weight.register_hook(lambda g: g * 0 + 1e30)
    trainer.train()
    assert last_checkpoint(train_cfg.OUTPUT_DIR).endswith("model_final.pth")


class Stop(HookBase):
    """Ends the training after an iteration, as if the process had been killed then."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


def trained_weights(folder):
    return torch.load(Path(folder) / "model_final.pth", weights_only=True)["model"]


def disturb():
    """Another process has other random numbers."""
    random.seed(os.urandom(8))
    np.random.seed(int.from_bytes(os.urandom(4), "little"))  # noqa: NPY002
    torch.manual_seed(int.from_bytes(os.urandom(7), "little"))


CASES = {
    "grouped by shape": {},
    "one by one": {"DATALOADER.ASPECT_RATIO_GROUPING": False},
    "Adam": {"SOLVER.OPTIMIZER": "ADAM"},
    "a seed of its own": {"SEED": -1},
    "two workers": {"DATALOADER.NUM_WORKERS": 2},
    "frequent classes less": {
        "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
        "DATALOADER.REPEAT_THRESHOLD": 0.5,
    },
}


@pytest.mark.parametrize("case", list(CASES))
def test_resumed_training_equals_an_uninterrupted_one(train_cfg, tmp_path, case):
    for key, value in CASES[case].items():
        train_cfg.merge_from_list([key, value])
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    train_cfg.OUTPUT_DIR = whole
    trainer = MSNetTrainer(train_cfg)
    trainer.resume_or_load(resume=False)
    start = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    seen = record_data(trainer)
    trainer.train()

    train_cfg.OUTPUT_DIR = parts
    disturb()
    trainer_1 = MSNetTrainer(train_cfg)
    trainer_1.model.load_state_dict(start)
    trainer_1.seed = trainer.seed
    trainer_1.resume_or_load(resume=False)
    trainer_1.register_hooks([Stop(1)])
    with pytest.raises(KeyboardInterrupt):
        trainer_1.train()
    assert last_checkpoint(parts).endswith("model_0000001.pth")
    disturb()
    trainer_2 = MSNetTrainer(train_cfg)
    trainer_2.resume_or_load(resume=True)
    seen_2 = record_data(trainer_2)
    trainer_2.train()

    assert len(seen) == 4
    assert seen_2 == seen[2:]
    one, other = trained_weights(whole), trained_weights(parts)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert any(not torch.equal(one[name], start[name]) for name in one)


def record_data(trainer):
    """Files, sizes and a sum of the pixels of every batch that the model gets."""
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda _module, inputs: seen.append(
            [(d["file_name"], d["image"].shape, int(d["image"].sum())) for d in inputs[0]]
        )
    )
    return seen


def test_the_number_of_workers_changes_no_batch(train_cfg):
    batches = []
    for workers in (0, 1, 3):
        train_cfg.DATALOADER.NUM_WORKERS = workers
        iterator = iter(MSNetTrainer(train_cfg).data_loader)
        batches.append([next(iterator) for _ in range(5)])
    for other in batches[1:]:
        for batch, same in zip(batches[0], other):
            assert [d["file_name"] for d in batch] == [d["file_name"] for d in same]
            for one, two in zip(batch, same):
                assert torch.equal(one["image"], two["image"])


def test_the_best_checkpoint_is_not_the_one_to_resume_from(train_cfg):
    trainer = MSNetTrainer(train_cfg)
    trainer.register_hooks(
        [
            hooks.EvalHook(1, lambda: {"bbox": {"AP": float(trainer.iter)}}),
            hooks.BestCheckpointer(1, trainer.checkpointer, "bbox/AP"),
            Stop(2),
        ]
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()

    folder = Path(train_cfg.OUTPUT_DIR)
    assert (folder / "model_best.pth").is_file()
    assert last_checkpoint(folder).endswith("model_0000002.pth")


def test_a_missing_or_broken_checkpoint_is_an_error(train_cfg):
    train_cfg.SOLVER.MAX_ITER = 1
    train(train_cfg)
    final = Path(last_checkpoint(train_cfg.OUTPUT_DIR))
    train_cfg.SOLVER.MAX_ITER = 2
    content = final.read_bytes()

    final.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"model_final\.pth cannot be read"):
        train(train_cfg, resume=True)
    final.unlink()
    with pytest.raises(MSNetError, match=r"model_final\.pth, which is not there"):
        train(train_cfg, resume=True)


def small_model(value=0.0):
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))  # 0.7 MB
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def save_forever(folder, start, saved):
    """In a process that will be killed: each checkpoint holds its own number everywhere."""
    for number in range(start, start + 10_000):
        MSNetCheckpointer(small_model(float(number)), folder).save(
            f"model_{number % 3:07d}", iteration=number
        )
        saved.value = number


def test_killed_while_saving_the_last_checkpoint_is_whole(tmp_path, record_property):
    """Three names in turn, so that existing checkpoints are written over as well."""
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    MSNetCheckpointer(small_model(0.0), str(tmp_path)).save("model_0000000", iteration=0)
    survived, latest = 0, 0
    for kill in range(KILLS):
        saved = context.Value("i", -1, lock=False)
        process = context.Process(target=save_forever, args=(str(tmp_path), latest + 1, saved))
        process.start()
        patient = rng.random() < 0.7  # the others are killed before their first
        while patient and saved.value < 0:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.08))
        os.kill(process.pid, signal.SIGKILL)
        process.join()

        model = small_model(-1.0)
        rest = MSNetCheckpointer(model).load(last_checkpoint(tmp_path))
        number = rest["iteration"]
        assert all((p == number).all() for p in model.parameters()), f"kill {kill}"
        assert number >= latest
        survived, latest = survived + 1, number
        for file in tmp_path.glob("*.pth"):
            MSNetCheckpointer(small_model()).load(str(file))
    record_property("tried", KILLS)
    record_property("survived", survived)
    assert latest > 0  # it did save between the kills
    # One that was killed while writing leaves at most its own rest, which the next save removes.
    assert len(list(tmp_path.glob(".*.tmp"))) <= 2
    MSNetCheckpointer(small_model(), str(tmp_path)).save("model_final")
    assert list(tmp_path.glob(".*.tmp")) == []


@pytest.fixture
def disk_of_300_kb():
    """No file may grow beyond that: the error is another number, the way is the same."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, request):
    folder = str(tmp_path)
    MSNetCheckpointer(small_model(1.0), folder).save("model_0000001", iteration=1)
    MSNetCheckpointer(small_model(1.0), folder).save("model_final", iteration=1)
    before = sorted(p.name for p in tmp_path.iterdir())
    request.getfixturevalue("disk_of_300_kb")

    for name in ("model_0000002", "model_final"):
        with pytest.raises(OutputError, match=rf"cannot write .*{name}\.pth: .*unchanged"):
            MSNetCheckpointer(small_model(2.0), folder).save(name, iteration=2)

    assert sorted(p.name for p in tmp_path.iterdir()) == before
    model = small_model()
    MSNetCheckpointer(model).load(last_checkpoint(folder))
    assert all((p == 1).all() for p in model.parameters())


def test_a_full_disk_leaves_earlier_results(tmp_path, request):
    from msnet_d2.utils.file_io import write_json

    write_json(tmp_path / "a.json", [1])
    request.getfixturevalue("disk_of_300_kb")
    with pytest.raises(OutputError, match=r"a\.json"):
        write_json(tmp_path / "a.json", list(range(200_000)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "[1]"


def test_results_that_cannot_be_written_to_a_real_full_device():
    from msnet_d2.utils.file_io import write_text

    with pytest.raises(OutputError, match="cannot write"):
        write_text("/proc/nowhere/a.json", "x")


def test_unrelated_weights_need_consent_to_train(train_cfg, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"some.weight": torch.zeros(3), "backbone.x.weight": torch.zeros(2)}, path)
    train_cfg.MODEL.WEIGHTS = str(path)
    train_cfg.SOLVER.MAX_ITER = 1
    with pytest.raises(WeightsError, match=r"another model.*`allow_partial_weights`"):
        train(train_cfg)
    train(train_cfg, allow_partial_weights=True)
    assert last_checkpoint(train_cfg.OUTPUT_DIR)


def train_quietly(cfg, resume):
    """In a process that may be killed."""
    train(cfg, resume=resume)


def test_training_killed_again_and_again_equals_an_uninterrupted_one(
    train_cfg, tmp_path, record_property
):
    train_cfg.SOLVER.MAX_ITER = 3 * TRAIN_KILLS
    train_cfg.INPUT.MIN_SIZE_TRAIN = (64, 80)
    context, rng = multiprocessing.get_context("fork"), random.Random(3)
    train_cfg.OUTPUT_DIR = str(tmp_path / "whole")
    process = context.Process(target=train_quietly, args=(train_cfg, False))
    process.start()
    process.join()
    assert process.exitcode == 0

    train_cfg.OUTPUT_DIR = folder = str(tmp_path / "killed")
    kills, exitcode = 0, None
    while exitcode != 0:
        resume = Path(folder, "last_checkpoint").exists()
        before = last_checkpoint(folder) if resume else None
        process = context.Process(target=train_quietly, args=(train_cfg, resume))
        process.start()
        if kills < TRAIN_KILLS:
            while process.is_alive() and (
                not Path(folder, "last_checkpoint").exists() or last_checkpoint(folder) == before
            ):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
            kills += 1
        process.join()
        exitcode = process.exitcode
        assert exitcode in (0, -signal.SIGKILL)
        if kills < TRAIN_KILLS and exitcode == 0:
            break  # it was done before it could be killed

    record_property("tried", kills)
    record_property("survived", kills)
    one, other = trained_weights(tmp_path / "whole"), trained_weights(folder)
    for name in one:
        assert torch.equal(one[name], other[name]), name
