"""The errors that a user can cause, and what the command line makes of them.

Every message says what was got, where, what was expected and what to do. The ``msnet`` command
prints a :class:`MSNetError` as one line and exits with its ``exit_code``; any other exception is a
defect of ours and shows its traceback.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DatasetError",
    "DependencyError",
    "InputError",
    "MSNetError",
    "OutputError",
    "TrainingError",
    "VideoError",
    "WeightsError",
    "explain_os_error",
]


class MSNetError(Exception):
    """Base of all errors that the user can mend."""

    exit_code = 2


class InputError(MSNetError, ValueError):
    """An argument or an input file that cannot be used."""


class ConfigError(MSNetError, ValueError):
    """A configuration that contradicts itself or names what does not exist."""


class DatasetError(MSNetError, ValueError):
    """A data set with fatal issues."""


class WeightsError(MSNetError, ValueError):
    """Weights that are missing, unreadable or belong to another model."""


class TrainingError(MSNetError, FloatingPointError):
    """Training that diverged: a loss or a weight is not a finite number any more."""


class VideoError(MSNetError, ValueError):
    """A video that cannot be decoded or encoded."""


class OutputError(MSNetError, OSError):
    """A result that cannot be written, such as to a full disk."""


class DependencyError(MSNetError, ImportError):
    """An optional package that is needed for what was asked."""

    @classmethod
    def for_extra(cls, package: str, extra: str, purpose: str) -> DependencyError:
        """Error that names the missing ``package`` and the extra of ours that installs it."""
        return cls(
            f"{purpose} needs the package {package}, which is not installed: "
            f"pip install 'msnet_d2[{extra}]'"
        )


def explain_os_error(error: OSError) -> str | None:
    """One line on a file that cannot be read or written: a full or read-only disk, a folder that
    may not be entered.

    Returns:
        The line; None if the error names no file or no reason, and so is none for the user to mend.
    """
    if error.filename is None or not error.strerror:
        return None
    return f"{error.filename} cannot be read or written: {error.strerror}"
