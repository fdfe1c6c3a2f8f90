"""Showing untrusted values in messages."""

from __future__ import annotations

import reprlib

__all__ = ["brief"]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 6
_REPR.maxlevel = 3


def brief(value: object) -> str:
    """``repr`` of a value from a file, cut to a readable length and depth, however large it is."""
    return _REPR.repr(value)
