"""Reading a JSON in ISBDA's or COCO's format without trusting it.

:func:`read_and_validate` is the one reader of this package: what it reports is what ``msnet check``
prints, and what it returns is what loading returns.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

from msnet_d2.data.isbda.annotation_checks import MAX_ID, is_box, read_annotation
from msnet_d2.data.isbda.categories import read_categories
from msnet_d2.data.isbda.conventions import (
    ReadOptions,
    box_format,
    parents_from_category,
    without_root_categories,
)
from msnet_d2.data.isbda.issues import ValidationReport
from msnet_d2.data.isbda.layouts import ImageFinder
from msnet_d2.data.isbda.paths import MAX_NAME, PathChecker
from msnet_d2.errors import DatasetError, InputError
from msnet_d2.utils.file_io import read_json_file
from msnet_d2.utils.text import brief

__all__ = [
    "DEFAULT_OPTIONS",
    "FRAME_PATTERN",
    "compile_pattern",
    "is_id",
    "read_and_validate",
    "read_images",
    "read_json",
]

# ISBDA names its frames VIDEO_FRAME.jpg. A folder in the name belongs to the video: a/5_1.jpg and
# b/5_1.jpg are of two videos.
FRAME_PATTERN = r"(?P<video_id>.+)_(?P<frame_index>\d+)\.\w+"
# Roboflow calls 5_100.jpg 5_100_jpg.rf.DIGITS.jpg.
_ROBOFLOW_NAME = re.compile(r"_([a-zA-Z]{3,4})\.rf\.\w+\.\w+$")
MAX_SIDE = 1 << 16  # pixels
DEFAULT_OPTIONS = ReadOptions()


def read_and_validate(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    frame_pattern: str | None = FRAME_PATTERN,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> ValidationReport:
    """Read and check a JSON; images are not opened.

    Args:
        json_file: in ISBDA's or COCO's format.
        image_root: folder that its file names are relative to.
        frame_pattern: regular expression with the groups ``video_id`` and ``frame_index``, matched
            against whole file names, for images without fields of those names. None: no matching.
        options: where exports differ.

    Returns:
        The issues and what is sound.

    Raises:
        DatasetError: if ``frame_pattern`` is no such expression.
    """
    pattern = compile_pattern(frame_pattern)
    found = ValidationReport(os.fspath(json_file), os.path.abspath(image_root))
    content = read_json(found)
    if content is None:
        return found
    categories, roots = without_root_categories(content.get("categories"), content["annotations"])
    if roots:
        found.report(
            "kept",
            "root-category",
            f"the category {brief(roots[0])} is the root of the others and has no annotation; it "
            "is left out",
        )
    found.categories = read_categories(
        categories, lambda kind, message: found.report("fatal", kind, message)
    )
    records = read_images(content["images"], found, pattern)
    reason = box_format(_plain_boxes(content["annotations"], records))
    if reason:
        found.report("fatal", "box-format", f"the JSON {reason}")
    else:
        _read_annotations(content["annotations"], records, found, options)
    found.records = [records[image_id] for image_id in sorted(records)]
    return found


def compile_pattern(frame_pattern: str | None) -> re.Pattern | None:
    """The pattern of file names of frames; raises DatasetError if it is none."""
    if not frame_pattern:
        return None
    try:
        pattern = re.compile(frame_pattern)
    except re.error as error:
        raise DatasetError(f"the frame pattern {frame_pattern!r} is not valid: {error}") from error
    missing = {"video_id", "frame_index"} - set(pattern.groupindex)
    if missing:
        raise DatasetError(
            f"the frame pattern {frame_pattern!r} needs groups named video_id and frame_index, "
            r"as in (?P<video_id>.+)_(?P<frame_index>\d+)\.\w+"
        )
    return pattern


def read_json(
    found: ValidationReport, lists: tuple[str, ...] = ("images", "annotations")
) -> dict | None:
    """Content of the JSON of a report; None if it is no object with ``lists``, as is reported."""
    try:
        content = read_json_file(found.json_file)
    except OSError as error:
        reason = error.strerror or error
        found.report("fatal", "json", f"{found.json_file} cannot be read: {reason}")
        return None
    except InputError as error:
        found.report("fatal", "json", str(error))
        return None
    if not isinstance(content, dict):
        found.report("fatal", "json", f"the JSON must be an object, got {brief(content)}")
        return None
    before = len(found.issues)
    for key in lists:
        if not isinstance(content.get(key), list):
            found.report("fatal", "json", f"{key} must be a list, got {brief(content.get(key))}")
    return content if len(found.issues) == before else None


def read_images(raws: list, found: ValidationReport, pattern: re.Pattern | None) -> dict[int, dict]:
    """Records of the sound images by id."""
    records: dict[int, dict] = {}
    first_with: dict[tuple, int] = {}
    paths = PathChecker(found.image_root)
    finder = _finder_if_moved(paths, raws)
    elsewhere = 0
    for index, raw in enumerate(raws):
        if not isinstance(raw, dict):
            found.report("fatal", "image-field", f"images[{index}] is {brief(raw)}, not an object")
            continue
        image_id, name = raw.get("id"), raw.get("file_name")
        if not is_id(image_id):
            found.report(
                "fatal", "image-id", f"images[{index}] has the id {brief(image_id)}, not an integer"
            )
            continue
        if image_id in records:
            found.report("fatal", "duplicate-image-id", "two images have this id", image_id)
            continue
        record = {"file_name": "", "image_id": image_id, "annotations": []}
        try:
            moved = finder.find(name) if finder and isinstance(name, str) else None
            elsewhere += moved is not None
            inside = name if moved is None else os.path.relpath(moved, found.image_root)
            record["file_name"] = paths.resolve(inside)
        except ValueError as error:
            found.report("fatal", "file-name", f"file_name {brief(name)} {error}", image_id)
        for key in ("height", "width"):
            side = raw.get(key)
            if type(side) is not int or not 0 < side <= MAX_SIDE:
                found.report(
                    "fatal",
                    "image-field",
                    f"{key} is {brief(side)}, not a number of pixels from 1 to {MAX_SIDE}",
                    image_id,
                )
                side = None
            record[key] = side
        record.update(_video_fields(raw, pattern, image_id, found))
        keys = [("file", record["file_name"])] if record["file_name"] else []
        if "video_id" in record and "frame_index" in record:
            keys.append(("frame", record["video_id"], record["frame_index"]))
        for key in keys:
            first = first_with.setdefault(key, image_id)
            if first != image_id and key[0] == "file":
                found.report(
                    "fatal",
                    "duplicate-file-name",
                    f"image {first} has the same file_name {brief(name)}",
                    image_id,
                )
            elif first != image_id:
                found.report(
                    "kept",
                    "duplicate-frame",
                    f"image {first} is frame {key[2]} of video {brief(key[1])} as well",
                    image_id,
                )
        records[image_id] = record
    if elsewhere:
        found.report(
            "kept",
            "file-names",
            f"no image is where its file_name says; {elsewhere} of {len(raws)} were found by their "
            f"base names below {found.image_root}",
        )
    return records


def _finder_if_moved(paths: PathChecker, raws: list) -> ImageFinder | None:
    """A finder by base names if no image is where its file name says; None otherwise."""
    if not os.path.isdir(paths.image_root):
        return None
    for raw in raws:
        try:
            if os.path.exists(paths.resolve(raw.get("file_name"))):
                return None
        except (AttributeError, ValueError):
            continue
    return ImageFinder(paths.image_root)


def _plain_boxes(
    raws: list, records: dict[int, dict]
) -> Iterator[tuple[list[float], tuple[int, int]]]:
    """The well-formed boxes of annotations, with height and width of their images."""
    for raw in raws:
        record = None
        if isinstance(raw, dict) and is_id(raw.get("image_id")):
            record = records.get(raw["image_id"])
        if record is None or record["height"] is None or record["width"] is None:
            continue
        box = raw["bbox"] if raw.get("bbox") is not None else raw.get("damage_bbox")
        if is_box(box):
            yield box, (record["height"], record["width"])


def _video_fields(
    raw: dict, pattern: re.Pattern | None, image_id: int, found: ValidationReport
) -> dict:
    fields: dict = {}
    name = raw.get("file_name")
    if isinstance(name, str):
        name = _ROBOFLOW_NAME.sub(r".\1", name.replace("\\", "/"))
    is_name = isinstance(name, str) and len(name) <= MAX_NAME
    match = pattern.fullmatch(name) if pattern and is_name else None
    if match:
        try:
            fields = {"video_id": match["video_id"], "frame_index": int(match["frame_index"])}
        except (TypeError, ValueError):
            fields = {}  # a group that took no part, or digits beyond what an int may have
    video_id, frame, fps = (raw.get(key) for key in ("video_id", "frame_index", "fps"))
    problem = "{} is {}, not {}"
    if type(video_id) in (int, str) and video_id != "":
        fields["video_id"] = str(video_id)
    elif video_id is not None:
        found.report(
            "fatal", "video-field", problem.format("video_id", brief(video_id), "text"), image_id
        )
    if type(frame) is int and 0 <= frame < MAX_ID:
        fields["frame_index"] = frame
    elif frame is not None:
        found.report(
            "fatal",
            "video-field",
            problem.format("frame_index", brief(frame), "a frame number from 0"),
            image_id,
        )
    if type(fps) in (int, float) and 0 < fps <= 1e6:
        fields["fps"] = float(fps)
    elif fps is not None:
        found.report(
            "fatal", "video-field", problem.format("fps", brief(fps), "frames per second"), image_id
        )
    return fields


def _read_annotations(
    raws: list, records: dict[int, dict], found: ValidationReport, options: ReadOptions
) -> None:
    """Put the sound annotations into ``records``."""
    seen: set[int] = set()
    sound: list[tuple[int, dict]] = []
    for index, raw in enumerate(raws):
        if not isinstance(raw, dict):
            found.report(
                "fatal", "annotation-field", f"annotations[{index}] is {brief(raw)}, not an object"
            )
            continue
        annotation_id, image_id = raw.get("id"), raw.get("image_id")
        if not is_id(annotation_id):
            found.report(
                "fatal",
                "annotation-id",
                f"annotations[{index}] has the id {brief(annotation_id)}, not an integer",
            )
            continue

        def report(severity, kind, message, image_id=image_id, annotation_id=annotation_id):
            found.report(severity, kind, message, image_id, annotation_id)

        if annotation_id in seen:
            report("fatal", "duplicate-annotation-id", "two annotations have this id")
            continue
        seen.add(annotation_id)
        if annotation_id == 0:
            report(
                "kept",
                "annotation-id-0",
                "pycocotools takes the id 0 for 'no match' and scores "
                "such an annotation as missed; number annotations from 1",
            )
        record = records.get(image_id) if is_id(image_id) else None
        if record is None:
            report("fatal", "unknown-image", f"image_id {brief(image_id)} is not among the images")
            continue
        if record["height"] is None or record["width"] is None:
            continue  # reported; nothing can be said about what lies inside of it
        annotation = read_annotation(
            raw, found.categories, record["height"], record["width"], report
        )
        if annotation is not None:
            sound.append((image_id, annotation))
    _settle_crowds(sound, found, options)
    sound = parents_from_category(sound, found, options.parent_category)
    for image_id, annotation in _require_uniform(sound, found):
        records[image_id]["annotations"].append(annotation)
    for record in records.values():
        _number_parents(record, found)


def _settle_crowds(
    sound: list[tuple[int, dict]], found: ValidationReport, options: ReadOptions
) -> None:
    crowds = [annotation for _, annotation in sound if annotation["iscrowd"]]
    if options.crowd_as_objects:
        for annotation in crowds:
            annotation["iscrowd"] = 0
    elif crowds:
        found.report(
            "kept",
            "crowd",
            f"{len(crowds)} of {len(sound)} annotations are crowds (iscrowd 1), which training "
            "leaves out; CVAT writes masks of a brush so: DATASETS.CROWD_AS_OBJECTS True "
            "(--crowd-as-objects) takes them for objects",
        )


def _require_uniform(
    sound: list[tuple[int, dict]], found: ValidationReport
) -> list[tuple[int, dict]]:
    """Return ``sound`` without the annotations that lack the mask that others have.

    A building box that others have is required too: HRPN cannot learn from some without one.
    """
    has_masks = any("segmentation" in annotation for _, annotation in sound)
    has_parents = any("parent_bbox" in annotation for _, annotation in sound)
    kept = []
    for image_id, annotation in sound:
        where = (image_id, annotation["id"])
        if has_masks and "segmentation" not in annotation:
            found.report("dropped", "no-mask", "it has no segmentation, unlike others", *where)
            continue
        if has_parents and "parent_bbox" not in annotation and not annotation["iscrowd"]:
            found.report("fatal", "no-house-bbox", "it has no house_bbox, unlike others", *where)
        kept.append((image_id, annotation))
    return kept


def _number_parents(record: dict, found: ValidationReport) -> None:
    """Fill in missing parent ids: equal boxes of one image share one; given ids win."""
    annotations = [a for a in record["annotations"] if "parent_bbox" in a]
    id_of_box: dict[tuple, int] = {}
    boxes_of_id: dict[int, set[tuple]] = defaultdict(set)
    for annotation in annotations:
        if annotation["parent_id"] is not None:
            box = tuple(annotation["parent_bbox"])
            id_of_box.setdefault(box, annotation["parent_id"])
            boxes_of_id[annotation["parent_id"]].add(box)
            if len(boxes_of_id[annotation["parent_id"]]) == 2:
                found.report(
                    "kept",
                    "parent-boxes",
                    f"parent_id {annotation['parent_id']} stands "
                    "for more than one house_bbox in this image",
                    record["image_id"],
                    annotation["id"],
                )
    next_id = max(boxes_of_id, default=-1) + 1
    for annotation in annotations:
        if annotation["parent_id"] is None:
            box = tuple(annotation["parent_bbox"])
            if box not in id_of_box:
                id_of_box[box] = next_id
                next_id += 1
            annotation["parent_id"] = id_of_box[box]


def is_id(value: object) -> bool:
    """Whether a value of a JSON may be an id: an integer that double precision holds."""
    return type(value) is int and abs(value) < MAX_ID
