"""From a config file and overrides to a config that is ready to run."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode

import msnet_d2.data
from msnet_d2.config import config_path, get_msnet_cfg
from msnet_d2.errors import ConfigError, InputError
from msnet_d2.files import write_text

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
    try:
        # Safe YAML only: Detectron2's default would run Python code that a file may hold.
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except Exception as error:
        raise ConfigError(f"{path}: {_explain(error, cfg)}") from error
    opts = list(opts)
    known = set(_keys(cfg))
    unknown = next((key for key in opts[::2] if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{_unknown_key(unknown, cfg)}{_hint_on_order(opts)}")
    try:
        cfg.merge_from_list(_with_tuples(cfg, opts))
    except Exception as error:
        raise ConfigError(_explain(error, cfg)) from error
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
    return path if path.is_file() else config_path(str(config_file))


def resolve_datasets(cfg: CfgNode) -> CfgNode:
    """Copy of ``cfg`` whose ``DATASETS.TRAIN`` and ``TEST`` hold registered names alone.

    Specs such as ``output/demo/data:train`` are registered on the way; names stay as they are.

    Raises:
        DatasetError: for a spec that cannot be resolved.
    """
    resolved = cfg.clone()
    resolved.defrost()
    for key in ("TRAIN", "TEST"):
        names = msnet_d2.data.resolve_datasets(cfg.DATASETS[key])
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


def _explain(error: Exception, cfg: CfgNode) -> str:
    """One line on what is wrong with a config, from what yacs or yaml raised."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", text)
    if unknown:
        return _unknown_key(unknown[1], cfg)
    if isinstance(error, yaml.constructor.ConstructorError):
        return f"refused, since it would run code or build objects when loaded ({error.problem})"
    if isinstance(error, yaml.YAMLError):
        return f"not YAML: {' '.join(str(error).split())}"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}: {error.filename}"
    if isinstance(error, (ValueError, AssertionError, KeyError)):
        return text
    return f"not a config: {text}"


def _unknown_key(key: str, cfg: CfgNode) -> str:
    near = _nearest(key, list(_keys(cfg)))
    return f"unknown config key {key}" + (f"; did you mean {near}?" if near else "")


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


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")


def _nearest(key: str, known: list[str]) -> str | None:
    """The known key most like ``key``: as a whole, or else by its last word."""
    by_upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(key.upper(), by_upper, n=1, cutoff=0.75)
    if near:
        return by_upper[near[0]]
    by_last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2].upper(), by_last, n=1, cutoff=0.8)
    return by_last[near[0]] if near else None
