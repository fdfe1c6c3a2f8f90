"""The options that several commands share: one name, one meaning and one text everywhere.

A command adds them by name, and may set a default or whether an option is required. Config
overrides end a command line: ``--opts KEY VALUE …`` where they are an option; train and eval take
Detectron2's form, plain ``KEY VALUE …``, and ``--opts`` too.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

__all__ = [
    "acceleration_of",
    "add_launch_options",
    "add_model_options",
    "add_option",
    "add_options",
    "add_overrides",
]

# As in msnet_d2.inference.acceleration, which imports torch.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# The same port for all runs of a user, so that one left over from another run is noticed.
_PORT = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14

OPTIONS: dict[str, dict[str, Any]] = {
    "dataset": {
        "metavar": "DATASET",
        "help": "registered name, JSON file, folder, or FOLDER:SPLIT; of other truth KIND@FOLDER, "
        "KIND being semantic, panoptic, amodal, tracks or flow",
    },
    "--dataset": {
        "metavar": "DATASET",
        "help": "registered name, JSON file, folder, or FOLDER:SPLIT; of other truth KIND@FOLDER",
    },
    "--image-root": {
        "metavar": "DIR",
        "help": "folder of the images, for a JSON file outside a layout",
    },
    "--crowd-as-objects": {
        "action": "store_true",
        "help": "annotations with iscrowd 1 are objects (DATASETS.CROWD_AS_OBJECTS)",
    },
    "--parent-category": {
        "metavar": "NAME",
        "help": "the category of buildings, without house_bbox (default: building or house)",
    },
    "--config-file": {
        "default": "",
        "metavar": "FILE",
        "help": "a path, or a name such as quick/msnet_lite0_FPN.yaml",
    },
    "--overwrite": {
        "action": "store_true",
        "help": "replace what another program wrote there, or this one with other settings",
    },
    "--weights": {"metavar": "FILE", "help": "checkpoint, instead of MODEL.WEIGHTS"},
    "--allow-partial-weights": {
        "action": "store_true",
        "help": "go on although the weights lack parts of the model",
    },
    "--device": {"metavar": "NAME", "help": "cpu, cuda, cuda:1 … (default: the config's, or cpu)"},
    "--precision": {
        "choices": PRECISIONS,
        "default": "auto",
        "help": "of products (default: auto, bfloat16 where the processor has it)",
    },
    "--compile": {
        "action": "store_true",
        "help": "compile the backbone: a minute at first, for many images of one size",
    },
    "--min-score": {
        "type": float,
        "default": 0.5,
        "metavar": "S",
        "help": "least score of a detection, 0 to 1 (default: %(default)s)",
    },
    "--batch-size": {
        "type": int,
        "metavar": "N",
        "help": "frames at once (default: 4 on CUDA, else 1)",
    },
    "--stride": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "every N-th frame only (default: %(default)s)",
    },
    "--num-gpus": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "GPUs per machine; without any GPU, processes",
    },
    "--num-machines": {"type": int, "default": 1, "metavar": "N", "help": "machines of the run"},
    "--machine-rank": {
        "type": int,
        "default": 0,
        "metavar": "I",
        "help": "which of them this is, from 0",
    },
    "--dist-url": {
        "default": f"tcp://127.0.0.1:{_PORT}",
        "metavar": "URL",
        "help": 'where processes meet; "auto" on a single machine',
    },
    "--num-workers": {
        "type": int,
        "metavar": "N",
        "help": "processes or threads at work (default: %(default)s)",
    },
    "--no-progress": {"action": "store_true", "help": "no progress bar"},
}
_OVERRIDES_HELP = "config overrides, after all other options"


def add_option(parser: Any, name: str, *, former: str = "", **changes: Any) -> None:
    """Add one of :data:`OPTIONS`.

    Args:
        parser: a parser or a group of one.
        name: of the option.
        former: a spelling that works for one release more, and is not shown.
        changes: what is particular to the command: ``default``, ``required`` or ``help`` where a
            command must say more.
    """
    described = {**OPTIONS[name], **changes}
    if described.get("required"):
        described.pop("default", None)
    parser.add_argument(name, **described)
    if former:
        hidden = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        destination = name.strip("-").replace("-", "_")
        parser.add_argument(former, dest=destination, **{**described, **hidden})


def add_options(parser: Any, *names: str) -> None:
    """Add several of :data:`OPTIONS` as they are."""
    for name in names:
        add_option(parser, name)


def add_model_options(parser: Any, *, required: bool = False) -> None:
    """Add what says which trained model runs, and how it computes."""
    add_option(parser, "--config-file", required=required)
    add_options(parser, "--weights", "--allow-partial-weights", "--device")
    add_options(parser, "--precision", "--compile")


def add_overrides(parser: Any, flag: str = "--opts", help: str = _OVERRIDES_HELP) -> None:
    """Add ``--opts KEY VALUE …``, which takes all that follows."""
    nargs = argparse.REMAINDER if flag == "--opts" else "+"
    parser.add_argument(flag, nargs=nargs, default=[], metavar="KEY VALUE", help=help)


def add_launch_options(parser: argparse.ArgumentParser, *, training: bool) -> None:
    """Add the options of Detectron2's training command line, without importing Detectron2.

    Args:
        parser: of a command.
        training: whether the command trains; else what is about training is left out.
    """
    add_option(parser, "--config-file")
    if training:
        parser.add_argument(
            "--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint"
        )
        parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    add_options(parser, "--num-gpus", "--num-machines", "--machine-rank", "--dist-url")
    add = parser.add_argument
    # Both forms fill the same list; the one that is not given adds nothing.
    add(
        "opts",
        nargs=argparse.REMAINDER,
        action="extend",
        metavar="KEY VALUE",
        help=f"{_OVERRIDES_HELP}: SOLVER.MAX_ITER 1000 …",
    )
    add("--opts", nargs=argparse.REMAINDER, action="extend", help=argparse.SUPPRESS)


def acceleration_of(args: argparse.Namespace):
    """The :class:`msnet_d2.inference.acceleration.InferenceOptions` that the options ask for."""
    from msnet_d2.inference.acceleration import InferenceOptions

    return InferenceOptions.fast(args.precision, args.compile)
