"""Writing files that are never half there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["write_bytes", "write_json", "write_text"]


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON, see :func:`write_text`.

    Raises:
        ValueError: if ``content`` holds NaN or infinity, which JSON does not know.
    """
    # json.dump would write token by token and take five times as long.
    write_text(path, json.dumps(content, allow_nan=False))


def write_text(path: str | Path, text: str) -> None:
    """Write ``text``; whatever happens meanwhile, ``path`` is as it was or complete."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content``; whatever happens meanwhile, ``path`` is as it was or complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    """Permissions that new files get, which mkstemp does not follow; setting is the way to read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
