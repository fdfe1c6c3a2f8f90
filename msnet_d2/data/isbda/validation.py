"""Finding every flaw of a data set at once."""

from __future__ import annotations

import os

from msnet_d2.data.isbda.flaws import Examination, Flaw
from msnet_d2.data.isbda.reading import examine
from msnet_d2.errors import DatasetError

__all__ = ["Flaw", "find_flaws", "raise_fatal"]

_SHOWN = 10  # flaws in an error


def find_flaws(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    check_images: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> list[Flaw]:
    """Find every flaw of a data set.

    Args:
        json_file: in ISBDA's or COCO's format.
        image_root: folder that its file names are relative to.
        check_images: also open and decode every image.
        workers: threads that do so; None: as many as there are processors, at most 8.
        progress: show a progress bar while doing so.

    Returns:
        All flaws, an empty list if there are none. Nothing is raised for any content of the files.
    """
    found = examine(json_file, image_root)
    if check_images:
        from msnet_d2.data.isbda.image_checks import find_image_flaws

        found.flaws.extend(find_image_flaws(found.records, workers, progress))
    return found.flaws


def raise_fatal(found: Examination) -> None:
    """Refuse a data set with fatal flaws.

    Raises:
        DatasetError: with the number of fatal flaws and the first ten of them.
    """
    fatal = [flaw for flaw in found.flaws if flaw.fatal]
    if not fatal:
        return
    lines = [f"  {flaw.kind}: {flaw}" for flaw in fatal[:_SHOWN]]
    if len(fatal) > _SHOWN:
        lines.append(f"  … and {len(fatal) - _SHOWN} more; `msnet check` prints all")
    count = "a fatal flaw" if len(fatal) == 1 else f"{len(fatal)} fatal flaws"
    raise DatasetError("\n".join([f"{found.json_file} has {count}:", *lines]))
