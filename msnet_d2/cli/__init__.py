"""The ``msnet`` command.

One module per subcommand, each with ``HELP`` (a line), ``add_arguments(parser)`` and ``run(args) ->
int``. They import heavy packages inside ``run`` alone, so that ``msnet --help`` answers at once.
Projects add subcommands of their own, see :class:`msnet_d2.projects.Project`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from types import ModuleType
from typing import Any

from msnet_d2 import __version__
from msnet_d2.cli.help_format import HelpFormatter
from msnet_d2.cli.parameters import in_options
from msnet_d2.errors import MSNetError, explain_os_error
from msnet_d2.projects import broken_projects, project_commands
from msnet_d2.utils.text import printable
from msnet_d2.utils.third_party_warnings import silence_third_party_warnings

# In the order of a user's first day. A module name that is a Python keyword or builtin gets a
# trailing underscore.
COMMANDS = {
    "doctor": "msnet_d2.cli.doctor",
    "import": "msnet_d2.cli.import_",
    "check": "msnet_d2.cli.check",
    "stats": "msnet_d2.cli.stats",
    "split": "msnet_d2.cli.split",
    "train": "msnet_d2.cli.train",
    "eval": "msnet_d2.cli.eval_",
    "predict": "msnet_d2.cli.predict",
    "video": "msnet_d2.cli.video",
    "map": "msnet_d2.cli.map_",
    "completion": "msnet_d2.cli.completion",
}

EXIT_OK = 0
EXIT_PROBLEMS = (
    1  # the command worked and found problems in what it was given, or the result is incomplete
)
EXIT_USER_ERROR = 2  # wrong arguments or unusable input
EXIT_DEFECT = 70  # an error of ours
EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="msnet",
        description="Building damage in aerial video: data, training, evaluation, prediction with "
        "MSNet.",
    )
    parser.add_argument("--version", action="version", version=f"msnet_d2 {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _command_modules():
        sub = subparsers.add_parser(name, help=module.HELP, **_parser_options(module))
        _fill(sub, module)
    return parser


def _parser_options(module: ModuleType) -> dict[str, Any]:
    return {"description": module.__doc__, "formatter_class": HelpFormatter}


def _fill(parser: argparse.ArgumentParser, module: ModuleType) -> None:
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log more, and show tracebacks"
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _command_modules() -> Iterator[tuple[str, ModuleType]]:
    """The subcommands of this package, then those of projects that can be loaded."""
    for name, module_name in COMMANDS.items():
        yield name, importlib.import_module(module_name)
    for name, module, installed in project_commands(COMMANDS):
        try:
            # A parser that is half filled could not be taken back.
            trial = argparse.ArgumentParser(usage=module.HELP, **_parser_options(module))
            _fill(trial, module)
            trial.format_help()
        except (Exception, SystemExit) as error:
            installed.fail(error)
        else:
            yield name, module


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv[1:]`` if None) and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names may hold what a terminal's encoding has not: written out, not an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    args = _parse(argv)
    silence_third_party_warnings()
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(message)s",
        stream=sys.stderr,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_log_printable)
    # Training sets up its own logging, with colors.
    plain = args.command not in ("train", "eval", "demo", "bench")
    try:
        with redirect_stdout(_PrintableStream(sys.stdout)) if plain else nullcontext():
            code = args.run(args) or EXIT_OK
            sys.stdout.flush()
        return code
    except (MSNetError, ImportError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"msnet {args.command}: error: {printable(in_options(str(error)))}", file=sys.stderr)
        return getattr(error, "exit_code", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print(f"msnet {args.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `msnet check … | head`: the reader has gone, which is no error; keep Python from
        # complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        line = explain_os_error(error)
        if line is None:
            return _report_defect(args.command)
        if args.verbose:
            traceback.print_exc()
        print(f"msnet {args.command}: error: {printable(line)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        return _report_defect(args.command)


class _PrintableStream:
    """A text stream without commands to a terminal, such as a file's name may hold."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, with control characters written out."""
        self._stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _log_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ends the process with code 2 and a line if it is wrong."""
    parser = build_parser()
    words = sys.argv[1:] if argv is None else argv
    if words and re.fullmatch(r"[a-z][a-z0-9-]*", words[0]):
        _refuse_unknown_command(parser, words[0])
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        hint = ""
        # A config key, in a command that takes overrides as an option.
        if hasattr(args, "opts") and re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*", unknown[0]):
            hint = f"; config overrides come last, behind --opts: --opts {' '.join(unknown)}"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def _refuse_unknown_command(parser: argparse.ArgumentParser, name: str) -> None:
    """End the process with code 2 and a line if no package here has the subcommand ``name``."""
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if name in subparsers.choices:
        return
    near = difflib.get_close_matches(name, subparsers.choices, n=1)
    advice = f"did you mean {near[0]}?" if near else broken_projects()
    advice = advice or (
        "if it comes with a project, install that: run `make setup` in a checkout, or "
        "`pip install ./projects/NAME`"
    )
    parser.error(f"there is no command {name!r} here; {advice}")


def _report_defect(command: str) -> int:
    """Show the traceback of the exception being handled; return the exit code."""
    traceback.print_exc()
    print(
        f"msnet {command}: this is a defect of msnet_d2 {__version__}; "
        "please report it with the lines above",
        file=sys.stderr,
    )
    return EXIT_DEFECT
