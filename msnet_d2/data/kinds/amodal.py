"""Instances with what is hidden of them: COCO's JSON with ``amodal_segmentation`` beside it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pycocotools import mask as mask_util

from msnet_d2.data.isbda.conventions import ReadOptions
from msnet_d2.data.isbda.reading import read_and_validate, read_json
from msnet_d2.data.kinds.report import KindReport
from msnet_d2.errors import DatasetError
from msnet_d2.structures.rle import segmentation_to_rle

__all__ = ["describe", "read"]

# Pixels by which an outline drawn by hand may reach out of the whole.
TOLERANCE = 0.02
SHARES = (0.5, 0.75, 0.9)  # bounds of the visible share in the statistics


def read(json_file: str, image_root: str, truth_root: str, table: str | None) -> KindReport:
    """Read an amodal data set.

    Args:
        json_file: COCO's, whose annotations have ``segmentation`` (what is seen),
            ``amodal_segmentation`` and, if they like, ``occluder_segmentation``: polygons or RLE.
        image_root: folder of the images.
        truth_root: not used.
        table: none is known.

    Returns:
        Records as :func:`msnet_d2.data.load_isbda_json` gives them; each annotation also has
        ``amodal_segmentation`` and ``occluder_segmentation`` (compressed RLE; what of the whole is
        not seen, if the JSON has none) and ``visible_share``, and the JSON's ``track_id``,
        ``building_id`` and ``part_id``.
    """
    if table is not None:
        raise DatasetError(f"amodal data sets have no label tables, so none named {table!r}")
    found = read_and_validate(json_file, image_root, options=ReadOptions(parent_category=""))
    report = KindReport(found.json_file, found.image_root, found.issues, found.categories)
    report.records = found.records
    report.metadata = {
        "thing_classes": found.categories.thing_classes,
        "thing_dataset_id_to_contiguous_id": found.categories.complete_ids()
        if found.categories.thing_classes
        else {},
    }
    content = None if any(i.kind == "json" for i in found.issues) else read_json(report)
    raws = {
        raw["id"]: raw
        for raw in (content or {}).get("annotations", ())
        if isinstance(raw, dict) and type(raw.get("id")) is int
    }
    for record in report.records:
        record["annotations"] = [
            annotation
            for annotation in record["annotations"]
            if _add_masks(annotation, raws[annotation["id"]], record, report)
        ]
    return report


def _add_masks(annotation: dict, raw: dict, record: dict, report: KindReport) -> bool:
    """Add the amodal fields of ``raw``; False if they cannot be used, as the report says."""

    def say(severity: str, kind: str, message: str) -> None:
        report.report(severity, kind, message, record["image_id"], annotation["id"])

    size = record["height"], record["width"]
    masks = {}
    for key in ("segmentation", "amodal_segmentation", "occluder_segmentation"):
        value = annotation.get(key) if key == "segmentation" else raw.get(key)
        if value is None and key == "occluder_segmentation":
            continue
        try:
            masks[key] = segmentation_to_rle(value, *size)
        except (ValueError, TypeError) as error:
            say("fatal", "malformed-mask", f"its {key} is unusable: {error}")
            return False
    seen, whole = (mask_util.decode(masks[k]) for k in ("segmentation", "amodal_segmentation"))
    if not whole.any():
        say("dropped", "empty-mask", "its amodal_segmentation has no pixels")
        return False
    out = np.count_nonzero(seen & ~whole & 1)
    if out > TOLERANCE * np.count_nonzero(seen):
        say("kept", "visible-beyond-amodal", f"{out} pixels that are seen lie out of its whole")
    hidden = whole & ~seen & 1
    if "occluder_segmentation" in masks:
        given = mask_util.decode(masks["occluder_segmentation"])
        both = np.count_nonzero(given & seen)
        if both:
            say("kept", "occluder-on-visible", f"its occluder hides {both} pixels that are seen")
    else:
        rle = mask_util.encode(np.asfortranarray(hidden))
        masks["occluder_segmentation"] = segmentation_to_rle(rle, *size)
    share = np.count_nonzero(seen & whole) / np.count_nonzero(whole)
    annotation.update(masks, visible_share=float(share))
    for key in ("track_id", "building_id"):
        if type(raw.get(key)) is int:
            annotation[key] = raw[key]
    return True


def describe(report: KindReport) -> str:
    """Instances by category and visible share, as a table for people."""
    from tabulate import tabulate

    names = report.metadata["thing_classes"]
    counts = np.zeros((len(names), len(SHARES) + 1), np.int64)
    for record in report.records:
        for annotation in record["annotations"]:
            place = np.searchsorted(SHARES, annotation["visible_share"], side="right")
            counts[annotation["category_id"], place] += 1
    heads = [f"below {SHARES[0]:.0%}"]
    heads += [f"{a:.0%} to {b:.0%}" for a, b in pairwise(SHARES)]
    rows = [[name, *map(int, row), int(row.sum())] for name, row in zip(names, counts)]
    rows.append(["total", *map(int, counts.sum(0)), int(counts.sum())])
    table = tabulate(rows, ["visible", *heads, f"from {SHARES[-1]:.0%}", "total"], "simple")
    return f"{table}\n\n{len(report.records):,} images"
