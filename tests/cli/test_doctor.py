"""`msnet doctor` on installations that are broken in the ways users meet."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from msnet_d2.cli import main
from msnet_d2.cli.doctor import diagnose, install_detectron2_command


def importer_without(*names: str, error: Exception | None = None):
    """An importer that fails for the modules ``names`` and what is below them."""

    def import_module(name: str):
        if any(name == n or name.startswith(n + ".") for n in names):
            raise error or ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importlib.import_module(name)

    return import_module


def finding(findings, name):
    return next(f for f in findings if f.name == name)


def test_this_installation_is_whole():
    findings = diagnose()
    assert [f for f in findings if f.status == "broken"] == []
    assert finding(findings, "components").detail == "registered with Detectron2"
    assert "detectron2" in finding(findings, "detectron2").detail


@pytest.mark.parametrize(
    ("missing", "name", "remedy"),
    [
        (
            "detectron2",
            "detectron2",
            "sal-detectron2",
        ),  # the commonest: it is on no index under its own name
        ("torch", "torch", "pytorch.org"),
        ("cv2", "cv2", "opencv-python-headless"),  # the import name is not the package's
    ],
)
def test_missing_package_is_broken_and_has_a_remedy(missing, name, remedy):
    found = finding(diagnose(importer_without(missing)), name)
    assert found.status == "broken"
    assert remedy in found.remedy


def test_without_pkg_resources_setuptools_is_a_note():
    # setuptools 82 removed it; this package runs without.
    found = finding(diagnose(importer_without("pkg_resources")), "setuptools")
    assert found.status == "note"
    assert "setuptools<81" in found.remedy


def test_operators_that_are_there_but_cannot_be_loaded_are_told_from_absent_ones(monkeypatch):
    error = ImportError("undefined symbol: _ZN3c10")
    without = importer_without("detectron2._C", error=error)
    assert finding(diagnose(without), "detectron2._C").detail.startswith("absent: ")
    monkeypatch.setattr("msnet_d2.cli.doctor._is_there", lambda module: True)
    found = finding(diagnose(without), "detectron2._C")
    assert found.detail.startswith("present, but cannot be loaded (ImportError: undefined symbol")
    assert found.status == "note"
    assert "rebuild Detectron2" in found.remedy


EXTRAS = {"fast", "timm", "quick", "video", "map", "ray", "panoptic", "tracking"}


def test_every_package_of_the_extras_that_commands_use_has_a_line():
    findings = {f.name for f in diagnose()}
    wanted = set()
    for requirement in importlib.metadata.requires("msnet_d2"):
        package, _, marker = requirement.partition(";")
        extras = re.findall(r"extra == ['\"](\w+)['\"]", marker)
        if not extras or set(extras) & EXTRAS:
            wanted.add(re.match(r"[\w-]+", package)[0].replace("-", "_"))
    # Pillow and the like come with Detectron2 or say themselves what they need.
    assert wanted - {"opencv_python_headless", "pillow", "tabulate", "tqdm", "shtab"} <= findings


def test_optional_package_is_a_note_with_its_extra():
    found = finding(diagnose(importer_without("av")), "av")
    assert found.status == "note"
    assert "msnet_d2[video]" in found.remedy


def test_torchvision_of_another_torch_is_found_by_calling_it():
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    def import_module(name):
        if name == "torchvision.ops":
            return SimpleNamespace(nms=nms)
        return importlib.import_module(name)

    found = finding(diagnose(import_module), "torchvision")
    assert found.status == "broken"
    assert "reinstall the torchvision" in found.remedy


def test_compiled_operators_of_another_torch_are_named():
    error = ImportError("_C.so: undefined symbol: _ZN3c105ErrorC2E")
    found = finding(diagnose(importer_without("detectron2.modeling", error=error)), "detectron2")
    assert found.status == "broken"
    assert "built for another torch" in found.remedy


def test_install_command_names_this_python():
    assert install_detectron2_command().count(sys.executable) == 2


def test_command_prints_and_succeeds(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "All that MSNet needs is there." in out
    assert "torchvision" in out


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "detectron2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_import_without_detectron2_carries_the_remedy():
    code = BLOCKED + "import msnet_d2\nmsnet_d2.add_msnet_config"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "ImportError: msnet_d2 is a plugin for Detectron2" in result.stderr
    assert "msnet doctor" in result.stderr


def test_command_works_without_detectron2():
    code = BLOCKED + (
        "sys.argv = ['msnet', 'doctor']\nfrom msnet_d2.cli import main\nsys.exit(main(['doctor']))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 1, result.stderr
    assert "[FAIL] detectron2" in result.stdout
    assert "sal-detectron2" in result.stdout


def test_help_does_not_import_torch():
    code = (
        "import sys\nsys.argv = ['msnet', '--help']\nfrom msnet_d2.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "doctor" in result.stdout
