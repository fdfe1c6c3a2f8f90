"""Configs: what is accepted, and what is said of what is not."""

import pytest
import torch
import yaml

from msnet_d2.checkpoint import last_checkpoint, trained_weights
from msnet_d2.config import load_config, write_config
from msnet_d2.data.isbda.catalog import with_registered_datasets
from msnet_d2.errors import ConfigError, DatasetError, InputError

QUICK = "quick/msnet_lite0_FPN.yaml"


@pytest.fixture
def config_file(tiny_cfg, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_cfg.dump())
    return path


def test_loads_by_name_and_path_with_overrides(config_file):
    cfg = load_config(config_file, ["SOLVER.MAX_ITER", "7"])
    assert cfg.MODEL.RESNETS.DEPTH == 18
    assert cfg.SOLVER.MAX_ITER == 7
    assert cfg.is_frozen()
    assert load_config(QUICK).MODEL.META_ARCHITECTURE == "MSNet"


def test_evaluation_does_not_need_the_training_set(config_file, tmp_path):
    opts = ["DATASETS.TRAIN", str(tmp_path / "gone:train"), "DATASETS.TEST", "isbda_val"]
    cfg = load_config(config_file, opts)
    with pytest.raises(DatasetError, match="gone"):
        with_registered_datasets(cfg)
    resolved = with_registered_datasets(cfg, for_training=False)
    assert resolved.DATASETS.TRAIN == cfg.DATASETS.TRAIN
    assert resolved.DATASETS.TEST == ("isbda_val",)
    missing = load_config(config_file, ["DATASETS.TEST", str(tmp_path / "gone:val")])
    with pytest.raises(DatasetError, match="gone"):
        with_registered_datasets(missing, for_training=False)


def test_a_single_data_set_needs_no_brackets(config_file):
    opts = ["DATASETS.TRAIN", "data:train", "DATASETS.TEST", "('a', 'b')"]
    cfg = load_config(config_file, opts)
    assert cfg.DATASETS.TRAIN == ("data:train",)
    assert cfg.DATASETS.TEST == ("a", "b")
    assert load_config(config_file, ["DATASETS.TEST", ""]).DATASETS.TEST == ()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.HRPN.TRESHOLD", "1"], r"unknown config key .*did you mean MODEL.HRPN.THRESHOLD\?"),
        (["model.hrpn.threshold", "1"], r"did you mean MODEL.HRPN.THRESHOLD\?"),
        (["MAX_ITER", "1"], r"unknown config key MAX_ITER; did you mean SOLVER.MAX_ITER\?"),
        (["QQQ.ZZZ", "1"], r"unknown config key QQQ.ZZZ; if it belongs to a project, install that"),
        (["MODEL.HRPN.TRESHOLD", 0.2], r"did you mean MODEL.HRPN.THRESHOLD\?"),
        (["SOLVER.MAX_ITER.X", "1"], "unknown config key SOLVER.MAX_ITER.X"),
        (["SOLVER.MAX_ITER", "many"], "Type mismatch .*SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "odd length"),
        (["SOLVER.MAX_ITER", "1", "--resume"], r"write --resume before the first KEY VALUE"),
        (["MODEL.DEVICE", "abacus"], "none of torch's devices"),
    ],
)
def test_overrides_that_cannot_be(config_file, opts, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(config_file, opts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"MODEL:\n  HRPN:\n    METRIK: ii\n",
            r"unknown config key .*did you mean MODEL.HRPN.METRIC",
        ),
        (b"MODEL: [\n", "not YAML"),
        (b"just words\n", "not a config"),
        (b"", "not a config"),
        (b"- 1\n- 2\n", "not a config"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "c.yaml: "),
        (b"_BASE_: nowhere.yaml\n", "nowhere.yaml"),
        (b"SOLVER:\n  MAX_ITER: [1]\n", "Type mismatch"),
    ],
)
def test_files_that_are_no_configs(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("in_base", [False, True])
def test_code_in_a_config_is_not_run(tmp_path, in_base):
    proof = tmp_path / "proof"
    evil = tmp_path / "evil.yaml"
    evil.write_text(f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{proof}"]\n')
    path = evil
    if in_base:
        path = tmp_path / "child.yaml"
        path.write_text("_BASE_: evil.yaml\n")
    with pytest.raises(ConfigError, match="refused"):
        load_config(path)
    assert not proof.exists()


def test_no_config_at_all():
    with pytest.raises(ConfigError, match="give `config_file`"):
        load_config("")
    with pytest.raises(ConfigError, match="nowhere.yaml.*quick/msnet_lite0_FPN.yaml"):
        load_config("nowhere.yaml")


def test_without_cuda_the_cpu_is_taken_unless_cuda_was_asked_for(monkeypatch, config_file, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config_file.write_text(config_file.read_text().replace("DEVICE: cpu", "DEVICE: cuda"))
    assert load_config(config_file).MODEL.DEVICE == "cpu"
    assert "No CUDA here" in caplog.text
    with pytest.raises(ConfigError, match="finds no CUDA"):
        load_config(config_file, ["MODEL.DEVICE", "cuda"])
    with pytest.raises(ConfigError, match="finds no CUDA"):
        load_config(config_file, device="cuda:1")


def test_specs_become_registered_names(train_cfg, tiny_data):
    train_cfg.DATASETS.TEST = (str(tiny_data), f"{tiny_data}:val")
    resolved = with_registered_datasets(train_cfg)
    # The folder has two splits; the second is named twice and stays once.
    assert len(resolved.DATASETS.TEST) == 2
    assert resolved.DATASETS.TEST[:1] == resolved.DATASETS.TRAIN
    # Names stay names, and the original is as it was.
    assert with_registered_datasets(resolved).DATASETS.TEST == resolved.DATASETS.TEST
    assert train_cfg.DATASETS.TEST[0] == str(tiny_data)
    train_cfg.DATASETS.TEST = ("no such thing",)
    with pytest.raises(DatasetError, match="no such thing"):
        with_registered_datasets(train_cfg)


def test_the_written_config_loads_again(train_cfg):
    path = write_config(train_cfg)
    assert path.endswith("config.yaml")
    cfg = load_config(path)
    # Tuples within tuples become lists in YAML, which is no matter.
    assert yaml.safe_load(cfg.dump()) == yaml.safe_load(train_cfg.dump())


def test_weights_beside_the_config_that_training_wrote(train_cfg, tmp_path):
    train_cfg.MODEL.WEIGHTS = "start.pth"
    path = write_config(train_cfg)
    run = tmp_path / "run"
    # Nothing was saved yet.
    assert trained_weights(train_cfg, path) == "start.pth"
    assert last_checkpoint(run) is None
    with pytest.raises(ConfigError, match="nothing to resume: OUTPUT_DIR"):
        trained_weights(train_cfg, path, resume=True)
    (run / "last_checkpoint").write_text("model_final.pth")
    with pytest.raises(InputError, match="names model_final.pth, which is not there"):
        last_checkpoint(run)
    (run / "model_final.pth").write_bytes(b"")
    assert trained_weights(train_cfg, path) == str(run / "model_final.pth")
    # What the command line says is what counts.
    assert trained_weights(train_cfg, path, ["MODEL.WEIGHTS", "start.pth"]) == "start.pth"
    # A config of another name is not what training wrote.
    other = run / "mine.yaml"
    other.write_text(train_cfg.dump())
    assert trained_weights(train_cfg, other) == "start.pth"
    assert trained_weights(train_cfg, other, resume=True) == str(run / "model_final.pth")
