"""Locks on outputs: one run at a time writes to a place, and says who it is."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from msnet_d2.errors import OutputError
from msnet_d2.utils.text import brief

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["hidden_name", "hold", "is_unowned", "own"]

logger = logging.getLogger(__name__)

# Linux takes 255 bytes in a name; prefixes and suffixes of ours have room in the rest.
_LONGEST_STEM = 200
_LONGEST_NOTE = 4096
# Places that this process holds, with the thread that does.
_held: dict[str, tuple[int, int]] = {}


def hidden_name(name: str) -> str:
    """``.name``, short enough to be the beginning of a longer file name."""
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST_STEM:
        return f".{name}"
    return f".{hashlib.sha256(raw).hexdigest()[:32]}"


@contextmanager
def hold(path: str | Path, what: str) -> Iterator[None]:
    """Keep every other process from writing to ``path`` until the block ends.

    The lock is a file beside ``path`` (in it, where the folder around it cannot be written) that
    goes at the end. The system frees it when the process ends in whatever way, so that what a
    killed one leaves behind is taken over. The same thread may hold a place twice. Where the file
    system knows no locks, a warning says so.

    Args:
        path: a folder or a file; it need not exist.
        what: that is written, such as "a map"; others are told.

    Raises:
        OutputError: if another process holds it, by name, or the lock cannot be made.
    """
    place = os.path.realpath(path)
    owner = (os.getpid(), threading.get_ident())
    if fcntl is None or _held.get(place) == owner:
        yield
        return
    lock, handle = _acquire(Path(place), path, what)
    _held[place] = owner
    try:
        yield
    finally:
        del _held[place]
        # Removed while it is held: whoever opened it before finds that it has no name any more.
        with suppress(OSError):
            os.unlink(lock)
        os.close(handle)


def own(handle: int) -> None:
    """Mark an open temporary file as being written, for :func:`is_unowned`."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_unowned(path: str | Path) -> bool:
    """Whether a temporary file that :func:`own` marked was left behind by a process that ended."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _acquire(place: Path, shown: str | Path, what: str) -> tuple[Path, int]:
    """The lock's file and its handle, locked."""
    lock = place.parent / f"{hidden_name(place.name)}.lock"
    while True:
        try:
            with suppress(FileExistsError):  # then opening says that it is no folder
                place.parent.mkdir(parents=True, exist_ok=True)
            handle = _open(lock)
        except OSError as error:
            inside = place / ".msnet.lock"
            if lock != inside and not lock.exists() and place.is_dir():
                lock = inside
                continue
            reason = error.strerror or error
            raise OutputError(
                f"{shown} cannot be written: {reason}; choose another place"
            ) from error
        try:
            note = _read_note(handle)
            if not _locked(handle, shown):
                raise OutputError(
                    f"{shown} is in use: {_holder(note)} writes there; wait for it to end, or "
                    "choose another place"
                )
            if note and not _is_ours(note):
                raise OutputError(f"{lock} is no lock of msnet; move it to another place")
            if _same_file(lock, handle):
                _write_note(handle, what)
                return lock, handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has just removed it: another one is to be made


def _open(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _locked(handle: int, shown: str | Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning(
            "%s cannot be locked (%s): let no other run write there", shown, error.strerror
        )
    return True


def _same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def _read_note(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, _LONGEST_NOTE)


def _write_note(handle: int, what: str) -> None:
    note = {
        "msnet": what,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # on a full disk it stays without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)


def _is_ours(note: bytes) -> bool:
    return note.startswith(b'{"msnet": ')


def _holder(note: bytes) -> str:
    try:
        found = json.loads(note)
        what, pid, host, since = (found[k] for k in ("msnet", "pid", "host", "since"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"
    words = (brief(word).strip("'") for word in (what, pid, host, since))
    return "{} (process {} on {}, since {})".format(*words)
