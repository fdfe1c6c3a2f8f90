"""The options of commands that run a trained model: how it computes."""

from __future__ import annotations

import argparse

# As in msnet_d2.inference.acceleration, which imports torch.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision`` and ``--compile``."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="in which the model multiplies (default: auto, which is bfloat16 where the processor "
        "computes in it, and float32 elsewhere)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the backbone: a minute at first, for many pictures of one size",
    )


def acceleration_of(args: argparse.Namespace):
    """The :class:`msnet_d2.inference.acceleration.Acceleration` that the options ask for."""
    from msnet_d2.inference.acceleration import Acceleration

    return Acceleration.fast(args.precision, args.compile)
