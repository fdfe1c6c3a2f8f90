"""Projects that plug in: packages with an entry point in the group ``msnet_d2.projects``.

A project is one installable folder of ``projects/``, or anybody's package. Its entry point names a
:class:`Project`, whose module must be light to import: every ``msnet`` command reads it. A project
that cannot be loaded disturbs only itself; ``msnet doctor`` shows why.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "GROUP",
    "InstalledProject",
    "Project",
    "import_object",
    "installed_projects",
    "register",
]

logger = logging.getLogger(__name__)

GROUP = "msnet_d2.projects"
# What this package itself registers with Detectron2 and with its own registries.
_OWN_COMPONENTS = ("msnet_d2.data", "msnet_d2.modeling", "msnet_d2.score_refinement")


@dataclass(frozen=True)
class Project:
    """What a project brings. Objects are named as ``"module:name"`` and imported when needed.

    Attributes:
        title: one line for people.
        add_config: function that adds the project's keys to a config, in place.
        components: modules that register models, mappers, evaluators, loaders and video detectors
            when they are imported.
        commands: ``msnet`` subcommand -> module with ``HELP``, ``add_arguments`` and ``run``, as
            those of :mod:`msnet_d2.cli`.
        bench_methods: mapping of methods that ``msnet bench`` compares, by name.
    """

    title: str
    add_config: str | None = None
    components: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    bench_methods: str | None = None


@dataclass
class InstalledProject:
    """A project of this environment.

    Attributes:
        name: of its entry point.
        package: its Python package.
        version: of its distribution; empty if unknown.
        project: what it brings; None if it could not be loaded.
        error: why it, or part of it, could not be loaded; empty if it could.
    """

    name: str
    package: str
    version: str = ""
    project: Project | None = None
    error: str = ""

    def fail(self, error: Exception) -> None:
        """Note why the project is out of use; the first reason stays."""
        if not self.error:
            self.error = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            logger.warning(
                "The project %s is left out: %s (msnet doctor says more)", self.name, self.error
            )

    def load(self, reference: str) -> Any:
        """The object ``"module:name"`` or module of this project; None if it cannot be imported."""
        try:
            return import_object(reference)
        except Exception as error:
            self.fail(error)
            return None

    def config_folders(self) -> Iterator[Path]:
        """Where its config files are: in the package, or beside it in a checkout."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            return
        here = Path(spec.origin).parent
        yield from (f for f in (here / "configs", here.parent / "configs") if f.is_dir())


@functools.cache
def installed_projects() -> tuple[InstalledProject, ...]:
    """The projects of this environment, those that cannot be loaded included, by name."""
    found = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name in found:
            continue
        package = entry.value.partition(":")[0].partition(".")[0]
        version = entry.dist.version if entry.dist else ""
        installed = found[entry.name] = InstalledProject(entry.name, package, version)
        try:
            project = entry.load()
            if not isinstance(project, Project):
                raise TypeError(f"{entry.value} is {type(project).__name__}, not a Project")
            installed.project = project
        except Exception as error:  # whatever a stranger's module raises
            installed.fail(error)
    return tuple(found[name] for name in sorted(found))


def import_object(reference: str) -> Any:
    """Import ``"module:name"``, or a module."""
    module, _, name = reference.partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, name) if name else imported


def register() -> None:
    """Import the components of this package and of all projects; repeating it changes nothing.

    :func:`msnet_d2.config.add_msnet_config` calls this.
    """
    for module in _OWN_COMPONENTS:
        importlib.import_module(module)
    for installed in installed_projects():
        for module in installed.project.components if installed.project else ():
            if not installed.error:
                installed.load(module)
