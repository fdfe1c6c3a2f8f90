"""Print a script that completes msnet's commands and options in a shell.

msnet completion bash > ~/.local/share/bash-completion/completions/msnet
msnet completion zsh > ~/.zfunc/_msnet    (a folder of $fpath)
"""

from __future__ import annotations

import argparse

HELP = "print a script for the completion of a shell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose completion")


def run(args: argparse.Namespace) -> int:
    """Print the script, with the commands of the projects that are installed now."""
    from msnet_d2.cli import build_parser
    from msnet_d2.errors import DependencyError

    try:
        import shtab
    except ImportError as error:
        raise DependencyError("completion needs the package shtab: pip install shtab") from error
    print(shtab.complete(build_parser(), args.shell))
    return 0
