"""What reading a data set of a kind gives, and checks that several kinds share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from msnet_d2.data.isbda.categories import CategoryMap
from msnet_d2.data.isbda.issues import Issue, ValidationReport
from msnet_d2.data.isbda.paths import PathChecker
from msnet_d2.data.isbda.reading import FRAME_PATTERN, compile_pattern, read_images, read_json
from msnet_d2.utils.text import brief

__all__ = [
    "KindReport",
    "check_files",
    "read_class_names",
    "start_report",
    "thing_categories",
]


@dataclass
class KindReport(ValidationReport):
    """A report with what its records need beside ISBDA's.

    Attributes:
        truth_root: folder of pictures or arrays of truth.
        metadata: for Detectron2's ``MetadataCatalog``.
    """

    truth_root: str = ""
    metadata: dict = field(default_factory=dict)

    def resolve(self, name: object, key: str, image_id: object) -> str:
        """Path of a file in :attr:`truth_root`; reports a name that is none, and returns ""."""
        try:
            return self._paths.resolve(name)
        except ValueError as error:
            self.report("fatal", "file-name", f"{key} {brief(name)} {error}", image_id)
            return ""

    def __post_init__(self):
        self._paths = PathChecker(self.truth_root)


def start_report(
    json_file: str, image_root: str, truth_root: str, lists: tuple[str, ...]
) -> tuple[KindReport, dict | None, dict[int, dict]]:
    """Read a JSON and its images.

    Returns:
        The report, the content (None: it is unusable, as the report says), and the records by image
        id, without ``annotations``.
    """
    report = KindReport(
        json_file, os.path.abspath(image_root), truth_root=os.path.abspath(truth_root)
    )
    content = read_json(report, lists)
    if content is None or "images" not in lists:
        return report, content, {}
    records = read_images(content["images"], report, compile_pattern(FRAME_PATTERN))
    for record in records.values():
        record.pop("annotations", None)
    report.records = [records[image_id] for image_id in sorted(records)]
    return report, content, records


def read_class_names(raw: object, report: KindReport, key: str, least_id: int = 0) -> dict:
    """Names by id of a list of objects with ``id`` and ``name``; others are reported."""
    names: dict[int, dict] = {}
    if not isinstance(raw, list) or not raw:
        report.report("fatal", key, f"the JSON needs a list of {key}, got {brief(raw)}")
        return names
    for entry in raw:
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if type(number) is not int or number < least_id:
            report.report("fatal", key, f"{brief(entry)} has no id from {least_id} on")
        elif not isinstance(name, str) or not name.strip():
            report.report("fatal", key, f"{key} {number} has no name")
        elif number in names:
            report.report("fatal", f"duplicate-{key}", f"two {key} have the id {number}")
        else:
            names[number] = entry
    return names


def thing_categories(names: dict[int, dict]) -> CategoryMap:
    """The categories of instances, numbered in the order of their ids, under their own names."""
    ordered = sorted(names)
    classes = [str(names[number]["name"]).strip() for number in ordered]
    return CategoryMap(classes, {number: n for n, number in enumerate(ordered)}, False)


def check_files(
    records: Iterable[dict],
    check: Callable[[dict], list[Issue]],
    workers: int | None = None,
    progress: bool = False,
    noun: str = "file",
) -> list[Issue]:
    """Call ``check`` on all records, in threads; the issues in the order of the records."""
    from tqdm import tqdm

    todo = list(records)
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(check, todo)
        bar = tqdm(
            results, f"opening {noun}s", len(todo), unit=noun, disable=not (progress and todo)
        )
        return [issue for issues in bar for issue in issues]
