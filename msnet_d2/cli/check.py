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
    add_options(parser, "dataset", "--image-root")
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
    from msnet_d2.data import dataset_files, find_issues, resolve_dataset
    from msnet_d2.utils.file_io import write_json

    issues, report = [], []
    for name in resolve_dataset(args.dataset, args.image_root):
        json_file, image_root = dataset_files(name)
        found = find_issues(
            json_file,
            image_root,
            check_images=not args.no_images,
            workers=args.num_workers,
            progress=not args.no_progress,
        )
        print(f"{name}: {json_file}, images in {image_root}")
        _print_issues(found, args.limit)
        issues += found
        report += [{"dataset": name, **issue.as_dict()} for issue in found]
    if args.json:
        write_json(args.json, report)
    print(_summary(issues, opened=not args.no_images))
    return int(any(issue.fatal for issue in issues) if args.fatal_only else bool(issues))


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
