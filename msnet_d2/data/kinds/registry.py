"""The kinds of data sets, and the names ``KIND@SPEC`` that they go by."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from msnet_d2.data.isbda.image_checks import find_image_issues
from msnet_d2.data.isbda.issues import Issue, count_kinds
from msnet_d2.data.isbda.validation import raise_fatal
from msnet_d2.data.kinds import amodal, flow, panoptic, semantic, tracks
from msnet_d2.data.kinds.report import KindReport
from msnet_d2.errors import DatasetError

__all__ = [
    "KINDS",
    "DatasetKind",
    "KindReport",
    "find_kind_issues",
    "kind_of",
    "load_kind",
    "read_kind",
    "resolve_kind",
]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<kind>[a-z]+)(/(?P<table>[\w.-]+))?@(?P<spec>.+)", re.DOTALL)


@dataclass(frozen=True)
class DatasetKind:
    """How data sets of a kind are read, checked and described.

    Attributes:
        name: of the kind, and of its JSON files: ``annotations/NAME_SPLIT.json``.
        read: function (json_file, image_root, truth_root, table) -> report.
        describe: text of the statistics of a sound report.
        find_pixel_issues: function (report, workers, progress) that opens the files of truth; None:
            there are none beside the JSON.
        has_images: whether the records are of images, which are opened too.
    """

    name: str
    read: Callable[[str, str, str, str | None], KindReport]
    describe: Callable[[KindReport], str]
    find_pixel_issues: Callable[..., list[Issue]] | None = None
    has_images: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        DatasetKind("semantic", semantic.read, semantic.describe, semantic.find_pixel_issues),
        DatasetKind("panoptic", panoptic.read, panoptic.describe, panoptic.find_pixel_issues),
        DatasetKind("amodal", amodal.read, amodal.describe),
        DatasetKind("tracks", tracks.read, tracks.describe, tracks.find_pixel_issues, False),
        DatasetKind("flow", flow.read, flow.describe, flow.find_pixel_issues, False),
    )
}


def resolve_kind(text: str, image_root: str | os.PathLike | None = None) -> list[str] | None:
    """Names of the data sets that ``KIND@SPEC`` means, registered now if they were not.

    Args:
        text: KIND, or ``semantic/TABLE`` for one of its label tables; SPEC is a folder with
            ``annotations/KIND_SPLIT.json``, ``FOLDER:SPLIT``, or a JSON file. The truth's files of
            a folder lie in ``FOLDER/KIND/SPLIT``, those of a file in the folder beside it that has
            its name without .json, as COCO ships them.
        image_root: folder of the images, for a JSON file alone.

    Returns:
        Names; None if ``text`` is not of this form.

    Raises:
        DatasetError: if there is no such file.
    """
    match = _NAME.fullmatch(text)
    if match is None or Path(text).exists():
        return None
    kind, table, spec = match["kind"], match["table"], match["spec"]
    path = Path(spec).expanduser()
    if kind not in KINDS:
        if not path.exists() and not Path(spec.rpartition(":")[0] or " ").expanduser().exists():
            return None
        raise DatasetError(f"there is no kind of data set {kind!r}; there are: {', '.join(KINDS)}")
    if path.is_file():
        root = path.parent if image_root is None else image_root
        return [_register(kind, table, path, root, path.with_suffix(""))]
    if image_root is not None:
        raise DatasetError(f"an image folder can be given for a JSON file alone, not for {text!r}")
    folder, splits = path, _splits(path, kind)
    if not path.is_dir():
        name, colon, split = spec.rpartition(":")
        folder = Path(name).expanduser()
        if not (colon and split and folder.is_dir()):
            raise DatasetError(
                f"there is no data set {text!r}: {spec!r} is no JSON file, folder or FOLDER:SPLIT"
            )
        there = _splits(folder, kind)
        splits = [split] if split in there else []
        if not splits:
            known = ", ".join(there) or "none"
            raise DatasetError(
                f"there is no {folder / 'annotations' / f'{kind}_{split}.json'}; the splits of "
                f"{name!r} with {kind} truth are: {known}"
            )
    if not splits:
        raise DatasetError(f"the folder {spec!r} has no annotations/{kind}_*.json")
    return [
        _register(
            kind,
            table,
            folder / "annotations" / f"{kind}_{split}.json",
            folder / split,
            folder / kind / split,
        )
        for split in splits
    ]


def _splits(folder: Path, kind: str) -> list[str]:
    names = [p.stem.removeprefix(f"{kind}_") for p in folder.glob(f"annotations/{kind}_*.json")]
    return sorted(names, key=lambda name: (name != "train", name))


def _register(kind: str, table: str | None, json_file: Path, image_root, truth_root) -> str:
    files = [os.path.abspath(p) for p in (json_file, image_root, truth_root)]
    label = json_file.stem if json_file.parent.name != "annotations" else None
    label = label or f"{json_file.parent.parent.name}_{json_file.stem}"
    label = re.sub(r"[^\w.-]+", "_", "_".join(filter(None, (label, table)))).strip("._")
    digest = hashlib.sha256("\n".join([kind, table or "", *files]).encode("utf-8", "replace"))
    source = {"kind": kind, "label_table": table, "json_file": files[0]}
    source |= {"image_root": files[1], "truth_root": files[2]}
    for name in (label, f"{label}_{digest.hexdigest()[:8]}"):
        metadata = MetadataCatalog.get(name)
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, lambda name=name: load_kind(name))
            metadata.set(**source, evaluator_type=kind)
            return name
        if all(metadata.get(key) == value for key, value in source.items()):
            return name
    raise DatasetError(f"the names {label} and {name} are taken by other data sets")


def kind_of(name: str) -> DatasetKind | None:
    """The kind of a registered data set; None for ISBDA's."""
    return KINDS.get(MetadataCatalog.get(name).get("kind"))


def read_kind(name: str) -> KindReport:
    """Read a registered data set of a kind; its issues are in the report."""
    metadata = MetadataCatalog.get(name)
    return KINDS[metadata.kind].read(
        metadata.json_file, metadata.image_root, metadata.truth_root, metadata.label_table
    )


def find_kind_issues(
    name: str, check_images: bool = True, workers: int | None = None, progress: bool = False
) -> tuple[list[Issue], int]:
    """Find every issue of a registered data set of a kind.

    Args:
        name: of the data set.
        check_images: also open every image and every file of truth.
        workers: threads that do so; None: as many as there are processors, at most 8.
        progress: show progress bars while doing so.

    Returns:
        The issues, and the number of records.
    """
    report = read_kind(name)
    kind = kind_of(name)
    if check_images:
        if kind.has_images:
            report.issues.extend(find_image_issues(report.records, workers, progress))
        if kind.find_pixel_issues is not None:
            report.issues.extend(kind.find_pixel_issues(report, workers, progress))
    return report.issues, len(report.records)


def load_kind(name: str) -> list[dict]:
    """Dataset dicts of a registered data set of a kind; sets its metadata.

    Raises:
        DatasetError: if the JSON has fatal issues.
    """
    report = read_kind(name)
    raise_fatal(report)
    dropped = [issue for issue in report.issues if issue.severity == "dropped"]
    if dropped:
        logger.warning(
            "%s: left out %d unusable annotations (%s); `msnet check` lists them",
            report.json_file,
            len(dropped),
            count_kinds(dropped),
        )
    metadata = MetadataCatalog.get(name)
    for key, value in report.metadata.items():
        if metadata.get(key) is None:
            metadata.set(**{key: value})
    logger.info("Loaded %d records from %s", len(report.records), report.json_file)
    return report.records
