"""Training and evaluation as a command line asks for them, in one process or several."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import OrderedDict
from contextlib import nullcontext

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessRaisedException

from msnet_d2.checkpoint import checkpoint_to_resume, trained_weights
from msnet_d2.config import find_config, load_config
from msnet_d2.engine.runs import evaluate, train
from msnet_d2.errors import ConfigError
from msnet_d2.utils.locks import hold
from msnet_d2.utils.third_party_warnings import silence_third_party_warnings
from msnet_d2.utils.worker_errors import error_of_worker

__all__ = ["run_process", "run_training"]


def run_process(args: argparse.Namespace) -> OrderedDict:
    """Train or evaluate in this process, one of ``args.num_gpus``.

    Args:
        args: of ``msnet train``. ``quiet`` may be set besides: nothing below a warning is shown.

    Returns:
        Task -> figure -> percent.
    """
    silence_third_party_warnings()  # of processes that were started, too
    cfg = load_config(args.config_file, args.opts)
    args.config_file = str(find_config(args.config_file))
    if args.resume:
        checkpoint_to_resume(cfg)  # before a wrong OUTPUT_DIR is made
    what = "an evaluation" if args.eval_only else "a training"
    with hold(cfg.OUTPUT_DIR, what) if comm.is_main_process() else nullcontext():
        return _train_or_evaluate(cfg, args)


def _train_or_evaluate(cfg: CfgNode, args: argparse.Namespace) -> OrderedDict:
    _set_up_logging(cfg, args)
    partial = getattr(args, "allow_partial_weights", False)
    if not args.eval_only:
        return train(cfg, resume=args.resume, allow_partial_weights=partial)
    weights = trained_weights(cfg, args.config_file, args.opts, resume=args.resume)
    return evaluate(cfg, weights, allow_partial_weights=partial)


def run_training(args: argparse.Namespace) -> None:
    """Start :func:`run_process` in as many processes as ``args`` say.

    Raises:
        MSNetError: what went wrong in them, if the user can mend it.
    """
    if args.num_gpus < 1:
        raise ConfigError(f"`num_gpus` is {args.num_gpus}; without a GPU it stands for processes")
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(f"`num_gpus` is {args.num_gpus}; here are {torch.cuda.device_count()}")
    try:
        launch(
            run_process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessRaisedException as error:
        raise error_of_worker(error) or error from None


def _set_up_logging(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Log as Detectron2 does, but environment and the whole config to ``log.txt`` alone."""
    # A run before this one in the same process has left its own handlers.
    setup_logger.cache_clear()
    for name in ("fvcore", "detectron2", "msnet_d2"):
        logging.getLogger(name).handlers.clear()
    # With the same arguments as in default_setup, which would otherwise add a second handler.
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank())
    ours = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="msnet_d2")
    ours.setLevel(logging.DEBUG if getattr(args, "verbose", False) else logging.INFO)
    console = [
        handler
        for handler in logging.getLogger("detectron2").handlers
        if getattr(handler, "stream", None) is sys.stdout
    ]
    for handler in console:
        handler.setLevel(logging.DEBUG if getattr(args, "verbose", False) else logging.WARNING)
    default_setup(cfg, args)
    for handler in console:
        handler.setLevel(logging.DEBUG)
    if getattr(args, "quiet", False):
        for name in ("fvcore", "detectron2", "msnet_d2"):
            for handler in logging.getLogger(name).handlers:
                if getattr(handler, "stream", None) is sys.stdout:
                    handler.setLevel(logging.WARNING)
