"""Reading files that are files and end, and writing files that are never half there."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from msnet_d2.errors import InputError, OutputError
from msnet_d2.utils.locks import hidden_name, is_unowned, own

__all__ = [
    "PendingFile",
    "check_regular_file",
    "hidden_beside",
    "leads_out",
    "parse_json",
    "read_json_file",
    "read_regular_file",
    "replacing",
    "replacing_path",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_text",
]


# COCO's 860,000 annotations take 450 MB, in 3.5 million lists and objects.
MAX_JSON_BYTES = 1 << 29
_MAX_CONTAINERS = 4_000_000
_MAX_VALUES = 32_000_000
# The name that :func:`hidden_beside` gives to temporary files, and its prefix.
_TEMPORARY = re.compile(r"(\..+\.)[0-9a-f]{8}\.(?:tmp|part)")


def check_regular_file(path: str | Path, max_bytes: int) -> int:
    """See that ``path`` can be read to its end: no folder, pipe, device or socket, and not huge.

    Links are followed. Call it before anything opens the file: opening a pipe waits for ever.

    Args:
        path: of the file.
        max_bytes: that it may have.

    Returns:
        Its size in bytes.

    Raises:
        InputError: if it is no regular file, or larger.
        OSError: if it is not there, or may not be looked at.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path} is a folder; expected a file")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no regular file but a pipe or a device")
    _check_size(path, found.st_size, max_bytes)
    return found.st_size


def read_regular_file(path: str | Path, max_bytes: int) -> bytes:
    """Read a file that somebody else made, see :func:`check_regular_file`.

    Raises:
        InputError: if it is no regular file, larger than ``max_bytes``, or grows meanwhile.
        OSError: if it cannot be read.
    """
    check_regular_file(path, max_bytes)
    # It may have become another one by now; a pipe would block here, if not for O_NONBLOCK.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is no regular file but a pipe or a device")
        _check_size(path, found.st_size, max_bytes)
        # Not max_bytes + 1: as much memory as is asked for is set aside at once.
        content = file.read(found.st_size + 1)
    if len(content) > found.st_size:
        raise InputError(f"{path} grows while it is read")
    return content


def read_json_file(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file that somebody else made; memory stays a small multiple of its size.

    Raises:
        InputError: as :func:`read_regular_file`; if it is not JSON, nested too deep, or of more
            than 4 million lists and objects or 32 million values.
        OSError: if it cannot be read.
    """
    return parse_json(read_regular_file(path, max_bytes), path)


def parse_json(content: bytes, source: str | Path) -> Any:
    """The same of what has been read; ``source`` names it in messages.

    Raises:
        InputError: as :func:`read_json_file`.
    """
    # Counted before they are built: an empty list takes two bytes there and 64 in memory. Those in
    # text are counted too, which no real file comes near.
    many = content.count(b"[") + content.count(b"{")
    if many > _MAX_CONTAINERS or content.count(b",") > _MAX_VALUES:
        raise InputError(
            f"{source} holds more than {_MAX_CONTAINERS:,} lists and objects, or more than "
            f"{_MAX_VALUES:,} values"
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise InputError(f"{source} is not JSON: {reason}") from error


def leads_out(path: str | Path, folder: str | Path) -> bool:
    """Whether a file of a stranger's folder is a link to somewhere else, which is not followed."""
    inside = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(path), inside]) != inside


def _check_size(path: str | Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise InputError(
            f"{path} has {size / 1e6:,.1f} MB or more; files of its kind may have "
            f"{max_bytes / 1e6:,.1f} MB"
        )


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON, see :func:`write_text`.

    Raises:
        ValueError: if ``content`` holds NaN or infinity, which JSON does not know.
    """
    # json.dump would write token by token and take five times as long.
    write_text(path, json.dumps(content, allow_nan=False))


def write_text(path: str | Path, text: str) -> None:
    """Write ``text``; whatever happens meanwhile, ``path`` is as it was or complete.

    Lone surrogates, as names that are not UTF-8 have, are written out as ``\\udcff``, which JSON
    reads as what it was.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content``; whatever happens meanwhile, ``path`` is as it was or complete.

    Raises:
        OutputError: if it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


class PendingFile:
    """A file under a temporary name, which takes the place of ``target`` by :meth:`commit`.

    If the process is killed the temporary file stays behind until ``target`` is written again, and
    ``target`` is as it was.

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
        prefix = f"{hidden_name(self.target.name)}."
        for left in _leftovers(os.path.abspath(self.target.parent)).pop(prefix, ()):
            if is_unowned(left):
                with suppress(OSError):
                    os.unlink(left)
        self.path = hidden_beside(self.target, suffix)
        # With the permissions of any new file; mkstemp's are the owner's alone. As long as it is
        # open, others see that somebody owns it.
        self._handle: int | None = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        own(self._handle)

    def commit(self) -> None:
        """Put the content on the disk and give it its name; the writer has closed the file.

        Raises:
            OSError: if that fails; the temporary file is still there.
        """
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self._close()
        sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the temporary file; without effect after :meth:`commit`, harmless to repeat."""
        if self._handle is not None:
            with suppress(OSError):
                os.unlink(self.path)
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


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
    return path.with_name(f"{hidden_name(path.name)}.{secrets.token_hex(4)}{suffix}")


@lru_cache(maxsize=64)
def _leftovers(folder: str) -> dict[str, list[str]]:
    """Temporary files of earlier runs by their prefix; a folder is looked through once."""
    found: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if match := _TEMPORARY.fullmatch(entry.name):
                found.setdefault(match[1], []).append(entry.path)
    return found


def sync_folder(folder: Path) -> None:
    """Put a new name on the disk, where the system can (Windows opens no folders)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
