"""Opening every image of a data set, to find those that training would stumble over."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from PIL import Image

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.utils.image_io import DEFAULT_LIMITS, Limits, decodes_strictly, open_image
from msnet_d2.utils.image_layout import Layout, layout_of, read_deep, scale_to_8_bits, too_deep

__all__ = ["check_image", "find_image_issues"]

_EXIF_ORIENTATION = 0x0112


def find_image_issues(
    records: Sequence[dict],
    workers: int | None = None,
    progress: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    depth: str = "refuse",
) -> list[Issue]:
    """Decode the images of dataset dicts, in parallel.

    Args:
        records: dataset dicts; those without ``file_name`` are passed over.
        workers: number of threads; None: as many as processors, at most 8. Pillow decodes without
            holding Python's lock.
        progress: show a progress bar on standard error.
        limits: larger images count as unreadable, as they do in training.
        depth: ``INPUT.DEPTH`` of that training.

    Returns:
        The issues, in the order of the records.
    """
    from tqdm import tqdm

    todo = [record for record in records if record["file_name"]]
    if workers is None:
        workers = min(8, os.cpu_count() or 1)
    # What Pillow warns of is either harmless or found below. The filter is one for all threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore")
        results = pool.map(partial(check_image, limits=limits, depth=depth), todo)
        bar = tqdm(
            results, "opening images", len(todo), unit="image", disable=not (progress and todo)
        )
        return [issue for issues in bar for issue in issues]


def check_image(
    record: dict, limits: Limits = DEFAULT_LIMITS, depth: str = "refuse"
) -> list[Issue]:
    """Find the issues of one image by reading all of it.

    Args:
        record: dataset dict with ``file_name``, ``image_id``, ``height`` and ``width``; the last
            two may be None: unknown.
        limits: what it may have at most.
        depth: ``INPUT.DEPTH``.

    Returns:
        The issues; an empty list if it is as it should be.
    """
    path, issues = record["file_name"], []

    def report(severity: str, kind: str, message: str) -> None:
        issues.append(Issue(severity, kind, record["image_id"], None, message))

    try:
        # Neither a folder nor a pipe, which would block when it is opened.
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        is_file = False
    if not is_file:
        report("fatal", "missing-image", f"there is no file {path}")
        return issues
    try:
        with open_image(path, limits) as image:
            layout = layout_of(image)
            problem = layout.problem or _depth_problem(image, layout, path, depth)
            image.load()
            turned = image.getexif().get(_EXIF_ORIENTATION, 1)
    # Decoders meet damaged files with almost any exception (SyntaxError, struct.error, KeyError …).
    except Exception as error:
        report("fatal", "unreadable-image", f"{path} cannot be decoded: {error}")
        return issues
    if problem:
        report("fatal", "image-depth", f"{path}: {problem}")
    width, height = image.size if turned not in (5, 6, 7, 8) else image.size[::-1]
    wanted = (record["width"], record["height"])
    if None not in wanted and (width, height) != wanted:
        hint = " once turned as its EXIF data says" if (height, width) == image.size else ""
        report(
            "fatal",
            "image-size",
            f"{path} is {width}x{height}{hint}, but {wanted[0]}x{wanted[1]} in the JSON",
        )
    elif turned in range(2, 9):
        report(
            "kept",
            "exif-orientation",
            f"{path} is turned or mirrored when read (EXIF orientation {turned}); make sure that "
            "its annotations were drawn on the turned picture",
        )
    if not decodes_strictly(path):
        report(
            "kept",
            "damaged-image",
            f"{path} opens, but its JPEG data is damaged: parts of the picture are wrong",
        )
    return issues


def _depth_problem(image: Image.Image, layout: Layout, path: str, depth: str) -> str | None:
    """Why an opened image cannot be scaled to 8 bits; None: it can, or need not."""
    if not layout.is_deep:
        return None
    if depth == "refuse":
        return too_deep(layout)
    try:
        scale_to_8_bits(read_deep(image, layout, path), layout, depth)
    except ValueError as error:
        return str(error)
    return None
