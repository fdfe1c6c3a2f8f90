"""``python -m msnet_d2.train_net``, as far as it is not ``msnet train`` by another name."""

from __future__ import annotations

import sys

import pytest
import torch

from msnet_d2 import train_net
from msnet_d2.checkpoint import last_checkpoint


def exit_code_of(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train_net", *arguments])
    with pytest.raises(SystemExit) as ended:
        train_net.command_line()
    return ended.value.code


def test_the_option_that_an_error_names_is_there(train_cfg, tmp_path, monkeypatch, capsys):
    torch.save({"backbone.x.weight": torch.zeros(2)}, tmp_path / "other.pth")
    train_cfg.MODEL.WEIGHTS = str(tmp_path / "other.pth")
    train_cfg.SOLVER.MAX_ITER = 1
    train_cfg.DATASETS.TEST = ()
    config = tmp_path / "run.yaml"
    config.write_text(train_cfg.dump())

    assert exit_code_of(monkeypatch, "--config-file", str(config)) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "belong to another model" in message
    assert "--allow-partial-weights" in message
    option = "--allow-partial-weights"
    assert exit_code_of(monkeypatch, "--config-file", str(config), option) == 0
    assert last_checkpoint(train_cfg.OUTPUT_DIR)
