"""Warnings of other packages that tell a user of the command line nothing.

Each is silenced by its own text, so that a new one is seen. Whoever runs Python with ``-W`` or
``PYTHONWARNINGS`` sees them all.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings

__all__ = ["silence_third_party_warnings"]

# Starts of messages of Python's warnings. They must hold neither commas nor colons: that is how
# PYTHONWARNINGS is divided.
_WARNINGS = (
    "`torch.jit",  # Detectron2 scripts functions when it is imported
    "torch.meshgrid",  # Detectron2's anchor generator calls it without `indexing`
)
# Loggers, and starts of the messages that are dropped from them.
_LOG_MESSAGES = {
    "torch.fx._symbolic_trace": "is_fx_tracing will return true",  # asked by Detectron2's layers
    "torch.utils.cpp_extension": "No CUDA runtime is found",  # a CUDA compiler without a GPU
}


def silence_third_party_warnings() -> None:
    """Drop known warnings of torch and Detectron2, in this process and in those it starts."""
    # The start of the message, taken literally, as `-W` takes it.
    ours = ",".join(f"ignore:{text}" for text in _WARNINGS)
    # A process that one of ours started has these options from us, not from the user.
    if sys.warnoptions and os.environ.get("PYTHONWARNINGS") != ours:
        return
    for text in _WARNINGS:
        warnings.filterwarnings("ignore", re.escape(text))
    # Processes that are spawned import torch before they run any code of ours.
    os.environ.setdefault("PYTHONWARNINGS", ours)
    for name, text in _LOG_MESSAGES.items():
        logger = logging.getLogger(name)
        if not any(isinstance(old, _Drop) for old in logger.filters):
            logger.addFilter(_Drop(text))


class _Drop(logging.Filter):
    """Lets all records pass except those whose message starts with ``text``."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        return not record.getMessage().startswith(self.text)
