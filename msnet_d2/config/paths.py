"""Where config files are: those of this package, and those of projects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msnet_d2.errors import ConfigError
from msnet_d2.projects import installed_projects

__all__ = ["config_path", "find_base", "find_config"]


def config_path(name: str) -> Path:
    """Path of a config file of this package or of a project, in a checkout or installed.

    Args:
        name: path below a folder ``configs/``, such as ``"msnet_R50_FPN.yaml"``.

    Raises:
        ConfigError: if there is no such file, with those that exist; if two projects have one.
    """
    own = [root for root in _own_folders() if (root / name).is_file()]
    theirs = [root for root in _project_folders() if (root / name).is_file()]
    if not own and len(theirs) > 1:
        raise ConfigError(
            f"several projects have a config file {name!r}; give the path of one: "
            f"{', '.join(str(root / name) for root in theirs)}"
        )
    for root in own or theirs:
        return root / name
    roots = [*_own_folders(), *_project_folders()]
    known = sorted(str(p.relative_to(root)) for root in roots for p in root.rglob("*.yaml"))
    raise ConfigError(f"there is no config file {name!r}; there are: {', '.join(known) or 'none'}")


def find_config(config_file: str | Path) -> Path:
    """Path of a config file given by path or by name.

    Raises:
        ConfigError: if none is given or there is no such file.
    """
    if not str(config_file):
        raise ConfigError("no config: give `config_file`, such as quick/msnet_lite0_FPN.yaml")
    path = Path(config_file)
    return path if path.exists() else config_path(str(config_file))


def find_base(base: str, beside: Path) -> Path:
    """Path of the file that a config names as its ``_BASE_``.

    Args:
        base: a path, relative to the config that names it, or a name as of :func:`config_path`.
        beside: the folder of the config that names it.

    Returns:
        The path. The file may not exist.
    """
    path = beside / Path(base).expanduser()
    if path.exists():
        return path
    for root in (*_own_folders(), *_project_folders()):
        if (root / base).is_file():
            return root / base
    return path


def _own_folders() -> Iterator[Path]:
    package = Path(__file__).resolve().parents[1]
    yield from (f for f in (package.parent / "configs", package / "configs") if f.is_dir())


def _project_folders() -> Iterator[Path]:
    for installed in installed_projects():
        yield from installed.config_folders()
