"""The library speaks of parameters, the command line of options."""

from __future__ import annotations

import re

__all__ = ["in_options"]

_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)`")


def in_options(text: str) -> str:
    """A message of the library with each `` `parameter_name` `` as ``--option-name``."""
    return _PARAMETER.sub(lambda match: "--" + match[1].replace("_", "-"), text)
