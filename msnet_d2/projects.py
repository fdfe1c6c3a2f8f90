"""Projects that plug in: packages with an entry point in the group ``msnet_d2.projects``.

A project is one installable folder of ``projects/``, or anybody's package. Its entry point names a
:class:`Project`, whose module must be light to import: every ``msnet`` command reads it. A project
that cannot be loaded disturbs only itself; ``msnet doctor`` shows why.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msnet_d2.errors import ConfigError

__all__ = [
    "GROUP",
    "InstalledProject",
    "Project",
    "broken_projects",
    "find_registered",
    "import_object",
    "installed_projects",
    "project_commands",
    "register",
]

logger = logging.getLogger(__name__)

GROUP = "msnet_d2.projects"
# What this package itself registers with Detectron2 and with its own registries.
_OWN_COMPONENTS = (
    "msnet_d2.data",
    "msnet_d2.evaluation",
    "msnet_d2.modeling",
    "msnet_d2.score_refinement",
)
# What the code of strangers may raise. Ctrl-C stays the user's.
_FAILURES = (Exception, SystemExit)


@dataclass(frozen=True)
class Project:
    """What a project brings. Objects are named as ``"module:name"`` and imported when needed.

    Attributes:
        title: one line for people.
        add_config: function that adds the project's keys to a config, in place.
        components: modules that register models, data sets, mappers, loaders, evaluators and video
            detectors when they are imported.
        commands: ``msnet`` subcommand -> module with ``HELP``, ``add_arguments`` and ``run``, as
            those of :mod:`msnet_d2.cli`.
        bench_methods: mapping of methods for a benchmark to compare, by name.
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
        error: why it, or part of it, could not be loaded; empty if it could. Nothing of a project
            with an error is used.
    """

    name: str
    package: str
    version: str = ""
    project: Project | None = None
    error: str = ""

    @property
    def usable(self) -> Project | None:
        """What it brings; None if it, or part of it, could not be loaded."""
        return None if self.error else self.project

    def fail(self, error: BaseException) -> None:
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
        except _FAILURES as error:
            self.fail(error)
            return None

    def config_folders(self) -> Iterator[Path]:
        """Where its config files are: in the package, or beside it in a checkout."""
        try:
            spec = importlib.util.find_spec(self.package)
        except (ImportError, ValueError):
            return
        for here in map(Path, (spec and spec.submodule_search_locations) or ()):
            beside = [here.parent / "configs"] if (here.parent / "pyproject.toml").exists() else []
            yield from (folder for folder in (here / "configs", *beside) if folder.is_dir())


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
        except _FAILURES as error:
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
            if installed.usable:
                installed.load(module)


def project_commands(taken: Collection[str]) -> Iterator[tuple[str, Any, InstalledProject]]:
    """The subcommands of projects: name, imported module, and whose it is.

    A project whose command has a name that is ``taken``, or is another project's, is left out.
    """
    owners = dict.fromkeys(taken, "msnet_d2")
    for installed in installed_projects():
        commands = installed.usable.commands if installed.usable else {}
        for name in commands:
            if name in owners:
                installed.fail(ValueError(f"its command {name} is one of {owners[name]}"))
        modules = {name: installed.load(m) for name, m in commands.items() if installed.usable}
        yield from ((n, m, installed) for n, m in modules.items() if installed.usable)
        if installed.usable:
            owners.update(dict.fromkeys(modules, installed.name))


def broken_projects() -> str:
    """For messages on something unknown: the projects that could not be loaded; often empty."""
    broken = [f"{p.name} ({p.error})" for p in installed_projects() if p.error]
    return f"these projects could not be loaded: {', '.join(broken)}" if broken else ""


def find_registered(registry: Any, name: str, key: str) -> Any:
    """The object ``name`` of a registry.

    Args:
        registry: of fvcore.
        name: what the user asks for.
        key: the config key that says so, for the message.

    Raises:
        ConfigError: if there is none of this name; it lists those that there are.
    """
    if name in registry:
        return registry.get(name)
    known = sorted(known for known, _ in registry)
    near = difflib.get_close_matches(str(name), known, n=1)
    advice = f"did you mean {near[0]}? There are" if near else "there are"
    broken = f"; {broken_projects()}" if broken_projects() else ""
    raise ConfigError(f"{key} is {name!r}; {advice}: {', '.join(known)}{broken}")
