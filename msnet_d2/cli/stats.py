"""Count the instances of a data set by level and size, and draw their areas.

Sizes are COCO's: the mask of a small instance has less than 32² pixels, of a medium one less than
96².
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msnet_d2.cli.options import add_options

HELP = "count a data set's instances by level and size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``msnet stats``."""
    add_options(parser, "dataset", "--image-root", "--crowd-as-objects", "--parent-category")
    parser.add_argument(
        "--histogram",
        type=Path,
        metavar="PNG",
        help="also draw the areas below their 90th percentile, by level",
    )


def run(args: argparse.Namespace) -> int:
    """Print a table for each split, and one for all."""
    from msnet_d2.data import dataset_files, resolve_dataset
    from msnet_d2.data.isbda.conventions import ReadOptions
    from msnet_d2.data.isbda.reading import read_and_validate
    from msnet_d2.data.isbda.statistics import (
        collect_statistics,
        draw_area_histogram,
        merge_statistics,
    )
    from msnet_d2.data.isbda.validation import raise_fatal
    from msnet_d2.data.kinds import kind_of
    from msnet_d2.errors import DatasetError, InputError

    if args.histogram and args.histogram.suffix.lower() != ".png":
        raise InputError(f"--histogram is {args.histogram}; it must end in .png")
    parts = []
    options = ReadOptions(args.crowd_as_objects, args.parent_category or "auto")
    names = resolve_dataset(args.dataset, args.image_root, options)
    if kind_of(names[0]) is not None:
        if args.histogram:
            raise InputError("--histogram is of the areas of instances, in ISBDA's data sets alone")
        return _describe(names)
    for name in names:
        found = read_and_validate(*dataset_files(name), options=options)
        raise_fatal(found)
        parts.append(collect_statistics(found.records, found.categories.thing_classes))
        print(f"{name}\n\n{parts[-1].as_text()}")
        dropped = sum(issue.severity == "dropped" for issue in found.issues)
        if dropped:
            print(f"{dropped} unusable annotations or polygons are left out; see `msnet check`")
        print()
    if len({tuple(part.classes) for part in parts}) > 1:
        raise DatasetError(f"{', '.join(names)} have different classes")
    total = merge_statistics(parts)
    if len(parts) > 1:
        print(f"all\n\n{total.as_text()}\n")
    if args.histogram:
        draw_area_histogram(total, args.histogram, found.categories.thing_colors)
        print(f"wrote {args.histogram}")
    return 0


def _describe(names: list[str]) -> int:
    """Print the statistics of data sets of another kind."""
    from msnet_d2.data.isbda.validation import raise_fatal
    from msnet_d2.data.kinds import kind_of, read_kind

    for name in names:
        report = read_kind(name)
        raise_fatal(report)
        kind = kind_of(name)
        assert kind is not None, "it was read"
        print(f"{name}\n\n{kind.describe(report)}\n")
    return 0
