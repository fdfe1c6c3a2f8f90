"""Text that goes into results, which are handed on: no folders of this machine in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["redact_paths"]

# Folders of an absolute path, before the last name; not those of a URL or behind a relative name.
_POSIX = re.compile(r"(?<![\w.:/~-])/(?:[^/\s'\"]+/)+(?=[^/\s])")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\\s'\"]+\\)+(?=[^\\\s])")


def redact_paths(text: str, *paths: str | Path) -> str:
    """Take out of a message where files lie; their names stay.

    Args:
        text: such as an error's.
        paths: that it may name, whatever characters they have; others are recognised as long as no
            folder has a space in its name. Of paths below the home folder, what is below it stays.

    Returns:
        ``text`` with names in place of absolute paths.
    """
    for path in paths:
        for form in (str(path), os.path.abspath(path), os.path.realpath(path)):
            if os.path.isabs(form):
                text = text.replace(form, Path(form).name)
    home = os.path.expanduser("~").rstrip(os.sep)
    if home and home != "~":
        text = text.replace(f"{home}{os.sep}", "")
    return _WINDOWS.sub("", _POSIX.sub("", text))
