"""How ``--help`` is set: paragraphs as wide as the terminal, examples as they are written."""

from __future__ import annotations

import argparse
import textwrap

__all__ = ["HelpFormatter"]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the paragraphs of a description; indented lines, which are examples, stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = textwrap.dedent(text).strip().split("\n\n")
        return "\n\n".join(
            textwrap.indent(p, indent)
            if p.startswith(" ")
            else textwrap.fill(p, width, initial_indent=indent, subsequent_indent=indent)
            for p in paragraphs
        )

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        # argparse shows what takes the rest of the line as "..." alone.
        if action.nargs == argparse.REMAINDER and action.metavar:
            return f"{action.metavar} …"
        return super()._format_args(action, default_metavar)
