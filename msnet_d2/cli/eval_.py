"""Evaluate a model, or a file of predictions.

A model: Detectron2's command line, as for `msnet train`. With the config.yaml that training wrote,
the weights are the last checkpoint beside it unless others are given.

  msnet eval --config-file output/run/config.yaml --dataset data:val

A file: COCO results JSON, of this tool (OUTPUT_DIR/inference/coco_instances_results.json) or of any
other; no model is needed. Buildings are taken from coco_parents_results.json beside it if it is
there.

  msnet eval --predictions FILE --dataset data:val
"""

from __future__ import annotations

import argparse

from msnet_d2.cli.options import add_launch_options, add_options

HELP = "evaluate a model or a file of predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's options and those of a file."""
    add_options(parser, "--dataset", "--image-root")
    add_options(parser, "--weights", "--allow-partial-weights")
    parser.add_argument("--predictions", metavar="FILE", help="COCO results JSON to score")
    parser.add_argument(
        "--parents", metavar="FILE", help="predicted buildings, in the same form, to score with it"
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="figures to give for a file (default: all)"
    )
    parser.add_argument(
        "--json", metavar="FILE", dest="json_file", help="write the figures of a file here too"
    )
    add_launch_options(parser, training=False)


def run(args: argparse.Namespace) -> int:
    """Evaluate and show the figures."""
    from msnet_d2.errors import InputError

    if args.predictions is None:
        for option, value in (
            ("--parents", args.parents),
            ("--tasks", args.tasks),
            ("--json", args.json_file),
        ):
            if value is not None:
                raise InputError(f"{option} goes with --predictions FILE")
        return _evaluate_model(args)
    for option, value in (("--config-file", args.config_file), ("--weights", args.weights)):
        if value:
            raise InputError(f"{option} is for a model; --predictions needs none")
    if args.opts:
        raise InputError(f"config overrides are for a model, got {' '.join(args.opts)}")
    if not args.dataset:
        raise InputError("--predictions needs --dataset, such as FOLDER:val")
    return _evaluate_file(args)


def _evaluate_model(args: argparse.Namespace) -> int:
    from msnet_d2.engine.launch import run_training

    args.eval_only, args.resume = True, False
    if args.dataset:
        # Processes of a launch know no data set that is registered here, but every spec.
        spec = f"{args.dataset}:{args.image_root}" if args.image_root else args.dataset
        args.opts = [*args.opts, "DATASETS.TEST", str((spec,))]
    if args.weights:
        args.opts = [*args.opts, "MODEL.WEIGHTS", args.weights]
    run_training(args)
    return 0


def _evaluate_file(args: argparse.Namespace) -> int:
    from msnet_d2.data import resolve_dataset
    from msnet_d2.data.kinds import kind_of
    from msnet_d2.errors import DatasetError, InputError
    from msnet_d2.evaluation import load_ground_truth, results_table, score_file, undefined_as_none
    from msnet_d2.evaluation.kinds import score_kind_file
    from msnet_d2.utils.file_io import write_json

    names = resolve_dataset(args.dataset, args.image_root)
    if len(names) > 1:
        raise DatasetError(
            f"{args.dataset} is {len(names)} data sets ({', '.join(names)}); name one, such as "
            f"{args.dataset}:val"
        )
    if kind_of(names[0]) is None:
        truth = load_ground_truth(names[0])
        figures = score_file(truth, args.predictions, args.parents, tasks=args.tasks)
    else:
        for option, value in (("--parents", args.parents), ("--tasks", args.tasks)):
            if value is not None:
                raise InputError(f"{option} is for parts of buildings, not for {args.dataset}")
        figures = score_kind_file(names[0], args.predictions)
    print(results_table(figures))
    if args.json_file:
        write_json(args.json_file, undefined_as_none(figures))
    return 0
