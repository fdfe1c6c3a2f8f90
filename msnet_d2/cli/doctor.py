"""Print versions, the device and where Detectron2 comes from, and how to mend what is broken.

Exits with 1 if something that MSNet needs is broken.
"""

from __future__ import annotations

import argparse

HELP = "look at the installation and say what is wrong with it"

_MARKS = {"ok": " ok ", "note": "note", "broken": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis."""
    from msnet_d2.doctor import diagnose

    findings = diagnose()
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"[{_MARKS[finding.status]}] {finding.name:<{width}}  {finding.detail}")
        for line in finding.remedy.splitlines():
            print(f"{'':<{width + 8}}-> {line}")
    broken = [f.name for f in findings if f.status == "broken"]
    if broken:
        print(f"\nBroken: {', '.join(broken)}. The lines after -> say what to do.")
        return 1
    print("\nAll that MSNet needs is there.")
    return 0
