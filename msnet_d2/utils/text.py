"""Text: what others wrote, safe to show, and names in natural order."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["brief", "listing", "natural_key", "printable"]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 6
_REPR.maxlevel = 3
# Control characters (C0, DEL, C1), line separators, marks that turn the direction of writing, and
# lone surrogates, which no encoding takes.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def brief(value: object) -> str:
    """``repr`` of a value from a file, cut to a readable length and depth, however large it is."""
    return _REPR.repr(value)


def printable(text: object) -> str:
    """``str(text)`` with what a terminal would take for a command written out, as ``\\x1b``.

    Tabs and line breaks stay.
    """
    return _UNPRINTABLE.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), str(text))


def listing(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, comma separated, with an ellipsis if there are more."""
    shown = [printable(name if len(name) <= 60 else f"{name[:57]}...") for name in names[:most]]
    return ", ".join(shown) + (", …" if len(names) > most else "")


def natural_key(path: str | Path) -> tuple:
    """Key that sorts names with ``frame_9`` before ``frame_10``, whatever their case."""
    name = Path(path).name
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(parts)], name
