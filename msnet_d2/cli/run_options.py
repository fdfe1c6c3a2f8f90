"""The options of Detectron2's training command line, without importing Detectron2."""

from __future__ import annotations

import argparse
import os
import sys

__all__ = ["add_run_options"]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``detectron2.engine.default_argument_parser`` has, in the same form."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="a path, or one of this project's, such as quick/msnet_lite0_FPN.yaml",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs per machine; without any GPU, processes",
    )
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I")
    # The same port for all runs of a user, so that one left over from another run is noticed.
    port = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{port}",
        metavar="URL",
        help='where processes meet, or "auto" on a single machine (default: %(default)s)',
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config overrides, after all options: OUTPUT_DIR output/run SOLVER.MAX_ITER 1000 …",
    )
