"""Compare methods on your own data, and find out where the time goes.

  msnet bench accuracy --dataset DATA --splits 0 1 2 --out output/bench
  msnet bench ablation --dataset DATA --splits 0 --out output/bench
  msnet bench speed --config-file msnet_R50_FPN.yaml --against mask_rcnn_D_R50_FPN.yaml

What is finished is kept: run the same command again after an interruption, or with more methods or
splits. accuracy and ablation share what they train if they share --out and their settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.help_format import HelpFormatter
from msnet_d2.cli.options import add_option, add_overrides

HELP = "compare methods: accuracy, ablation, speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three commands."""
    commands = parser.add_subparsers(dest="bench", metavar="COMMAND", required=True)
    for name, add, help_line, description in (
        (
            "accuracy",
            _add_accuracy,
            "the paper's table 2: methods on splits of a data set",
            _ACCURACY,
        ),
        ("ablation", _add_ablation, "tables 3 and 4 and figure 6, with diagnostics", _ABLATION),
        ("speed", _add_speed, "two models side by side, stage by stage", _SPEED),
    ):
        sub = commands.add_parser(
            name,
            help=help_line,
            description=description,
            formatter_class=HelpFormatter,
        )
        # Without a default of its own, which would undo a -v before the command.
        sub.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="log more, and show tracebacks",
        )
        add(sub)


_ACCURACY = """\
Train and evaluate methods on splits of a data set, with equal budgets and seeds.

Methods: polarmask, mask_rcnn_D, mask_rcnn_BD, msnet, msnet_iou, msnet_parents, and for any of
them NAME+srn and NAME+steady: its detector, with the score refinement network trained on top, by
the paper's rule and by this project's; and NAME+geometry: its detector as it is, with scores
refined by geometry and duplicates damped by their masks. Writes results.json, table.md and plots;
exits with 1 if a trial failed (run again to retry it).

  msnet bench accuracy --dataset data --methods mask_rcnn_D msnet \\
      --out output/bench \\
      --opts SOLVER.MAX_ITER 600 MODEL.ROI_HEADS.NMS_THRESH_TEST 0.4
"""

_ABLATION = """\
HRPN and SRN on and off; sampling metric x threshold; metric by size; and diagnostics: share of
anchors kept, parts covered by them, recall of proposals, calibration.

By default the sweep over S evaluates the model trained at the paper's S at the others. The paper
trains one for every S: --retrain does that, and takes six times as long.
"""

_SPEED = """\
Time two configs on the same images in the same process, taking turns: images a second, milliseconds
by stage, a training step, peak memory. Given are medians, the range from the 10th to the 90th
percentile, and the ratio A / B.

Weights are random unless given. Random scores would keep a thousand detections or none, so that
with random weights --detections (default: 10) boxes go through the mask head in both.
"""


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_option(parser, "--dataset", required=True)
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    add(
        "--splits",
        nargs="+",
        default=["0", "1", "2"],
        metavar="N",
        help="seeds of the splits (default: 0 1 2); or given, for the data set's own train and val",
    )
    add("--ratio", type=float, default=0.8, help="share to train on (default: %(default)s)")
    add("--test", metavar="SPEC", help="evaluate on this data set, not on the split's other side")
    add(
        "--config-family",
        choices=("quick", "full"),
        default="quick",
        help="quick: small backbone, a CPU will do; full: R-50, the paper's (default: %(default)s)",
    )
    add_option(parser, "--num-gpus")
    add("--seed", type=int, default=1, help="of weights and data order (default: %(default)s)")
    add(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="NAME METHOD KEY VALUE …: a method of your own, METHOD with overrides; repeatable",
    )
    add(
        "--srn-videos",
        metavar="DIR",
        help="videos to train score refinement on (default: the data set's, of training scenes)",
    )
    add_overrides(
        parser,
        "--refine-opts",
        "config overrides for the training of score refinement, to which the SOLVER keys of all "
        "methods do not apply",
    )
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws (default: %(default)s)")
    add(
        "--resample",
        choices=("image", "video"),
        default="image",
        help="what is drawn: images, or whole scenes, whose frames resemble each other "
        "(default: %(default)s)",
    )


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    _add_run_options(parser)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["polarmask", "mask_rcnn_D", "mask_rcnn_BD", "msnet"],
        metavar="NAME",
        help="default: polarmask mask_rcnn_D mask_rcnn_BD msnet",
    )
    add_overrides(parser)


def _add_ablation(parser: argparse.ArgumentParser) -> None:
    _add_run_options(parser)
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["modules", "threshold", "size", "diagnostics"],
        metavar="PART",
        help="some of: modules threshold size diagnostics (default: all)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train a model for every S, as the paper does"
    )
    parser.add_argument(
        "--diagnose-images",
        type=int,
        default=100,
        metavar="N",
        help="diagnose on at most so many images of a split (default: %(default)s)",
    )
    add_overrides(parser)


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_option(parser, "--config-file", required=True)
    add("--against", required=True, metavar="B", help="config B")
    add_option(parser, "--weights", help="checkpoint of A (default: random weights)")
    add("--against-weights", metavar="FILE", help="checkpoint of B (default: random weights)")
    add_overrides(parser, "--opts-a", "config overrides of A alone")
    add_overrides(parser, "--opts-b", "config overrides of B alone")
    add("--image", nargs="+", default=[], metavar="FILE", help="pictures (default: synthetic ones)")
    add(
        "--size",
        default="1333x800",
        metavar="WxH",
        help="size of synthetic pictures, before each config resizes them (default: %(default)s)",
    )
    add(
        "--detections",
        type=int,
        metavar="N",
        help="so many boxes go through the mask head (default: 10 if weights are random, else what "
        "the model finds)",
    )
    add("--rounds", type=int, default=11, metavar="R", help="alternations (default: %(default)s)")
    add("--warmup", type=int, default=2, metavar="R", help="rounds before (default: %(default)s)")
    add_option(parser, "--device", help="cpu or cuda (default: cuda if there is one)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: as torch has it)")
    add_option(
        parser,
        "--batch-size",
        former="--batch",
        default=1,
        help="images of a training step (default: %(default)s)",
    )
    add(
        "--accelerate",
        choices=("none", "a", "b", "both"),
        default="none",
        help="which side predicts as msnet predict does: folded norms, channels last, --precision "
        "(default: %(default)s, as Detectron2)",
    )
    add_option(parser, "--precision")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for a machine that others use too (default: %(default)s)",
    )
    add("--no-training", action="store_true", help="leave out the training step")
    add("--out", type=Path, metavar="DIR", help="write speed.json, speed.md and speed.png here")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command that was asked for; nobody else writes to its folder meanwhile."""
    from contextlib import nullcontext

    from msnet_d2.utils.locks import hold

    command = {"accuracy": _accuracy, "ablation": _ablation, "speed": _speed}[args.bench]
    with hold(args.out, "the benchmark") if args.out else nullcontext():
        return command(args)


def _settings(args: argparse.Namespace):
    from msnet_benchmark.runs import RunSettings
    from msnet_benchmark.summary import Resampling
    from msnet_d2.errors import InputError

    for name, words in (("--opts", args.opts), ("--refine-opts", args.refine_opts)):
        if len(words) % 2:
            raise InputError(f"{name} are pairs KEY VALUE, got {' '.join(words)}")
    if args.bootstrap < 1:
        raise InputError(
            f"--bootstrap is {args.bootstrap}; expected a number of draws, such as 1000"
        )
    return RunSettings(
        dataset=args.dataset,
        out=args.out,
        splits=tuple(args.splits),
        family=args.config_family,
        opts=tuple(args.opts),
        refine_opts=tuple(args.refine_opts),
        variants=tuple(tuple(words) for words in args.variant),
        seed=args.seed,
        ratio=args.ratio,
        test=args.test,
        srn_videos=args.srn_videos,
        num_gpus=args.num_gpus,
        resampling=Resampling(args.bootstrap, 0, args.resample),
    )


def _accuracy(args: argparse.Namespace) -> int:

    from msnet_benchmark.accuracy import run_accuracy

    finished = run_accuracy(_settings(args), args.methods)
    return print_summary(finished, args.out / "table.md", [])


def _ablation(args: argparse.Namespace) -> int:

    from msnet_benchmark.ablation import AblationSettings, run_ablation
    from msnet_d2.errors import InputError

    if args.diagnose_images < 1:
        raise InputError(f"--diagnose-images is {args.diagnose_images}; expected 1 or more")
    what = AblationSettings(tuple(dict.fromkeys(args.parts)), args.retrain, args.diagnose_images)
    finished, problems = run_ablation(_settings(args), what)
    return print_summary(finished, args.out / "ablation.md", problems)


def print_summary(finished, table: Path, problems: list[str]) -> int:
    """Show the table, and say what is missing; 1 if something is."""
    import sys

    if table.is_file():
        print(f"\n{table.read_text(encoding='utf-8')}\nwritten to {table.parent}")
    failed = finished.failed
    for trial in failed:
        print(f"failed: {trial.label}: {trial.failure} ({trial.folder})", file=sys.stderr)
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} of {len(finished.trials)} trials have no metrics; the same command "
            "tries them again",
            file=sys.stderr,
        )
    return 1 if failed or problems else 0


def _speed(args: argparse.Namespace) -> int:

    from msnet_benchmark.speed import SpeedSettings, run_speed

    settings = SpeedSettings(
        config_a=args.config_file,
        config_b=args.against,
        weights_a=args.weights,
        weights_b=args.against_weights,
        opts_a=(*args.opts, *args.opts_a),
        opts_b=(*args.opts, *args.opts_b),
        images=tuple(args.image),
        size=args.size,
        detections=args.detections,
        rounds=args.rounds,
        warmup=args.warmup,
        device=args.device,
        threads=args.threads,
        training=not args.no_training,
        batch=args.batch_size,
        accelerate=args.accelerate,
        precision=args.precision,
        clock=args.clock,
    )
    print(run_speed(settings, args.out))
    return 0
