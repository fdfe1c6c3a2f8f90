"""The folder of a map: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msnet_d2.errors import InputError
from msnet_d2.utils.file_io import hidden_beside

# Says that a folder is a map, which another map may replace.
MARKER = "summary.json"
FORMAT = "msnet map"
# What a map consists of; a folder that holds anything else is never replaced.
_PARTS = frozenset(
    {
        MARKER,
        "buildings.csv",
        "damage.geojson",
        "damage.gpkg",
        "damage.kmz",
        "index.html",
        "videos",
    }
)


def check_folder(out: Path) -> None:
    """See that a map can be written to ``out``, before hours are spent on it.

    Raises:
        InputError: if it is a file, holds something else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder or a new name")
    if not out.is_dir():
        return
    names = {p.name for p in out.iterdir()}
    others = sorted(names - _PARTS)
    if others or (names and not _is_map(out)):
        what = f" ({', '.join(others[:3])}{', …' if len(others) > 3 else ''})" if others else ""
        raise InputError(
            f"--out {out} holds other files{what}; name a new folder, or one with an earlier map "
            "and nothing else"
        )


def _is_map(folder: Path) -> bool:
    """Whether the summary in a folder is one of ours."""
    try:
        content = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end, and goes if anything is raised.

    Raises:
        InputError: if it cannot be made.
    """
    out = Path(os.path.abspath(out))
    check_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = hidden_beside(out, ".part")
        made.mkdir()
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from error
    try:
        yield made
        _replace(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(made: Path, out: Path) -> None:
    try:
        if not out.exists():
            made.rename(out)
            return
        old = hidden_beside(out, ".old")
        old.mkdir()
        out.rename(old / out.name)
        try:
            made.rename(out)
        except OSError:
            (old / out.name).rename(out)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from error
