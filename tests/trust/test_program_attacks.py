"""Formats of Detectron2 that are programs: LazyConfigs and pickled proposals."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from msnet_d2.config import load_config
from msnet_d2.errors import ConfigError, DatasetError


def test_commands_never_run_a_python_config(tmp_path):
    proof, config = tmp_path / "proof", tmp_path / "config.py"
    config.write_text(f"import os\nos.system('touch {proof}')\n")

    with pytest.raises(ConfigError, match=r"config\.py is Python code.*LazyConfig\.load"):
        load_config(config)
    (tmp_path / "config.yaml").write_text("_BASE_: config.py\n")
    with pytest.raises(ConfigError, match=r"config\.py is Python code"):
        load_config(tmp_path / "config.yaml")

    assert not proof.exists()


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
