"""Finding every issue of a data set at once."""

from __future__ import annotations

import os

from msnet_d2.data.isbda.issues import Issue, ValidationReport
from msnet_d2.data.isbda.reading import read_and_validate
from msnet_d2.errors import DatasetError

__all__ = ["Issue", "find_issues", "raise_fatal"]

_SHOWN = 10  # issues in an error


def find_issues(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    check_images: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> list[Issue]:
    """Find every issue of a data set.

    Args:
        json_file: in ISBDA's or COCO's format.
        image_root: folder that its file names are relative to.
        check_images: also open and decode every image.
        workers: threads that do so; None: as many as there are processors, at most 8.
        progress: show a progress bar while doing so.

    Returns:
        All issues, an empty list if there are none. Nothing is raised for any content of the files.
    """
    found = read_and_validate(json_file, image_root)
    if check_images:
        from msnet_d2.data.isbda.image_checks import find_image_issues

        found.issues.extend(find_image_issues(found.records, workers, progress))
    return found.issues


def raise_fatal(found: ValidationReport) -> None:
    """Refuse a data set with fatal issues.

    Raises:
        DatasetError: with the number of fatal issues and the first ten of them.
    """
    fatal = [issue for issue in found.issues if issue.fatal]
    if not fatal:
        return
    lines = [f"  {issue.kind}: {issue}" for issue in fatal[:_SHOWN]]
    if len(fatal) > _SHOWN:
        lines.append(f"  … and {len(fatal) - _SHOWN} more; `msnet check` prints all")
    count = "a fatal issue" if len(fatal) == 1 else f"{len(fatal)} fatal issues"
    raise DatasetError("\n".join([f"{found.json_file} has {count}:", *lines]))
