"""Writing files that are never half there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from msnet_d2.errors import OutputError

__all__ = [
    "PendingFile",
    "hidden_beside",
    "replacing",
    "replacing_path",
    "write_bytes",
    "write_json",
    "write_text",
]


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


class PendingFile:
    """A file under a temporary name, which takes the place of ``target`` by :meth:`commit`.

    If the process is killed the temporary file stays behind, and ``target`` is as it was.

    Attributes:
        target: the path to be replaced.
        path: the temporary path, hidden beside it. The file is there, and empty.
    """

    def __init__(self, target: str | Path, suffix: str = ".tmp"):
        """Create the temporary file.

        Args:
            target: the path to be replaced. Its folder exists.
            suffix: of the temporary name.

        Raises:
            OSError: if it cannot be created.
        """
        self.target = Path(target)
        self.path = hidden_beside(self.target, suffix)
        self._pending = True
        # With the permissions of any new file; mkstemp's are the owner's alone.
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))

    def commit(self) -> None:
        """Put the content on the disk and give it its name; the writer has closed the file.

        Raises:
            OSError: if that fails; the temporary file is still there.
        """
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self._pending = False
        _sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the temporary file; without effect after :meth:`commit`, harmless to repeat."""
        if self._pending:
            self._pending = False
            with suppress(OSError):
                os.unlink(self.path)


@contextmanager
def replacing_path(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary path for the block to write, which takes the place of ``path`` when it ends.

    If the block fails, the temporary file is removed and ``path`` is as it was.

    Args:
        path: of the file; its folder is made if it is not there.
        suffix: of the temporary name, for writers that go by it.

    Raises:
        OutputError: if it cannot be written, by the block or here.
    """
    path = Path(path)
    pending = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pending = PendingFile(path, suffix)
        yield pending.path
        pending.commit()
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; what was there before is unchanged. "
            "Free some space or choose another place"
        ) from error
    finally:
        if pending is not None:
            pending.discard()


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """:func:`replacing_path`, with the temporary file open for writing.

    Raises:
        OutputError: if it cannot be written, by the block or here.
    """
    with replacing_path(path) as temporary, open(temporary, "wb") as file:
        yield file


def hidden_beside(path: Path, suffix: str) -> Path:
    """A hidden name that nothing beside ``path`` has, such as ``.a.json.3f9c.tmp``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


def _sync_folder(folder: Path) -> None:
    """Put a new name on the disk, where the system can (Windows opens no folders)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
