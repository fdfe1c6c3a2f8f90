"""Recover an error of this package from the traceback of another process."""

from __future__ import annotations

import re

from msnet_d2 import errors

__all__ = ["error_of_worker"]

_OURS = re.compile(r"^msnet_d2\.errors\.(\w+): ", re.MULTILINE)


def error_of_worker(error: BaseException) -> errors.MSNetError | None:
    """The error that a data loader's worker or a launched process met, with its own message.

    torch hands on such an error with the whole traceback as its message, which is no line for
    people.

    Args:
        error: what torch raised.

    Returns:
        The error of ours in its text; None if there is none, or ``error`` is already plain.
    """
    matches = list(_OURS.finditer(str(error)))
    if not matches:
        return None
    # The last of a chain of errors is the one that ended it.
    message = str(error)[matches[-1].end() :]
    kind = getattr(errors, matches[-1][1], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.MSNetError)):
        return None
    return kind(message.strip())
