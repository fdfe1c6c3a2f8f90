"""How much memory a function takes at most, as the operating system counts it (Linux alone)."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["peak_mib", "resident_mib"]


def peak_mib(action: Callable[[], object]) -> float:
    """MiB by which the process's memory rises at most while ``action`` runs.

    Raises:
        OSError: where the system does not count it.
    """
    gc.collect()
    # What is free goes back first, so that the rise is seen; glibc alone can.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mib()
    action()
    return max(resident_mib("VmHWM") - before, 0.0)


def resident_mib(field: str = "VmRSS") -> float:
    """MiB that the process holds now, or with "VmHWM" held at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024
