"""Detectron2's LazyConfigs, which are programs, loaded with care.

The commands of this project take YAML alone. Who builds from LazyConfigs in Python loads them here:
a file from elsewhere is run only when its user says so, and whatever the file, what it names to be
built (``_target_``) must be a part of a model, of data loading or of training.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from msnet_d2.config.yaml_files import read_config_file
from msnet_d2.errors import ConfigError

__all__ = ["ALLOWED_TARGETS", "check_targets", "load_lazy_config"]

# Modules, with all that is defined in them or below. None of it runs code that a config holds, or
# writes files of a name that a config gives.
ALLOWED_TARGETS = (
    "detectron2.data.build",
    "detectron2.data.dataset_mapper",
    "detectron2.data.samplers",
    "detectron2.data.transforms",
    "detectron2.evaluation",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.solver",
    "detectron2.structures",
    "fvcore.common.param_scheduler",
    "fvcore.transforms",
    "msnet_d2.data.loading.dataset_mapper",
    "msnet_d2.data.loading.samplers",
    "msnet_d2.data.loading.triplets",
    "msnet_d2.evaluation",
    "msnet_d2.modeling",
    "polarmask",
    "torch.nn",
    "torch.optim",
)
# These load pickles.
_REFUSED = ("detectron2.data.build.load_proposals_into_dataset",)
_REFUSED_ARGUMENTS = ("proposal_files",)


def load_lazy_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    trust_config: bool = False,
    allow: Sequence[str] = (),
) -> DictConfig:
    """Load a LazyConfig.

    Args:
        path: a ``.py`` file, which is run, or a ``.yaml`` file, which is not.
        overrides: such as ``train.max_iter=100``, in Hydra's syntax.
        trust_config: run a ``.py`` file although it is none of this project's or of Detectron2's.
        allow: further modules whose functions and classes may be targets, see
            :data:`ALLOWED_TARGETS`.

    Returns:
        The config; every ``_target_`` in it is allowed.

    Raises:
        ConfigError: if the file is missing or foreign, cannot be loaded, or names a target that is
            not allowed.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        cfg = OmegaConf.create(read_config_file(path), flags={"allow_objects": True})
    else:
        if not path.is_file():
            raise ConfigError(f"there is no config {path}")
        real = path.resolve()
        if not trust_config and not any(real.is_relative_to(folder) for folder in _own_folders()):
            raise ConfigError(
                f"{path} is Python code from outside of this project, which runs when it is loaded;"
                " read it, and if you trust it, pass trust_config=True"
            )
        try:
            cfg = LazyConfig.load(str(path))
        except Exception as error:
            raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if overrides:
        try:
            import hydra  # noqa: F401  (without it Detectron2 would evaluate overrides as code)

            cfg = LazyConfig.apply_overrides(cfg, list(overrides))
        except Exception as error:
            raise ConfigError(
                f"the overrides {' '.join(overrides)} cannot be applied: {error}"
            ) from error
    check_targets(cfg, allow)
    return cfg


def check_targets(cfg: Any, allow: Sequence[str] = ()) -> None:
    """Refuse a config that would build what is not allowed.

    Args:
        cfg: of LazyConfig, or a part of one.
        allow: further modules, see :func:`load_lazy_config`.

    Raises:
        ConfigError: with the first target that is not allowed, and where it stands.
    """
    _check_node(cfg, "", (*ALLOWED_TARGETS, *allow))


def _check_node(node: Any, where: str, allowed: tuple[str, ...]) -> None:
    if isinstance(node, (DictConfig, dict)):
        items = node.items_ex(resolve=False) if isinstance(node, DictConfig) else node.items()
        for key, value in items:
            place = f"{where}.{key}" if where else str(key)
            if key == "_target_":
                _check_target(value, place, allowed)
            elif key in _REFUSED_ARGUMENTS and value is not None:
                raise ConfigError(f"{place}: refused, since Detectron2 would load it as a pickle")
            else:
                _check_node(value, place, allowed)
    elif isinstance(node, (ListConfig, list, tuple)):
        items = node._iter_ex(resolve=False) if isinstance(node, ListConfig) else node
        for index, value in enumerate(items):
            _check_node(value, f"{where}[{index}]", allowed)


def _check_target(target: Any, where: str, allowed: tuple[str, ...]) -> None:
    name = target if isinstance(target, str) else _name_of(target)
    # The module that it is named in, before anything of it is imported; then the one that it comes
    # from, since modules also have what they import.
    if _is_below(name, allowed):
        found = _find(name) if isinstance(target, str) else target
        if (
            (inspect.isclass(found) or inspect.isroutine(found))
            and _is_below(_name_of(found), allowed)
            and _name_of(found) not in _REFUSED
        ):
            return
    raise ConfigError(
        f"{where} is {str(name)[:80]!r}, which is no part of a model, of data loading or of "
        f"training that may be built from a config; allowed are {', '.join(allowed)}"
    )


def _is_below(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in allowed)


def _name_of(target: Any) -> str:
    return f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', target)}"


def _find(name: str) -> Any:
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None


def _own_folders() -> list[Path]:
    """Folders whose Python configs are this project's own, or Detectron2's."""
    import detectron2.model_zoo

    here = Path(__file__).resolve().parent
    zoo = Path(detectron2.model_zoo.__file__).resolve().parent / "configs"
    return [here.parent / "configs", here / "configs", zoo]
