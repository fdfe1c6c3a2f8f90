"""Which checkpoint training goes on from, and which one a trained model is used with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from msnet_d2.config import find_config
from msnet_d2.config.load import CONFIG_FILE
from msnet_d2.errors import ConfigError, InputError

__all__ = ["checkpoint_to_resume", "last_checkpoint", "trained_weights"]

logger = logging.getLogger(__name__)


def last_checkpoint(folder: str | Path) -> str | None:
    """The checkpoint that training wrote last into ``folder``; None where there is none.

    Raises:
        InputError: if ``last_checkpoint`` names a file that is not there.
    """
    tag = Path(folder) / "last_checkpoint"
    if not tag.is_file():
        return None
    path = Path(folder) / tag.read_text(encoding="utf-8").strip()
    if not path.is_file():
        raise InputError(f"{tag} names {path.name}, which is not there")
    return str(path)


def checkpoint_to_resume(cfg: CfgNode) -> str:
    """The last checkpoint in ``OUTPUT_DIR``.

    Raises:
        ConfigError: if there is none. (Detectron2 starts afresh then.)
    """
    checkpoint = last_checkpoint(cfg.OUTPUT_DIR)
    if checkpoint is None:
        raise ConfigError(
            f"nothing to resume: OUTPUT_DIR {cfg.OUTPUT_DIR} holds no checkpoint; leave out "
            "`resume`, or set OUTPUT_DIR to the folder of the run to continue"
        )
    return checkpoint


def trained_weights(
    cfg: CfgNode, config_file: str | Path, opts: Sequence[str] = (), *, resume: bool = False
) -> str:
    """Weights to use a trained model with.

    ``MODEL.WEIGHTS`` of a config that training wrote is what that training began with. So where
    such a file is given and the command line names no weights, its last checkpoint is taken.

    Args:
        cfg: the loaded config.
        config_file: where it came from.
        opts: overrides of the command line.
        resume: take the last checkpoint in ``OUTPUT_DIR``, as Detectron2's ``--resume`` does.

    Raises:
        ConfigError: if ``resume`` and there is no checkpoint.
    """
    if resume:
        return checkpoint_to_resume(cfg)
    path = find_config(config_file)
    if path.name == CONFIG_FILE and "MODEL.WEIGHTS" not in list(opts)[::2]:
        checkpoint = last_checkpoint(path.parent)
        if checkpoint is not None:
            logger.info("Weights: %s, the last of the training that wrote %s", checkpoint, path)
            return checkpoint
    return cfg.MODEL.WEIGHTS
