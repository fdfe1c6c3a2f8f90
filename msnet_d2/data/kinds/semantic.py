"""Semantic segmentation: one label picture an image, and tables from its labels to classes.

The JSON has ``images`` with ``sem_seg_file_name``, ``labels`` ({id, name}), ``ignore_label`` and,
if there are several ways to join labels to classes, ``label_tables``: name -> {classes, lut}, where
``lut`` has the class of each of the 256 values.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from msnet_d2.data.isbda.issues import Issue
from msnet_d2.data.kinds.label_images import read_labels
from msnet_d2.data.kinds.report import KindReport, check_files, read_class_names, start_report
from msnet_d2.errors import DatasetError
from msnet_d2.utils.text import brief

__all__ = ["describe", "find_pixel_issues", "read"]

IGNORED = 255


def read(json_file: str, image_root: str, truth_root: str, table: str | None) -> KindReport:
    """Read a semantic data set.

    Args:
        json_file: see the module.
        image_root: folder of the images.
        truth_root: folder of the label pictures.
        table: name of the label table; None: the first one, or every label a class if there is
            none.

    Returns:
        Records with ``sem_seg_file_name`` and ``label_lut``, (256,) uint8: the class of each value
        of the label picture, 255 where it is ignored. Metadata: ``stuff_classes``,
        ``ignore_label``, ``label_lut``.
    """
    report, content, records = start_report(json_file, image_root, truth_root, ("images",))
    if content is None:
        return report
    names = read_class_names(content.get("labels"), report, "labels")
    for number in [n for n in names if n > 254]:
        report.report("fatal", "labels", f"label {number}: labels go from 0 to 254")
    ignored = content.get("ignore_label", IGNORED)
    if type(ignored) is not int or not 0 <= ignored <= 255:
        report.report("fatal", "labels", f"ignore_label is {brief(ignored)}, not one of 0 to 255")
        ignored = IGNORED
    classes, lut = _table(content.get("label_tables"), names, table, report)
    report.metadata = {
        "stuff_classes": classes,
        "ignore_label": IGNORED,
        "label_lut": lut,
        "label_values": sorted({*names, ignored}),
    }
    for raw in content["images"]:
        record = records.get(raw.get("id")) if isinstance(raw, dict) else None
        if record is not None and "sem_seg_file_name" not in record:
            name = raw.get("sem_seg_file_name")
            path = report.resolve(name, "sem_seg_file_name", record["image_id"])
            record.update(sem_seg_file_name=path, label_lut=lut)
    return report


def _table(
    tables: object, names: dict[int, dict], wanted: str | None, report: KindReport
) -> tuple[list[str], np.ndarray]:
    """Classes, and the class of each label."""
    if not tables:
        if wanted is not None:
            raise DatasetError(f"{report.json_file} has no label tables, so none named {wanted!r}")
        lut = np.full(256, IGNORED, np.uint8)
        ordered = sorted(n for n in names if n < 255)
        lut[ordered] = np.arange(len(ordered))
        return [names[n]["name"] for n in ordered], lut
    if not isinstance(tables, dict):
        report.report("fatal", "label-table", f"label_tables is {brief(tables)}, not an object")
        return [], np.full(256, IGNORED, np.uint8)
    name = next(iter(tables)) if wanted is None else wanted
    if name not in tables:
        raise DatasetError(
            f"{report.json_file} has no label table {name!r}; it has {', '.join(tables)}"
        )
    table = tables[name] if isinstance(tables[name], dict) else {}
    classes, values = table.get("classes"), table.get("lut")
    good = (
        isinstance(classes, list)
        and classes
        and all(isinstance(c, str) for c in classes)
        and isinstance(values, list)
        and len(values) == 256
        and all(type(v) is int and (v == IGNORED or 0 <= v < len(classes)) for v in values)
    )
    if not good:
        report.report(
            "fatal",
            "label-table",
            f"the label table {name!r} needs a list of classes, and in lut a class or 255 "
            "(ignored) for each of 256 values",
        )
        return [], np.full(256, IGNORED, np.uint8)
    return list(classes), np.array(values, np.uint8)


def find_pixel_issues(
    report: KindReport, workers: int | None = None, progress: bool = False
) -> list[Issue]:
    """Open every label picture: it must have the image's size, and no value but the labels."""
    known = np.zeros(256, bool)
    known[report.metadata.get("label_values", [])] = True
    todo = [r for r in report.records if r.get("sem_seg_file_name")]
    return check_files(todo, partial(_check, known=known), workers, progress, "label picture")


def _check(record: dict, known: np.ndarray) -> list[Issue]:
    path, image_id = record["sem_seg_file_name"], record["image_id"]
    try:
        labels = read_labels(path)
    except DatasetError as error:
        return [Issue("fatal", "label-image", image_id, None, str(error))]
    issues = []
    height, width = labels.shape
    if (record["width"], record["height"]) not in ((width, height), (None, None)):
        message = f"{path} is {width}x{height}, its image {record['width']}x{record['height']}"
        issues.append(Issue("fatal", "label-size", image_id, None, message))
    counts = np.bincount(labels.ravel(), minlength=256)
    strange = np.nonzero((counts > 0) & ~known)[0].tolist()
    if strange:
        share = counts[strange].sum() / labels.size
        message = f"{path} has values that are no labels, at {share:.1%} of its pixels: "
        message += ", ".join(map(str, strange[:8])) + (" …" if len(strange) > 8 else "")
        issues.append(Issue("fatal", "unknown-label", image_id, None, message))
    return issues


def describe(report: KindReport) -> str:
    """Pixels by class, as a table for people."""
    from tabulate import tabulate

    classes, lut = report.metadata["stuff_classes"], report.metadata["label_lut"]
    counts, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for record in report.records:
        there = np.bincount(lut[read_labels(record["sem_seg_file_name"])].ravel(), minlength=256)
        counts += there
        images += there > 0
    total = max(int(counts.sum()), 1)
    rows = [
        [name, int(counts[n]), f"{counts[n] / total:.1%}", int(images[n])]
        for n, name in [*enumerate(classes), (IGNORED, "(ignored)")]
    ]
    table = tabulate(rows, ["class", "pixels", "share", "images"], "simple")
    return f"{table}\n\n{len(report.records):,} images"
