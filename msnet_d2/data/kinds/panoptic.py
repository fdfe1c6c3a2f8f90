"""Panoptic segmentation in COCO's format: a picture of segment ids an image, and a JSON."""

from __future__ import annotations

from collections import Counter

import numpy as np

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.data.isbda.reading import is_id
from msnet_d2.data.kinds.label_images import read_segment_ids
from msnet_d2.data.kinds.report import KindReport, check_files, read_class_names, start_report
from msnet_d2.errors import DatasetError
from msnet_d2.utils.text import brief

__all__ = ["describe", "find_pixel_issues", "read"]

VOID = 0


def read(json_file: str, image_root: str, truth_root: str, table: str | None) -> KindReport:
    """Read a data set in COCO's panoptic format.

    Args:
        json_file: with ``images``, ``annotations`` and ``categories``.
        image_root: folder of the images.
        truth_root: folder of the pictures of segment ids.
        table: none is known.

    Returns:
        Records with ``pan_seg_file_name`` and ``segments_info``: dicts of ``id``, ``category_id``
        (contiguous, among things or among stuff), ``isthing``, ``iscrowd``, ``area`` and ``bbox``
        (XYWH), and the JSON's ``parent_id``, ``building_id`` and ``part_id``. Metadata are those of
        Detectron2's ``register_coco_panoptic_separated``: ``stuff_classes`` begins with "things".
    """
    if table is not None:
        raise DatasetError(f"panoptic data sets have no label tables, so none named {table!r}")
    report, content, records = start_report(
        json_file, image_root, truth_root, ("images", "annotations", "categories")
    )
    if content is None:
        return report
    categories = read_class_names(content["categories"], report, "categories", least_id=1)
    for number, entry in categories.items():
        if entry.get("isthing") not in (0, 1):
            got = brief(entry.get("isthing"))
            report.report("fatal", "categories", f"isthing of {number} is {got}, not 0 or 1")
    report.metadata = _metadata(categories, json_file, truth_root)
    seen = set()
    for index, raw in enumerate(content["annotations"]):
        image_id = raw.get("image_id") if isinstance(raw, dict) else None
        record = records.get(image_id) if is_id(image_id) else None
        if record is None:
            message = f"annotations[{index}] has the image_id {brief(image_id)}, of no image"
            report.report("fatal", "unknown-image", message)
        elif image_id in seen:
            report.report("fatal", "duplicate-annotation", "two annotations are of it", image_id)
        else:
            seen.add(image_id)
            record["pan_seg_file_name"] = report.resolve(
                raw.get("file_name"), "file_name of the segments", image_id
            )
            record["segments_info"] = _segments(raw, categories, report, image_id)
    for record in report.records:
        if record["image_id"] not in seen:
            message = "it has no annotation: there is no picture of its segments"
            report.report("fatal", "no-annotation", message, record["image_id"])
    return report


def _metadata(categories: dict[int, dict], json_file: str, truth_root: str) -> dict:
    things = [n for n in sorted(categories) if categories[n].get("isthing") == 1]
    stuff = [n for n in sorted(categories) if categories[n].get("isthing") == 0]
    metadata = {
        "thing_classes": [categories[n]["name"] for n in things],
        "stuff_classes": ["things", *(categories[n]["name"] for n in stuff)],
        "thing_dataset_id_to_contiguous_id": {n: k for k, n in enumerate(things)},
        # Class 0 of the semantic head stands for all things.
        "stuff_dataset_id_to_contiguous_id": {0: 0, **{n: k for k, n in enumerate(stuff, 1)}},
        "panoptic_json": json_file,
        "panoptic_root": truth_root,
        "ignore_label": 255,
        "label_divisor": 1000,
    }
    if all(_is_color(categories[n].get("color")) for n in categories):
        metadata["thing_colors"] = [categories[n]["color"] for n in things]
        metadata["stuff_colors"] = [[0, 0, 0], *(categories[n]["color"] for n in stuff)]
    return metadata


def _is_color(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(v) is int and 0 <= v <= 255 for v in value)
    )


def _segments(raw: dict, categories: dict, report: KindReport, image_id: int) -> list[dict]:
    segments, ids = [], set()
    infos = raw.get("segments_info")
    if not isinstance(infos, list):
        message = f"segments_info is {brief(infos)}, not a list"
        report.report("fatal", "segments-info", message, image_id)
        return []
    to_thing = report.metadata["thing_dataset_id_to_contiguous_id"]
    to_stuff = report.metadata["stuff_dataset_id_to_contiguous_id"]
    for info in infos:
        number = info.get("id") if isinstance(info, dict) else None
        problem = None
        if type(number) is not int or not 0 < number < 1 << 24:
            problem = f"{brief(info)} has no id from 1 to {(1 << 24) - 1}"
        elif number in ids:
            problem = f"two segments have the id {number}"
        elif info.get("category_id") not in categories:
            problem = f"segment {number} has the category {brief(info.get('category_id'))}"
        elif type(info.get("area")) is not int or info["area"] < 0:
            problem = f"segment {number} has the area {brief(info.get('area'))}"
        if problem is not None:
            report.report("fatal", "segments-info", problem, image_id)
            continue
        ids.add(number)
        thing = info["category_id"] in to_thing
        segments.append(
            {
                "id": number,
                "category_id": (to_thing if thing else to_stuff)[info["category_id"]],
                "isthing": thing,
                "iscrowd": int(info.get("iscrowd", 0) == 1),
                "area": info["area"],
                "bbox": info.get("bbox"),
                **{k: info[k] for k in ("parent_id", "building_id", "part_id") if k in info},
            }
        )
    return segments


def find_pixel_issues(
    report: KindReport, workers: int | None = None, progress: bool = False
) -> list[Issue]:
    """Open every picture of segments: sizes, ids and areas must be those of the JSON."""
    todo = [r for r in report.records if r.get("pan_seg_file_name")]
    return check_files(todo, _check, workers, progress, "panoptic picture")


def _check(record: dict) -> list[Issue]:
    path, image_id = record["pan_seg_file_name"], record["image_id"]
    try:
        ids = read_segment_ids(path)
    except DatasetError as error:
        return [Issue("fatal", "panoptic-image", image_id, None, str(error))]
    issues = []

    def add(kind: str, message: str) -> None:
        issues.append(Issue("fatal", kind, image_id, None, message))

    height, width = ids.shape
    if (record["width"], record["height"]) not in ((width, height), (None, None)):
        wanted = f"{record['width']}x{record['height']}"
        add("panoptic-size", f"{path} is {width}x{height}, its image {wanted}")
    numbers, counts = np.unique(ids, return_counts=True)
    there = dict(zip(numbers.tolist(), counts.tolist()))
    listed = {s["id"]: s for s in record["segments_info"]}
    for number in there.keys() - listed.keys() - {VOID}:
        add("unlisted-segment", f"{path} has segment {number}, which segments_info does not list")
    for number, segment in listed.items():
        pixels = there.get(number, 0)
        if not pixels:
            add("missing-segment", f"segment {number} has no pixel in {path}")
        elif pixels != segment["area"]:
            # An evaluator that trusts the area gives figures above 100.
            add("area", f"segment {number} has {pixels} pixels, and by its area {segment['area']}")
    return issues


def describe(report: KindReport) -> str:
    """Segments by category, as a table for people."""
    from tabulate import tabulate

    names = {True: report.metadata["thing_classes"], False: report.metadata["stuff_classes"]}
    counts, areas, images = Counter(), Counter(), Counter()
    for record in report.records:
        for segment in record["segments_info"]:
            key = (segment["isthing"], segment["category_id"])
            counts[key] += 1
            areas[key] += segment["area"]
        images.update({(s["isthing"], s["category_id"]) for s in record["segments_info"]})
    total = sum(r["width"] * r["height"] for r in report.records) or 1
    rows = []
    for thing in (True, False):
        for number, name in enumerate(names[thing]):
            if thing or number:
                key = (thing, number)
                share = f"{areas[key] / total:.1%}"
                rows.append([name, "thing" if thing else "stuff", counts[key], share, images[key]])
    void = f"{1 - sum(areas.values()) / total:.1%}"
    table = tabulate(
        [*rows, ["(void)", "", "", void, ""]],
        ["category", "is", "segments", "share of pixels", "images"],
        "simple",
    )
    return f"{table}\n\n{len(report.records):,} images"
