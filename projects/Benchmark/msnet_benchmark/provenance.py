"""Where metrics come from (command, commit, versions, hardware), and writing them down."""

from __future__ import annotations

import math
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import msnet_d2
from msnet_d2 import __version__
from msnet_d2.utils.file_io import write_json
from msnet_d2.utils.redact import redact_paths

__all__ = ["describe_hardware", "describe_run", "provenance_lines", "write_report"]

_PACKAGES = ("torch", "torchvision", "numpy", "timm", "pycocotools", "faster-coco-eval")


def describe_run() -> dict:
    """Command line, commit, versions and hardware of this process."""
    return {
        "command": _command(),
        "commit": _commit(),
        "versions": _versions(),
        "hardware": describe_hardware(),
    }


def provenance_lines(run: dict) -> list[str]:
    """:func:`describe_run` as Markdown list items."""
    hardware = run["hardware"]
    device = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} threads"
    return [
        f"- command: `{run['command']}`",
        f"- commit: {run['commit'] or 'unknown (no git checkout)'}",
        f"- hardware: {device}",
        f"- versions: {', '.join(f'{name} {v}' for name, v in run['versions'].items())}",
    ]


def describe_hardware() -> dict:
    """Processor, threads that torch uses, memory and, if torch finds one, GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_report(path: str | Path, content: Any) -> None:
    """Write JSON, with null for NaN and text for paths; complete or not at all."""
    write_json(path, _plain(content))


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return str(content) if isinstance(content, Path) else content


def _command() -> str:
    words = list(sys.argv)
    if words:
        words[0] = "msnet" if Path(words[0]).stem in ("msnet", "__main__") else Path(words[0]).name
    # Reports are handed on: names of files, not where somebody keeps them.
    return shlex.join(redact_paths(word, word) for word in words)


def _commit() -> str | None:
    """Commit of the checkout that msnet_d2 is in, "+changes" if files differ from it."""
    folder = Path(msnet_d2.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(
            folder, "status", "--porcelain", "--untracked-files=no", "--", "msnet_d2", "configs"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    import detectron2

    versions = {"msnet_d2": __version__, "python": platform.python_version()}
    versions["detectron2"] = detectron2.__version__
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return round(pages / 2**30, 1)
