"""Train a model, and evaluate it on DATASETS.TEST.

Takes Detectron2's command line; `python -m msnet_d2.train_net` is the same. Data sets are named by
registered names, JSON files, folders in ISBDA's layout, or FOLDER:train. OUTPUT_DIR receives the
config, checkpoints, logs, predictions and figures.

  msnet train --config-file quick/msnet_lite0_FPN.yaml OUTPUT_DIR output/run \\
      DATASETS.TRAIN "('data:train',)" DATASETS.TEST "('data:val',)"
"""

from __future__ import annotations

import argparse

from msnet_d2.cli.run_options import add_run_options

HELP = "train a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's options, and one of ours."""
    parser.add_argument(
        "--allow-partial-weights",
        action="store_true",
        help="begin with MODEL.WEIGHTS although they fit less than half of the model",
    )
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Train, on one or several devices."""
    from msnet_d2 import train_net

    train_net.run(args)
    return 0
