"""Masks over the frames of videos, in YouTube-VIS's format."""

from __future__ import annotations

import math
import os

import numpy as np

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.data.isbda.paths import PathChecker
from msnet_d2.data.isbda.reading import is_id
from msnet_d2.data.kinds.report import (
    KindReport,
    check_files,
    read_class_names,
    start_report,
    thing_categories,
)
from msnet_d2.errors import DatasetError
from msnet_d2.structures.rle import segmentation_to_rle
from msnet_d2.utils.text import brief

__all__ = ["describe", "find_pixel_issues", "read"]

MAX_SIDE = 1 << 16  # pixels


def read(json_file: str, image_root: str, truth_root: str, table: str | None) -> KindReport:
    """Read a data set in YouTube-VIS's format.

    Args:
        json_file: with ``videos``, ``annotations`` and ``categories``.
        image_root: folder that the ``file_names`` of videos are relative to.
        truth_root: not used.
        table: none is known.

    Returns:
        One record a video: ``video_id``, ``height``, ``width``, ``length``, ``file_names``, and
        ``tracks``: dicts of ``id``, ``category_id`` (contiguous), ``iscrowd``, ``segmentations``
        (compressed RLE, or None where it is not seen, one for each frame) and the JSON's
        ``building_id`` and ``part_id``.
    """
    if table is not None:
        raise DatasetError(f"tracks have no label tables, so none named {table!r}")
    lists = ("videos", "annotations", "categories")
    report, content, _ = start_report(json_file, image_root, truth_root, lists)
    if content is None:
        return report
    names = read_class_names(content["categories"], report, "categories", least_id=1)
    report.categories = thing_categories(names)
    report.metadata = {
        "thing_classes": report.categories.thing_classes,
        "thing_dataset_id_to_contiguous_id": report.categories.id_to_contiguous,
    }
    videos = _read_videos(content["videos"], report)
    seen: set[int] = set()
    for index, raw in enumerate(content["annotations"]):
        number = raw.get("id") if isinstance(raw, dict) else None
        video = videos.get(raw.get("video_id")) if isinstance(raw, dict) else None
        if not is_id(number):
            message = f"annotations[{index}] has the id {brief(number)}, not an integer"
            report.report("fatal", "annotation-id", message)
        elif number in seen:
            report.report(
                "fatal", "duplicate-annotation-id", "two tracks have this id", None, number
            )
        elif video is None:
            message = f"video_id {brief(raw.get('video_id'))} is not among the videos"
            report.report("fatal", "unknown-video", message, None, number)
        else:
            seen.add(number)
            track = _read_track(raw, video, report)
            if track is not None:
                video["tracks"].append(track)
    report.records = list(videos.values())
    return report


def _read_videos(raws: list, report: KindReport) -> dict[int, dict]:
    videos: dict[int, dict] = {}
    paths = PathChecker(report.image_root)
    for index, raw in enumerate(raws):
        number = raw.get("id") if isinstance(raw, dict) else None
        if not is_id(number) or number in videos:
            what = "the id of another" if number in videos else f"the id {brief(number)}"
            report.report("fatal", "video-id", f"videos[{index}] has {what}")
            continue
        names, sides = raw.get("file_names"), (raw.get("height"), raw.get("width"))
        if not isinstance(names, list) or not names:
            report.report("fatal", "video-field", f"file_names is {brief(names)}", number)
            continue
        if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
            message = f"height and width are {brief(list(sides))}, not numbers of pixels"
            report.report("fatal", "video-field", message, number)
            continue
        files = []
        for name in names:
            try:
                files.append(paths.resolve(name))
            except ValueError as error:
                report.report("fatal", "file-name", f"{brief(name)} {error}", number)
        length = raw.get("length", len(names))
        if length != len(names):
            message = f"length is {brief(length)}, but there are {len(names)} file_names"
            report.report("fatal", "video-field", message, number)
        videos[number] = {
            "video_id": number,
            "height": sides[0],
            "width": sides[1],
            "length": len(names),
            "file_names": files,
            "tracks": [],
        }
    return videos


def _read_track(raw: dict, video: dict, report: KindReport) -> dict | None:
    number, ids = raw["id"], report.metadata["thing_dataset_id_to_contiguous_id"]

    def say(severity: str, kind: str, message: str) -> None:
        report.report(severity, kind, message, video["video_id"], number)

    category = raw.get("category_id")
    if type(category) is not int or category not in ids:
        known = ", ".join(map(str, ids))
        say("fatal", "unknown-category", f"category_id {brief(category)} is none of {known}")
        return None
    values = raw.get("segmentations")
    if not isinstance(values, list) or len(values) != video["length"]:
        got = f"{len(values)} entries" if isinstance(values, list) else brief(values)
        say("fatal", "segmentations", f"has {got} for the {video['length']} frames of its video")
        return None
    masks = []
    for frame, value in enumerate(values):
        try:
            size = video["height"], video["width"]
            masks.append(None if not value else segmentation_to_rle(value, *size))
        except (ValueError, TypeError) as error:
            say("fatal", "malformed-mask", f"its mask in frame {frame} is unusable: {error}")
            return None
    if not any(masks):
        say("dropped", "empty-track", "it is seen in no frame")
        return None
    return {
        "id": number,
        "category_id": ids[category],
        "iscrowd": int(raw.get("iscrowd", 0) == 1),
        "segmentations": masks,
        **{k: raw[k] for k in ("building_id", "part_id") if type(raw.get(k)) is int},
    }


def find_pixel_issues(
    report: KindReport, workers: int | None = None, progress: bool = False
) -> list[Issue]:
    """See that every frame of every video is there."""
    return check_files(report.records, _check, workers, progress, "video")


def _check(record: dict) -> list[Issue]:
    missing = [name for name in record["file_names"] if not os.path.isfile(name)]
    if not missing:
        return []
    message = f"{len(missing)} of its frames are not there, the first is {missing[0]}"
    return [Issue("fatal", "missing-image", record["video_id"], None, message)]


def describe(report: KindReport) -> str:
    """Tracks by category, as a table for people."""
    from tabulate import tabulate

    rows = []
    lengths: dict[int, list[int]] = {}
    gaps: dict[int, int] = {}
    for record in report.records:
        for track in record["tracks"]:
            there = [n for n, mask in enumerate(track["segmentations"]) if mask]
            number = track["category_id"]
            lengths.setdefault(number, []).append(len(there))
            gaps[number] = gaps.get(number, 0) + (there[-1] - there[0] + 1 > len(there))
    for number, name in enumerate(report.metadata["thing_classes"]):
        frames = lengths.get(number, [])
        median = float(np.median(frames)) if frames else math.nan
        single = sum(n == 1 for n in frames)
        rows.append([name, len(frames), sum(frames), median, single, gaps.get(number, 0)])
    heads = ["category", "tracks", "masks", "median frames", "of one frame", "with gaps"]
    frames = sum(record["length"] for record in report.records)
    return f"{tabulate(rows, heads, 'simple')}\n\n{len(report.records):,} videos, {frames:,} frames"
