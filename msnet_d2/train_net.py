"""Detectron2's ``train_net.py`` for this project: ``msnet train`` by another name."""

from __future__ import annotations

import sys
from typing import NoReturn

from msnet_d2.cli import main

__all__ = ["command_line"]


def command_line() -> NoReturn:
    """Run ``msnet train`` with the arguments of this process, and end it with its exit code."""
    sys.exit(main(["train", *sys.argv[1:]]))


if __name__ == "__main__":
    command_line()
