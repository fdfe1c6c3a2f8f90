"""One name, one meaning and one text for an option, in every command of every project."""

from __future__ import annotations

import argparse

import pytest

from msnet_d2.cli import build_parser
from msnet_d2.cli.options import OPTIONS


def subcommands(parser, name=""):
    """(name, parser) of every command, those below commands included."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, sub in action.choices.items():
            yield from subcommands(sub, f"{name} {word}".strip())


COMMANDS = dict(subcommands(build_parser()))


def shown_options():
    """(option, command, action) of all that --help shows."""
    for command, parser in COMMANDS.items():
        for action in parser._actions:
            for option in action.option_strings or [action.dest]:
                if action.help is not argparse.SUPPRESS:
                    yield option, command, action


# Options of one command whose name another has for its own business.
OWN = {
    "--out",  # a file or a folder, of various things
    "--seed",
    "--videos",
    "--val-videos",
    "--seconds",
    "--size",
    "--fps",
    "--every",
    "--json",
    "--results",
    "--image",
    "--ratio",
    "opts",
}


def test_what_several_commands_have_is_in_the_registry():
    by_option: dict[str, set] = {}
    for option, command, _ in shown_options():
        by_option.setdefault(option, set()).add(command.split()[0])
    shared = {option for option, commands in by_option.items() if len(commands) > 1}
    assert shared - OWN - {"-h", "--help", "-v", "--verbose", "--opts"} <= set(OPTIONS)


def test_a_shared_option_has_one_form():
    forms: dict[str, set] = {}
    for option, command, action in shown_options():
        if option in OPTIONS:
            form = (type(action).__name__, action.type, action.nargs, action.metavar)
            forms.setdefault(option, set()).add(form)
            says = action.help == OPTIONS[option]["help"]
            # What is at work, and what a weight or device is of, depends on the command. Check runs
            # no model: a config says what is to be judged.
            free = option == "--num-workers" or command.startswith("bench ")
            free = free or (command, option) == ("check", "--config-file")
            assert says or free, (command, option)
    assert {option for option, found in forms.items() if len(found) > 1} == set()


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_fits_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser = COMMANDS[command] if command else build_parser()
    text = parser.format_help()
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "command",
    [name for name, parser in COMMANDS.items() if "--opts" in parser._option_string_actions],
)
def test_overrides_take_the_rest_of_the_line(command):
    action = COMMANDS[command]._option_string_actions["--opts"]
    assert action.nargs == argparse.REMAINDER
    assert action.dest == "opts"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["check", "data", "--workers", "3"], "num_workers", 3),
        (["check", "data", "--num-workers", "3"], "num_workers", 3),
        (["map", "a.mp4", "--out", "m", "--gps-order", "lon,lat"], "gps_order", "lonlat"),
        (["map", "a.mp4", "--out", "m", "--gps-order", "lonlat"], "gps_order", "lonlat"),
    ],
)
def test_former_spellings_work_for_one_release(words, name, value):
    assert getattr(build_parser().parse_args(words), name) == value


@pytest.mark.parametrize("command", ["check", "predict", "video", "map"])
def test_long_commands_can_do_without_a_bar(command):
    assert "--no-progress" in COMMANDS[command]._option_string_actions
