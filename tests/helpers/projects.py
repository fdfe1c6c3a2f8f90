"""Projects made up for a test: packages with an entry point, on the path while the test runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msnet_d2.projects import GROUP, installed_projects

PLUGIN = """
from msnet_d2.projects import Project
PROJECT = Project(title="made up for a test", {brings})
"""


def write_project(folder: Path, name: str, brings: str = "", **modules: str) -> None:
    """Install the project ``name`` into ``folder``, as pip would: a package and its metadata.

    Args:
        folder: to be on Python's path.
        name: of the entry point; the package has it in lower case.
        brings: arguments of ``Project`` beside the title, as source text.
        modules: source text of modules, by their names without the package; "plugin" may be one.
    """
    package = name.lower()
    (folder / package).mkdir(parents=True)
    for module, text in {
        "__init__": "",
        "plugin": PLUGIN.format(brings=brings),
        **modules,
    }.items():
        (folder / package / f"{module}.py").write_text(text)
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {package}.plugin:PROJECT\n")


@pytest.fixture
def add_project(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """:func:`write_project` for this test and this process alone."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)

    def add(name: str, brings: str = "", **modules: str) -> None:
        write_project(folder, name, brings, **modules)
        installed_projects.cache_clear()

    installed_projects.cache_clear()
    yield add
    installed_projects.cache_clear()
    made = {path.name for path in folder.iterdir()}
    for module in set(sys.modules) - before:
        if module.partition(".")[0] in made:
            del sys.modules[module]
