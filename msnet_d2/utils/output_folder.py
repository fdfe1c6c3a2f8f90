"""Folders that a run replaces whole: the old one or the new one, and nobody else's files."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msnet_d2.errors import InputError, OutputError
from msnet_d2.utils.file_io import hidden_beside, sync_folder, write_json
from msnet_d2.utils.locks import hidden_name, hold
from msnet_d2.utils.text import listing

__all__ = ["MANIFEST", "check_output_folder", "keep_aside", "replaced_folder"]

logger = logging.getLogger(__name__)

# Lists what a run wrote into a folder, which a later run may remove.
MANIFEST = ".msnet-files.json"
_FORMAT = "msnet output"
_MAX_MANIFEST_BYTES = 1 << 26
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def check_output_folder(
    out: str | Path, kind: str, *, inputs: Sequence[str | Path] = (), overwrite: bool = False
) -> None:
    """See that a folder may be written to or replaced, before hours are spent on it.

    Args:
        out: the folder; it need not exist.
        kind: what is written, such as "map"; only folders of the same kind are replaced.
        inputs: files and folders that are read; none may lie in ``out``.
        overwrite: whether ``out`` may hold other files.

    Raises:
        InputError: if ``out`` is no folder, or one that holds other files (subfolders are looked
            into), one of the ``inputs``, the folder that the process is in, or a file system.
    """
    place = Path(os.path.realpath(out))
    if place.exists() and not place.is_dir():
        raise InputError(f"`out` {out} is a file; expected a folder or a new name")
    here = Path(os.path.realpath(os.curdir))
    if place == here or place in here.parents or os.path.ismount(place):
        raise InputError(
            f"`out` {out} cannot be replaced whole: it is a disk of its own, or the folder that "
            "you are in, or one around it; name a folder in it"
        )
    for path in inputs:
        for form in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):
            if form == place or place in form.parents:
                raise InputError(
                    f"{path} lies in `out` {out}, which is replaced whole; name another folder"
                )
    if not place.is_dir() or overwrite:
        return
    others = _others(place, kind)
    if others:
        raise InputError(
            f"`out` {out} holds other files ({listing(others)}); name a new folder, or one with an "
            f"earlier {kind} and nothing else"
        )


@contextmanager
def replaced_folder(
    out: str | Path, kind: str, *, inputs: Sequence[str | Path] = (), overwrite: bool = False
) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end of the block, and goes if it raises.

    ``out`` is locked meanwhile and looked at once more before it is replaced. Killed at any
    instant, ``out`` is the old or the new folder; on file systems that cannot exchange two folders
    at once, the next run restores it. That run also removes what was left behind. Nothing is ever
    removed but what an earlier run wrote and nobody altered since: all else of the old folder is
    kept beside it as ``OUT.before``, which a warning says.

    Args:
        out, kind, inputs: as for :func:`check_output_folder`.
        overwrite: replace ``out`` also if it holds other files. Those with names that the new
            folder does not have are moved into it.

    Yields:
        The temporary folder, beside ``out``.

    Raises:
        InputError: as :func:`check_output_folder`.
        OutputError: if another run writes to ``out``, or it cannot be written; also if others put
            something into ``out`` during the block: then what it made is kept as ``OUT.new``.
    """
    place = Path(os.path.realpath(out))
    check_output_folder(out, kind, inputs=inputs, overwrite=overwrite)
    with hold(place, f"a {kind}"):
        with _explained(out):
            _clean_up(place)
            made = hidden_beside(place, ".part")
            made.mkdir()
        try:
            _write_manifest(made, kind, None)
            yield made
            _write_manifest(made, kind, _written(made))
            try:
                check_output_folder(out, kind, inputs=inputs, overwrite=overwrite)
                _put(made, place)
            except (InputError, OSError) as error:
                kept = keep_aside(made, place, "new")
                reason = f"{place}: {error.strerror}" if isinstance(error, OSError) else error
                raise OutputError(f"{reason}. What was made is in {kept}") from error
            if overwrite and made.is_dir():
                _carry_over(made, place)
        finally:
            if made.is_dir():
                _discard(made, place)


def keep_aside(folder: Path, place: Path, suffix: str = "before") -> Path:
    """Rename ``folder`` to a free name beside ``place``: ``place.before``, ``place.before-2`` …

    Returns:
        The new name; nothing happens if there is no such folder.
    """
    number, kept = 1, place.with_name(f"{place.name}.{suffix}")
    while os.path.lexists(kept):
        number += 1
        kept = place.with_name(f"{place.name}.{suffix}-{number}")
    if folder.is_dir():
        folder.rename(kept)
    return kept


@contextmanager
def _explained(out: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"`out` {out} cannot be written: {error.strerror or error}") from error


def _entries(folder: Path) -> Iterator[str]:
    """Names of all files, links and empty folders below ``folder``, relative to it.

    Raises:
        OSError: if a folder cannot be looked into.
    """

    def fail(error: OSError) -> None:
        raise error

    for base, folders, files in os.walk(folder, onerror=fail):
        links = [f for f in folders if os.path.islink(os.path.join(base, f))]
        names = [*files, *links]
        if not names and not folders and base != str(folder):
            yield os.path.relpath(base, folder)
        for name in names:
            yield os.path.relpath(os.path.join(base, name), folder)


def _others(folder: Path, kind: str) -> list[str]:
    """What a folder holds beside what its manifest lists, by name."""
    listed = _read_manifest(folder, kind)
    if listed is None:
        return sorted(p.name for p in folder.iterdir())
    ours = {*listed, *_folders_of(listed), MANIFEST}
    return sorted(entry for entry in _entries(folder) if entry not in ours)


def _folders_of(listed: dict[str, str]) -> set[str]:
    return {str(parent) for name in listed for parent in Path(name).parents}


def _written(folder: Path) -> dict:
    """What :func:`_state` says of each entry of a folder that is ours alone; all is on the disk."""
    found = {name: _state(folder / name, sync=True) for name in sorted(_entries(folder))}
    found.pop(MANIFEST, None)
    return found


def _state(path: Path, sync: bool = False) -> str | None:
    """The SHA-256 of a file, the target of a link, "folder"; None for anything else."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_manifest(folder: Path, kind: str, files: dict | None) -> None:
    """``files`` is None as long as the folder is not complete."""
    write_json(folder / MANIFEST, {"format": _FORMAT, "kind": kind, "files": files})


def _manifest(folder: Path) -> dict | None:
    path = folder / MANIFEST
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_MANIFEST_BYTES:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    return content


def _read_manifest(folder: Path, kind: str | None = None) -> dict[str, str] | None:
    """State by name of what a run wrote; None if there is none, or it is of another kind."""
    content = _manifest(folder)
    if content is None or kind not in (None, content.get("kind")):
        return None
    files = content.get("files")
    return files if isinstance(files, dict) else None


def _put(made: Path, place: Path) -> None:
    """Give ``made`` the name ``place``; what was there gets the other's name, if it was there."""
    if not os.path.lexists(place):
        made.rename(place)
    elif not _exchange(made, place):
        old = hidden_beside(place, ".old")
        os.rename(place, old)
        try:
            os.rename(made, place)
        except OSError:
            os.rename(old, place)
            raise
        os.rename(old, made)
    sync_folder(place.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _carry_over(old: Path, place: Path) -> None:
    """Move what others put into the old folder to the new one, where its name is free there."""
    listed = {name.split(os.sep)[0] for name in _read_manifest(old) or {}}
    for path in old.iterdir():
        if path.name not in listed | {MANIFEST} and not os.path.lexists(place / path.name):
            path.rename(place / path.name)


def _discard(folder: Path, place: Path) -> None:
    """Remove what is ours of a folder that has been replaced, or never became complete."""
    content = _manifest(folder)
    if content is not None and content.get("files") is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    listed = _read_manifest(folder)
    if listed is not None:
        folders = _folders_of(listed)
        for name in list(_entries(folder)):
            with suppress(OSError):
                if name in listed and _state(folder / name) == listed[name]:
                    (folder / name).rmdir() if listed[name] == "folder" else (
                        folder / name
                    ).unlink()
        for base, _, _ in os.walk(folder, topdown=False):
            if os.path.relpath(base, folder) in folders and base != str(folder):
                with suppress(OSError):
                    os.rmdir(base)
        if os.listdir(folder) == [MANIFEST]:
            os.unlink(folder / MANIFEST)
    with suppress(OSError):
        folder.rmdir()
        return
    rest = [e for e in _entries(folder) if e != MANIFEST]
    kept = keep_aside(folder, place)
    logger.warning("kept in %s, as it was altered or added since: %s", kept, listing(rest))


def _clean_up(place: Path) -> None:
    """Restore or remove what a run that was killed left beside ``place``, which is locked."""
    prefix = re.escape(f"{hidden_name(place.name)}.")
    pattern = re.compile(prefix + r"[0-9a-f]{8}\.(part|old)")
    left = [p for p in place.parent.iterdir() if pattern.fullmatch(p.name) and not p.is_symlink()]
    # A complete new folder before the one that it was to replace.
    for path in sorted(left, key=lambda p: p.suffix != ".part"):
        if not path.is_dir():
            continue
        whole = path.suffix == ".old" or _read_manifest(path) is not None
        if whole and not os.path.lexists(place):
            path.rename(place)
            logger.warning("%s was restored: the run before was killed", place)
        else:
            _discard(path, place)
