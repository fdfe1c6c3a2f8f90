"""Starting: processor time of fresh processes, of which each runs one line.

python benchmarks/startup.py --rounds 5
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from alternation import print_table, spread

LINES = {
    "msnet --help": ["-m", "msnet_d2.cli", "--help"],
    "python -c pass": ["-c", "pass"],
    "import detectron2.modeling, .data, .evaluation": [
        "-c",
        "import detectron2.modeling, detectron2.data, detectron2.evaluation",
    ],
    "import msnet_d2": ["-c", "import msnet_d2"],
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    taken = {name: [] for name in LINES}
    for number in range(args.rounds + 1):
        for name, words in LINES.items():
            before = _seconds()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            if number:
                taken[name].append(1e3 * (_seconds() - before))
    print_table(["", "ms of processor time"], [[n, spread(t, 0)] for n, t in taken.items()])


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
