"""The package as others import it, and what its commands say on a plain run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import msnet_d2

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
    "OMP_NUM_THREADS": "1",
}
SILENCE = (
    "from msnet_d2.utils.third_party_warnings import silence_third_party_warnings\n"
    "silence_third_party_warnings()\n"
)


def run_python(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Another Python, as a user would start it: no options that pytest has set."""
    options = {"env": ENVIRONMENT, **options}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize("name", sorted(msnet_d2.__all__))
def test_every_export_is_there_and_public_where_it_is_defined(name):
    assert getattr(msnet_d2, name) is not None
    assert name in dir(msnet_d2)
    if name in msnet_d2._EXPORTS:
        assert name in sys.modules[msnet_d2._EXPORTS[name]].__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'HierarchicalRNP'"):
        _ = msnet_d2.HierarchicalRNP


def test_importing_is_light():
    code = "import sys, msnet_d2; sys.exit(bool({'torch', 'detectron2'} & set(sys.modules)))"
    assert run_python("-c", code).returncode == 0


@pytest.mark.parametrize("script", ["msnet.py", "other.py"])
def test_the_keys_come_with_the_components_and_touch_nothing_else(tmp_path, script):
    # Also in a script that is called as the command is.
    code = """
import sys
from detectron2.config import get_cfg
before = get_cfg().dump()
import msnet_d2, torch
msnet_d2.add_msnet_config(get_cfg())
assert not torch.cuda.is_initialized()
assert get_cfg().dump() == before
heavy = {"timm", "av", "faster_coco_eval", "msnet_d2.engine.trainer", "msnet_d2.video.pipeline",
         "synthetic_flights.scene"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from detectron2.modeling import META_ARCH_REGISTRY, PROPOSAL_GENERATOR_REGISTRY
assert "MSNet" in META_ARCH_REGISTRY
assert "HierarchicalRPN" in PROPOSAL_GENERATOR_REGISTRY
"""
    path = tmp_path / script
    path.write_text(code)
    done = run_python(str(path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(msnet_d2._MOVED))
def test_a_name_that_has_moved_says_where_to(name):
    with pytest.warns(
        FutureWarning, match="msnet_d2 does not export this any more: import .* from msnet_d2"
    ):
        assert getattr(msnet_d2, name) is not None


def test_importing_works_from_any_folder(tmp_path):
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(msnet_d2.__file__).parents[1])}
    code = "import msnet_d2; print(msnet_d2.__version__)"
    done = run_python("-c", code, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == msnet_d2.__version__, done.stderr


def test_the_training_command_shows_no_warnings_of_others(tmp_path):
    # Detectron2 and torch warn when they are imported, which would hide the one line.
    done = run_python("-m", "msnet_d2.train_net", "--config-file", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "there is no config file" in lines[0]


def test_a_process_that_is_started_drops_the_same_and_nothing_else():
    child = f"""{SILENCE}
import logging, warnings
warnings.warn("`torch.jit of this test` is deprecated")
warnings.warn("a new one")
log = logging.getLogger("torch.utils.cpp_extension")
log.warning("No CUDA runtime is found, using CUDA_HOME")
log.warning("another")
"""
    code = f"{SILENCE}\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "of this test" not in done.stderr
    assert "No CUDA" not in done.stderr
    assert "a new one" in done.stderr
    assert "another" in done.stderr


def test_who_asks_python_for_warnings_sees_all_of_them():
    code = f"{SILENCE}\nimport warnings\nwarnings.warn('`torch.jit.script` is deprecated')"
    done = run_python("-W", "default", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "torch.jit" in done.stderr


CHECKOUT = Path(msnet_d2.__file__).resolve().parents[1]


def files_below(folder: Path) -> set[Path]:
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what makes the package, and of what must stay out of it."""
    copy = tmp_path_factory.mktemp("package") / "checkout"
    unwanted = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build")
    for name in ("msnet_d2", "configs", "projects", "tests", "benchmarks"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    return copy


@pytest.fixture(scope="module")
def installed(checkout):
    """Folder that ``pip install .`` fills, without a network."""
    target = checkout.parent / "installed"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), "."],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_an_installed_copy_holds_every_file_that_a_checkout_has(checkout, installed):
    expected = {Path("msnet_d2") / p for p in files_below(checkout / "msnet_d2")}
    expected |= {Path("msnet_d2/configs") / p for p in files_below(checkout / "configs")}
    of_package = {p for p in files_below(installed) if p.parts[0] == "msnet_d2"}
    assert {p for p in of_package if p.suffix != ".pyc"} == expected


def test_the_wheel_holds_the_plugin_alone(installed):
    tops = {path.name for path in installed.iterdir()}
    assert tops - {"bin"} == {"msnet_d2", f"msnet_d2-{msnet_d2.__version__}.dist-info"}


def test_the_package_names_no_project(installed):
    names = {"synthetic_flights", "msnet_benchmark", "polarmask"}
    names |= {path.name.lower() for path in (CHECKOUT / "projects").iterdir() if path.is_dir()}
    # "benchmark" is a word, too: what names the project has its case, as in projects/Benchmark.
    pattern = re.compile(
        "|".join(sorted(names - {"benchmark"})) + r"|projects/Benchmark|msnet (synth|bench|demo)\b",
        re.IGNORECASE,
    )
    found = [
        f"{path.relative_to(installed)}:{number}: {line.strip()}"
        for path in sorted((installed / "msnet_d2").rglob("*"))
        if path.suffix in (".py", ".yaml", ".js", ".html")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
