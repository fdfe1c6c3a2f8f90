"""The parsers of the commands, their help as reStructuredText."""

from __future__ import annotations

import argparse
import re

from msnet_d2.cli import build_parser

__all__ = ["parsers"]


def parsers() -> argparse.ArgumentParser:
    """The parser of ``msnet`` and of its commands; examples in their help stay code."""
    return _marked(build_parser())


def _marked(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.description = _as_rst(parser.description or "")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _marked(command)
    return parser


def _as_rst(text: str) -> str:
    """Indented paragraphs become literal blocks, `words` in backticks become literals."""
    text = re.sub(r"`([^`\n]+)`", r"``\1``", text)
    return re.sub(r"\n\n(?=  +\S)", "\n\n::\n\n", text)
