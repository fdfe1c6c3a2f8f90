"""From a config file and overrides to a config that is ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg

from msnet_d2.config.defaults import add_msnet_config
from msnet_d2.config.paths import find_config
from msnet_d2.config.ranges import check_ranges
from msnet_d2.config.renamed_keys import accept_srn_switch, apply_srn_switch, rename_in_opts
from msnet_d2.config.yaml_files import (
    explain_config_error,
    keys_of,
    merge_config_file,
    unknown_key,
)
from msnet_d2.errors import ConfigError
from msnet_d2.projects import InstalledProject, installed_projects
from msnet_d2.utils.file_io import write_text

__all__ = [
    "CONFIG_FILE",
    "get_msnet_cfg",
    "load_config",
    "write_config",
]

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
# Of torch's devices, those that compute.
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def get_msnet_cfg(config_file: str | Path | None = None, opts: Sequence[Any] = ()) -> CfgNode:
    """Detectron2's default config with the keys of this package and of all projects.

    Args:
        config_file: merged in if given: a path, or the name of one of this project's files (see
            :func:`msnet_d2.config.config_path`).
        opts: flat list of keys and values, as on Detectron2's command line.

    Raises:
        ConfigError: if the file or an override cannot be used; for an unknown key it names the
            nearest one.
    """
    cfg = get_cfg()
    add_msnet_config(cfg)
    for installed in installed_projects():
        _add_project_config(cfg, installed)
    accept_srn_switch(cfg)
    if config_file is not None:
        # Not cfg.merge_from_file, which runs Python code that a file may hold.
        merge_config_file(cfg, find_config(config_file))
    opts = rename_in_opts(opts)
    known = set(keys_of(cfg))
    unknown = next((key for key in opts[::2] if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{unknown_key(str(unknown), cfg)}{_hint_on_order(opts)}")
    try:
        cfg.merge_from_list(_with_tuples(cfg, opts))
    except Exception as error:  # yacs raises several kinds
        raise ConfigError(explain_config_error(error, cfg)) from error
    apply_srn_switch(cfg)
    return cfg


def load_config(
    config_file: str | Path, opts: Sequence[Any] = (), *, device: str | None = None
) -> CfgNode:
    """:func:`get_msnet_cfg` for a run: its device checked, and frozen.

    Where the file asks for CUDA and there is none, the CPU is used, with a warning.

    Args:
        config_file: a path, also of the ``config.yaml`` that training writes, or the name of one of
            this project's files, such as ``"msnet_R50_FPN.yaml"``.
        opts: flat list of keys and values, as on Detectron2's command line.
        device: overrides ``MODEL.DEVICE``.

    Raises:
        ConfigError: as :func:`get_msnet_cfg`; if the chosen device is not there; if a value that
            prediction uses is out of its range, see :mod:`msnet_d2.config.ranges`.
    """
    cfg = get_msnet_cfg(config_file, opts)
    if device is not None:
        cfg.MODEL.DEVICE = device
    _check_device(cfg, chosen_here=device is not None or "MODEL.DEVICE" in list(opts)[::2])
    check_ranges(cfg)
    cfg.freeze()
    return cfg


def write_config(cfg: CfgNode) -> str:
    """Write ``cfg`` to ``OUTPUT_DIR/config.yaml``, as Detectron2 does.

    Keys of projects are left out where they have their defaults: the file can be read where a
    project that the model does not use is not installed.
    """
    path = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    own = get_cfg()
    add_msnet_config(own)
    written = cfg.clone()
    written.defrost()
    _drop_defaults(written, own, get_msnet_cfg())
    write_text(path, written.dump())
    return path


def _drop_defaults(cfg: CfgNode, own: CfgNode, defaults: CfgNode) -> None:
    """Remove the keys of ``cfg`` that ``own`` lacks and that are as in ``defaults``."""
    for key in list(cfg):
        if key in own and isinstance(own[key], CfgNode):
            _drop_defaults(cfg[key], own[key], defaults[key])
        elif key not in own and cfg[key] == defaults.get(key):
            del cfg[key]


def _check_device(cfg: CfgNode, *, chosen_here: bool) -> None:
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE!r} is none of torch's devices"
        ) from error
    if device.type not in _DEVICES:
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}; expected one of {', '.join(_DEVICES)}"
        )
    if device.type != "cuda" or torch.cuda.is_available():
        return
    if chosen_here:
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but torch finds no CUDA here; try cpu"
        )
    logger.warning("No CUDA here: MODEL.DEVICE is cpu instead of %s", cfg.MODEL.DEVICE)
    cfg.MODEL.DEVICE = "cpu"


def _with_tuples(cfg: CfgNode, opts: list[Any]) -> list[Any]:
    """Overrides in which one name stands for a tuple of one, as in ``DATASETS.TEST a:val``."""
    fixed = list(opts)
    for index in range(0, len(opts) - 1, 2):
        section, _, key = opts[index].partition(".")
        value = opts[index + 1]
        takes_several = opts[index] == "TEST.EVALUATORS" or (
            section == "DATASETS" and isinstance(cfg.DATASETS.get(key), (tuple, list))
        )
        if takes_several and isinstance(value, str) and value[:1] not in ("(", "["):
            fixed[index + 1] = (value,) if value else ()
    return fixed


def _hint_on_order(opts: list[Any]) -> str:
    """Detectron2's command line takes everything from the first KEY on as overrides."""
    late = next((opt for opt in opts if isinstance(opt, str) and opt.startswith("--")), None)
    return f" (write {late} before the first KEY VALUE pair)" if late else ""


def _add_project_config(cfg: CfgNode, installed: InstalledProject) -> None:
    """Add a project's keys; a project that fails leaves the config as it was."""
    reference = installed.usable and installed.usable.add_config
    add_config = installed.load(reference) if reference else None
    if add_config is None:
        return
    extended = cfg.clone()
    try:
        add_config(extended)
        _check_only_added(cfg, extended)
    except (Exception, SystemExit) as error:
        installed.fail(error)
    else:
        cfg.update(extended)


def _check_only_added(cfg: CfgNode, extended: CfgNode, prefix: str = "") -> None:
    """Refuse keys of others that a project has changed or removed."""
    for key, value in cfg.items():
        name, now = f"{prefix}{key}", extended.get(key)
        if isinstance(value, CfgNode) and isinstance(now, CfgNode):
            _check_only_added(value, now, f"{name}.")
        elif key not in extended or type(value) is not type(now) or value != now:
            raise ValueError(f"its add_config changes {name}, a key of others")
