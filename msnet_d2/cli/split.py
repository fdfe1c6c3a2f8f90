"""Placeholder until its part lands in this commit series."""

HELP = "split"


def add_arguments(parser):
    """Add nothing."""


def run(args):
    """Do nothing."""
    return 0
