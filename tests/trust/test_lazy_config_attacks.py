"""LazyConfigs and proposal files: formats of Detectron2 that are programs."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from msnet_d2.config.defaults import config_path
from msnet_d2.engine import load_config
from msnet_d2.errors import ConfigError, DatasetError


def test_commands_never_run_a_python_config(tmp_path):
    proof, config = tmp_path / "proof", tmp_path / "config.py"
    config.write_text(f"import os\nos.system('touch {proof}')\n")

    with pytest.raises(ConfigError, match=r"config\.py is Python code.*load_lazy_config"):
        load_config(config)
    (tmp_path / "config.yaml").write_text("_BASE_: config.py\n")
    with pytest.raises(ConfigError, match=r"config\.py is Python code"):
        load_config(tmp_path / "config.yaml")

    assert not proof.exists()


def test_a_foreign_lazy_config_needs_trust(tmp_path):
    from msnet_d2.config.lazy_configs import load_lazy_config

    proof, config = tmp_path / "proof", tmp_path / "config.py"
    config.write_text(f"import os\nos.system('touch {proof}')\nmodel = dict(a=1)\n")

    with pytest.raises(ConfigError, match="trust_config=True"):
        load_lazy_config(config)
    assert not proof.exists()

    assert load_lazy_config(config, trust_config=True).model.a == 1
    assert proof.exists()


def test_a_link_from_our_folder_is_foreign(tmp_path, monkeypatch):
    from msnet_d2 import lazy_configs

    ours = tmp_path / "configs"
    ours.mkdir()
    (tmp_path / "evil.py").write_text("raise RuntimeError('ran')\n")
    (ours / "linked.py").symlink_to(tmp_path / "evil.py")
    monkeypatch.setattr(lazy_configs, "_own_folders", lambda: [ours.resolve()])

    for path in (ours / "linked.py", ours / ".." / "evil.py"):
        with pytest.raises(ConfigError, match="trust_config=True"):
            lazy_configs.load_lazy_config(path)


def test_our_lazy_config_loads_without_further_ado():
    from msnet_d2.config.lazy_configs import load_lazy_config

    cfg = load_lazy_config(config_path("msnet_R50_FPN.yaml").with_suffix(".py"))
    cfg = load_lazy_config(
        config_path("msnet_R50_FPN.yaml").with_suffix(".py"), ["train.max_iter=7"]
    )
    assert cfg.train.max_iter == 7
    assert cfg.model.roi_heads.num_classes == 3


TARGETS = [
    "subprocess.check_call",
    "os.system",
    "builtins.eval",
    "torch.load",
    "torch.hub.load",
    "pickle.load",
    "detectron2.config.LazyConfig.load",
    "detectron2.data.build.load_proposals_into_dataset",
    "detectron2.data.datasets.coco.convert_to_coco_json",
    # What a module we trust has imported is not ours.
    "detectron2.data.build.pickle.loads",
    "msnet_d2.evaluation.isbda_evaluation.os.system",
    "torch.nn.modules.module.torch.load",
    "detectron2.modeling.backbone.build.os",
    "no.such.module",
    "torch.nn.NoSuchLayer",
    "",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("where", ["override", "override of a whole part", "yaml", "python"])
def test_targets_outside_of_the_list_are_refused(tmp_path, target, where):
    from msnet_d2.config.lazy_configs import load_lazy_config

    own = config_path("msnet_R50_FPN.yaml").with_suffix(".py")
    overrides, path, trust = [], own, False
    if where == "override":
        overrides = [f"model._target_='{target}'"]
    elif where == "override of a whole part":
        overrides = [f"optimizer={{_target_: '{target}', args: [touch, x]}}"]
    else:
        path = tmp_path / f"config.{'yaml' if where == 'yaml' else 'py'}"
        trust = where == "python"  # to run a file is not to build what it names
        node = f'"_target_": "{target}", "args": ["touch", "x"]'
        path.write_text(
            f"model: {{{node}}}\n" if where == "yaml" else f"model = dict(inner=[{{{node}}}])\n"
        )

    with pytest.raises(ConfigError, match=r"_target_"):
        load_lazy_config(path, overrides, trust_config=trust)


def test_yaml_lazy_configs_are_loaded_safely(tmp_path):
    from msnet_d2.config.lazy_configs import load_lazy_config

    proof, path = tmp_path / "proof", tmp_path / "config.yaml"
    path.write_text(f"model: !!python/object/apply:os.system ['touch {proof}']\n")
    with pytest.raises(ConfigError, match="run code"):
        load_lazy_config(path)
    assert not proof.exists()

    path.write_text("model: {_target_: torch.nn.Linear, in_features: 2, out_features: 3}\n")
    assert load_lazy_config(path).model.out_features == 3


def test_extra_targets_can_be_allowed(tmp_path):
    from msnet_d2.config.lazy_configs import load_lazy_config

    path = tmp_path / "config.yaml"
    path.write_text("model: {_target_: collections.Counter}\n")
    with pytest.raises(ConfigError, match="_target_"):
        load_lazy_config(path)
    assert load_lazy_config(path, allow=["collections"]).model._target_ == "collections.Counter"


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_proposal_files_are_checked_before_they_are_loaded(tiny_cfg, tmp_path):
    from msnet_d2.data.loading.proposals import check_proposal_files

    proof, path = tmp_path / "proof", tmp_path / "proposals.pkl"
    cfg = tiny_cfg
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = (str(path),)

    path.write_bytes(pickle.dumps({"ids": [1], "boxes": [Evil(f"touch {proof}")]}))
    with pytest.raises(DatasetError, match=r"proposals\.pkl.* run code"):
        check_proposal_files(cfg)
    assert not proof.exists()

    path.unlink()
    with pytest.raises(DatasetError, match=r"proposals\.pkl"):
        check_proposal_files(cfg)
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = ("https://127.0.0.1:9/p.pkl",)
    with pytest.raises(DatasetError, match="file on this machine"):
        check_proposal_files(cfg)

    cfg.DATASETS.PROPOSAL_FILES_TRAIN = (str(path),)
    path.write_bytes(
        pickle.dumps(
            {
                "ids": [1],
                "boxes": [np.zeros((2, 4), np.float32)],
                "objectness_logits": [np.zeros(2, np.float32)],
                "bbox_mode": 0,
            }
        )
    )
    check_proposal_files(cfg)
    cfg.MODEL.LOAD_PROPOSALS = False
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = ("nowhere",)
    check_proposal_files(cfg)


@pytest.mark.parametrize("key", ["TRAIN", "TEST"])
def test_training_and_evaluation_check_their_proposals(tiny_cfg, tmp_path, key):
    from msnet_d2.engine.trainer import MSNetTrainer

    proof, path = tmp_path / "proof", tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps({"ids": [1], "boxes": [Evil(f"touch {proof}")]}))
    cfg = tiny_cfg
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS[f"PROPOSAL_FILES_{key}"] = (str(path),)
    cfg.DATASETS[key] = ("some",)
    from detectron2.data import DatasetCatalog

    DatasetCatalog.register("some", lambda: [{"image_id": 1, "file_name": "x"}])

    build = {
        "TRAIN": lambda: MSNetTrainer.build_train_loader(cfg),
        "TEST": lambda: MSNetTrainer.build_test_loader(cfg, "some"),
    }[key]
    with pytest.raises(DatasetError, match=" run code"):
        build()

    assert not proof.exists()
