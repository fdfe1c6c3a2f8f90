"""Find every issue of a data set: of its JSON, and of each of its images.

Issues are fatal (training and evaluation refuse the data set), dropped (the annotation or polygon
is left out on loading) or kept (used as it is, but worth a look). Exits with 1 if there is any of
them, or with --fatal-only if there is a fatal one; with 0 otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.options import add_option, add_options

HELP = "find every issue of a data set"

_EFFECT = {
    "fatal": "fatal: training and evaluation refuse the data set",
    "dropped": "dropped: left out on loading",
    "kept": "kept: used as it is, but worth a look",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet check``."""
    add_options(parser, "dataset", "--image-root", "--crowd-as-objects", "--parent-category")
    add_option(
        parser, "--config-file", help="judge by the training of this config, such as its masks"
    )
    parser.add_argument("--no-images", action="store_true", help="do not open the images")
    add_option(
        parser,
        "--num-workers",
        former="--workers",
        help="threads that open images (default: processors)",
    )
    add_option(parser, "--no-progress")
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write all issues to a JSON file"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=20,
        metavar="N",
        help="print at most N issues of a kind, 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--fatal-only", action="store_true", help="exit with 1 for fatal issues alone"
    )


def run(args: argparse.Namespace) -> int:
    """Print the issues, grouped by kind."""
    from msnet_d2.config import load_config
    from msnet_d2.data import dataset_files, resolve_dataset
    from msnet_d2.data.isbda.conventions import ReadOptions
    from msnet_d2.data.isbda.fitness import issues_across_splits, issues_for_training
    from msnet_d2.data.isbda.image_checks import find_image_issues
    from msnet_d2.data.isbda.reading import read_and_validate
    from msnet_d2.data.kinds import find_kind_issues, kind_of
    from msnet_d2.utils.file_io import write_json
    from msnet_d2.utils.image_layout import checked_depth

    cfg = load_config(args.config_file) if args.config_file else None
    options = ReadOptions(
        args.crowd_as_objects or bool(cfg and cfg.DATASETS.CROWD_AS_OBJECTS),
        args.parent_category or (cfg.DATASETS.PARENT_CATEGORY if cfg else "auto"),
    )
    issues, report, reports = [], [], {}
    for name in resolve_dataset(args.dataset, args.image_root, options):
        json_file, image_root = dataset_files(name)
        if kind_of(name) is None:
            reports[name] = read_and_validate(json_file, image_root, options=options)
            found = reports[name].issues
            if not any(issue.fatal for issue in found):
                found += issues_for_training(reports[name], cfg, all_classes=len(reports) == 1)
            if not args.no_images:
                found += find_image_issues(
                    reports[name].records,
                    args.num_workers,
                    not args.no_progress,
                    depth=checked_depth(cfg) if cfg else "refuse",
                )
            images = len(reports[name].records)
        else:
            found, images = find_kind_issues(
                name,
                check_images=not args.no_images,
                workers=args.num_workers,
                progress=not args.no_progress,
            )
        print(f"{name}: {json_file}, images in {image_root}")
        _print_issues(found, args.limit)
        _hint(found, images)
        issues += found
        report += [{"dataset": name, **issue.as_dict()} for issue in found]
    across = issues_across_splits(reports) if reports else []
    if across:
        print("all of them:")
        _print_issues(across, args.limit)
        issues += across
        report += [{"dataset": None, **issue.as_dict()} for issue in across]
    if args.json:
        write_json(args.json, report)
    print(_summary(issues, opened=not args.no_images))
    return int(any(issue.fatal for issue in issues) if args.fatal_only else bool(issues))


def _hint(issues: list, images: int) -> None:
    """All images missing is one mistake, not thousands."""
    missing = sum(issue.kind == "missing-image" for issue in issues)
    if missing and missing == images:
        print(f"none of the {images} images is there: give their folder by --image-root DIR\n")


def _print_issues(issues: list, limit: int) -> None:
    for severity, effect in _EFFECT.items():
        kinds: dict[str, list] = {}
        for issue in issues:
            if issue.severity == severity:
                kinds.setdefault(issue.kind, []).append(issue)
        if kinds:
            print(f"\n{effect}")
        for kind, group in kinds.items():
            print(f"  {kind} ({len(group)})")
            shown = group[:limit] if limit > 0 else group
            for issue in shown:
                print(f"    {issue}")
            if len(shown) < len(group):
                print(f"    … and {len(group) - len(shown)} more; --limit 0 prints all")
    if issues:
        print()


def _summary(issues: list, opened: bool) -> str:
    what = "" if opened else " (images were not opened)"
    if not issues:
        return f"no issues{what}"
    counts = [
        f"{sum(issue.severity == severity for issue in issues)} {severity}" for severity in _EFFECT
    ]
    noun = "issue" if len(issues) == 1 else "issues"
    return f"{len(issues)} {noun}: {', '.join(counts)}{what}"
