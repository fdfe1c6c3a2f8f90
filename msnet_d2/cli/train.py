"""Train a model, and evaluate it on DATASETS.TEST.

Takes Detectron2's command line; `python -m msnet_d2.train_net` is the same. Data sets are named by
registered names, JSON files, folders in ISBDA's layout, or FOLDER:train. OUTPUT_DIR receives the
config, checkpoints, logs, predictions and figures.

  msnet train --config-file quick/msnet_lite0_FPN.yaml OUTPUT_DIR output/run \\
      DATASETS.TRAIN "('data:train',)" DATASETS.TEST "('data:val',)"
"""

from __future__ import annotations

import argparse

from msnet_d2.cli.options import add_launch_options, add_option

HELP = "train a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's options, and one of ours."""
    add_option(parser, "--allow-partial-weights")
    add_launch_options(parser, training=True)


def run(args: argparse.Namespace) -> int:
    """Train, on one or several devices."""
    from msnet_d2.engine.launch import run_training

    run_training(args)
    return 0
