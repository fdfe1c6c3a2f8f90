"""From a config file and overrides to a config that is ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode

import msnet_d2.data
from msnet_d2.config.defaults import config_path, get_msnet_cfg
from msnet_d2.config.yaml_files import (
    explain_config_error,
    keys_of,
    merge_config_file,
    unknown_key,
)
from msnet_d2.errors import ConfigError, DatasetError, InputError
from msnet_d2.utils.file_io import write_text

__all__ = [
    "checkpoint_to_resume",
    "find_config",
    "last_checkpoint",
    "load_config",
    "resolve_datasets",
    "trained_weights",
    "write_config",
]

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"


def load_config(
    config_file: str | Path, opts: Sequence[str] = (), *, device: str | None = None
) -> CfgNode:
    """Config of this project with a file and overrides merged in, frozen.

    Where the file asks for CUDA and there is none, the CPU is used, with a warning.

    Args:
        config_file: a path, also of the ``config.yaml`` that training writes, or the name of one of
            this project's files, such as ``"msnet_R50_FPN.yaml"``.
        opts: flat list of keys and values, as on Detectron2's command line.
        device: overrides ``MODEL.DEVICE``.

    Raises:
        ConfigError: if the file or an override cannot be used; for an unknown key it names the
            nearest one.
    """
    # Where the `msnet` command starts, nothing is registered yet.
    msnet_d2.register()
    cfg = get_msnet_cfg()
    path = find_config(config_file)
    merge_config_file(cfg, path)
    opts = list(opts)
    known = set(keys_of(cfg))
    unknown = next((key for key in opts[::2] if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{unknown_key(unknown, cfg)}{_hint_on_order(opts)}")
    try:
        cfg.merge_from_list(_with_tuples(cfg, opts))
    except Exception as error:
        raise ConfigError(explain_config_error(error, cfg)) from error
    if device is not None:
        cfg.MODEL.DEVICE = device
    _check_device(cfg, chosen_here=device is not None or "MODEL.DEVICE" in opts[::2])
    cfg.freeze()
    return cfg


def find_config(config_file: str | Path) -> Path:
    """Path of a config file given by path or by name.

    Raises:
        ConfigError: if none is given or there is no such file.
    """
    if not str(config_file):
        raise ConfigError("no config: give --config-file, such as quick/msnet_lite0_FPN.yaml")
    path = Path(config_file)
    return path if path.exists() else config_path(str(config_file))


def resolve_datasets(cfg: CfgNode, *, for_training: bool = True) -> CfgNode:
    """Copy of ``cfg`` whose ``DATASETS.TRAIN`` and ``TEST`` hold registered names alone.

    Specs such as ``output/demo/data:train`` are registered on the way; names stay as they are.

    Args:
        cfg: a config.
        for_training: whether ``DATASETS.TRAIN`` must be there. A model is evaluated elsewhere than
            where it was trained, and then what cannot be found stays as it is.

    Raises:
        DatasetError: for a spec that cannot be resolved.
    """
    resolved = cfg.clone()
    resolved.defrost()
    for key in ("TRAIN", "TEST"):
        try:
            names = msnet_d2.data.resolve_datasets(cfg.DATASETS[key])
        except DatasetError:
            if key == "TEST" or for_training:
                raise
            continue
        resolved.DATASETS[key] = tuple(dict.fromkeys(names))
    if cfg.is_frozen():
        resolved.freeze()
    return resolved


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
            "--resume, or set OUTPUT_DIR to the folder of the run to continue"
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


def write_config(cfg: CfgNode) -> str:
    """Write the whole of ``cfg`` to ``OUTPUT_DIR/config.yaml``, as Detectron2 does."""
    path = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    write_text(path, cfg.dump())
    return path


def _check_device(cfg: CfgNode, *, chosen_here: bool) -> None:
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE!r} is none of torch's devices"
        ) from error
    if device.type != "cuda" or torch.cuda.is_available():
        return
    if chosen_here:
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but torch finds no CUDA here; try cpu"
        )
    logger.warning("No CUDA here: MODEL.DEVICE is cpu instead of %s", cfg.MODEL.DEVICE)
    cfg.MODEL.DEVICE = "cpu"


def _with_tuples(cfg: CfgNode, opts: list[str]) -> list[str]:
    """Overrides in which one data set stands for a tuple of one, as in ``DATASETS.TEST a:val``."""
    fixed = list(opts)
    for index in range(0, len(opts) - 1, 2):
        section, _, key = opts[index].partition(".")
        value = opts[index + 1]
        takes_several = section == "DATASETS" and isinstance(cfg.DATASETS.get(key), (tuple, list))
        if takes_several and isinstance(value, str) and value[:1] not in ("(", "["):
            fixed[index + 1] = (value,) if value else ()
    return fixed


def _hint_on_order(opts: list[str]) -> str:
    """Detectron2's command line takes everything from the first KEY on as overrides."""
    late = next((opt for opt in opts if opt.startswith("--")), None)
    return f" (write {late} before the first KEY VALUE pair)" if late else ""
