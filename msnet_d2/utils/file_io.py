"""Writing files that are never half there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from msnet_d2.errors import OutputError

__all__ = ["replacing", "umask", "write_bytes", "write_json", "write_text"]


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
    """Write ``content``; whatever happens meanwhile, ``path`` is as it was or complete.

    Raises:
        OutputError: if it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` when the block ends.

    Until then it has a name of its own beside it. If the block fails it is removed; if the process
    is killed it stays behind, and ``path`` is as it was. After the block the content is on the
    disk, also if the power fails.

    Args:
        path: of the file; its folder is made if it is not there.

    Raises:
        OutputError: if it cannot be written, by the block or here.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; what was there before is unchanged. "
            "Free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _sync_folder(folder: Path) -> None:
    """Put a new name on the disk, where the system can (Windows opens no folders)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def umask() -> int:
    """Permissions that new files get, which mkstemp does not follow; setting is the way to read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
