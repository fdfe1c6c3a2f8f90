"""The folder of a map: all of it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from msnet_d2.errors import InputError
from msnet_d2.utils.output_folder import check_output_folder, replaced_folder

# Says that a folder is a map, which another map may replace.
MARKER = "summary.json"
FORMAT = "msnet map"
_KIND = "map"


def check_folder(out: Path, inputs: Sequence[str | Path] = ()) -> None:
    """See that a map can be written to ``out``, before hours are spent on it.

    Args:
        out: folder of the map.
        inputs: what is read for it; none may lie in ``out``.

    Raises:
        InputError: see :func:`~msnet_d2.utils.output_folder.check_output_folder`.
    """
    check_output_folder(out, _KIND, inputs=inputs)
    if out.is_dir() and any(out.iterdir()) and not _is_map(out):
        raise InputError(
            f"`out` {out} holds other files: its {MARKER} is of no map; name a new folder"
        )


def whole_folder(out: Path, inputs: Sequence[str | Path] = ()) -> AbstractContextManager[Path]:
    """A temporary folder that becomes ``out`` at the end, and goes if anything is raised.

    See :func:`~msnet_d2.utils.output_folder.replaced_folder`.
    """
    return replaced_folder(out, _KIND, inputs=inputs)


def _is_map(folder: Path) -> bool:
    """Whether the summary in a folder is one of ours."""
    try:
        content = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
