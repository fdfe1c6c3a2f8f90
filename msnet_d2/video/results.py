"""The results file of a video: what was found in each frame. Its types, and reading.

The types are the format: what they say is what :class:`.results_writer.ResultsWriter` writes, what
:func:`read_results` accepts, and what ``results.schema.json`` beside this file describes for other
programs. Boxes are XYWH in pixels of the frame, scores lie from 0 to 1, times are seconds of the
video. What is not known of a detection or a frame is left out of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from msnet_d2.errors import InputError
from msnet_d2.structures.rle import checked_rle
from msnet_d2.utils.file_io import check_regular_file, read_regular_file, write_text
from msnet_d2.video.stream import ReadReport, VideoInfo

__all__ = [
    "FORMAT",
    "VERSION",
    "Category",
    "FrameResults",
    "ModelInfo",
    "ParentDetection",
    "PartDetection",
    "ResultsHeader",
    "ResultsSummary",
    "SourceInfo",
    "VideoResults",
    "decode_results",
    "is_results_file",
    "read_results",
    "results_schema",
]

FORMAT = "msnet video results"
VERSION = 1

# Bounds of what a file may hold. It may come from anybody, and no video has more.
MAX_BYTES = 1 << 30
MAX_PIXELS = 1 << 26  # of a frame, as VideoReader decodes at most
MAX_POINTS = 5000  # of all polygons of a part; annotators and tracers of masks set hundreds

Name = Annotated[str, Meta(max_length=4096)]
Word = Annotated[str, Meta(max_length=100)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")]  # it stands in each record of a map
Line = Annotated[str, Meta(max_length=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Side = Annotated[int, Meta(ge=1, le=1 << 16)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Score = Annotated[float, Meta(ge=0, le=1)]
Pixel = Annotated[float, Meta(ge=-1e6, le=1e6)]
Length = Annotated[float, Meta(ge=0, le=1e6)]
Box = tuple[Pixel, Pixel, Length, Length]
Polygon = Annotated[list[Pixel], Meta(min_length=2, max_length=2 * MAX_POINTS)]


class Rle(TypedDict):
    """COCO's run lengths of a mask: ``size`` (height, width), ``counts`` compressed or a list."""

    size: Annotated[list[Side], Meta(min_length=2, max_length=2)]
    counts: Annotated[str, Meta(max_length=8 * MAX_PIXELS)] | list[Count]


class PartDetection(Struct, frozen=True, omit_defaults=True):
    """A damaged part in a frame.

    Attributes:
        category_id: one of the file's ``categories``.
        bbox: of the part.
        score: after refinement, if there was one.
        score_raw: before refinement.
        segmentation: COCO's RLE of the size of the frame, or polygons in pixels (x0, y0, x1, …).
        parent_bbox: of the building that it lies in.
        parent_score: of that building.
        track_id: equal for detections of the video that are one object, where that is known.
    """

    category_id: int
    bbox: Box
    score: Score
    score_raw: Score | None = None
    segmentation: Rle | Annotated[list[Polygon], Meta(max_length=MAX_POINTS)] | None = None
    parent_bbox: Box | None = None
    parent_score: Score | None = None
    track_id: Annotated[int, Meta(ge=-1, le=2**53)] | None = None


class ParentDetection(Struct, frozen=True):
    """A building in a frame, damaged or not."""

    bbox: Box
    score: Score


class FrameResults(Struct, frozen=True, omit_defaults=True):
    """What was found in one frame.

    Attributes:
        index: number of the frame in the video, from 0.
        time_s: of the frame.
        instances: damaged parts.
        damaged: whether the picture was decoded from corrupt data.
        width, height: of the frame, where they differ from the video's.
        parents: buildings, where the model finds them.
    """

    index: Count
    time_s: Seconds
    damaged: bool = False
    width: Side | None = None
    height: Side | None = None
    instances: Annotated[list[PartDetection], Meta(max_length=100_000)] = msgspec.field(
        default_factory=list
    )
    parents: Annotated[list[ParentDetection], Meta(max_length=100_000)] | None = None


class SourceInfo(Struct, frozen=True):
    """The video that was looked at; fields as those of :class:`.stream.VideoInfo`."""

    name: Name
    width: Side
    height: Side
    fps: Annotated[float, Meta(ge=1e-3, le=1e5)]
    kind: Word = "file"
    frame_count: Count | None = None
    duration_s: Seconds | None = None
    codec: Word | None = None
    pixel_format: Word | None = None
    rotation: int = 0

    @classmethod
    def of(cls, info: VideoInfo) -> SourceInfo:
        """What the file says of a source that was opened."""
        return cls(
            name=info.name,
            width=info.width,
            height=info.height,
            fps=round(float(info.fps), 6),
            kind=info.kind,
            frame_count=info.frame_count,
            duration_s=info.duration_s,
            codec=info.codec or None,
            pixel_format=info.pixel_format or None,
            rotation=info.rotation,
        )


class ModelInfo(Struct, frozen=True):
    """The model that was used.

    Attributes:
        weights_sha256: digest of its weights.
        precision: in which it multiplied.
        meta_architecture: Detectron2's name of its class.
        refined_by: frames that refined its scores ("previous", "next", "both").
    """

    weights_sha256: Digest | None = None
    precision: Word | None = None
    meta_architecture: Name | None = None
    refined_by: Word | None = None


class Category(Struct, frozen=True):
    """A class of parts."""

    id: int
    name: Name


class ResultsHeader(Struct, frozen=True):
    """What stands before the frames."""

    format: Literal["msnet video results"]
    version: Literal[1]
    video: SourceInfo
    model: ModelInfo
    categories: Annotated[list[Category], Meta(min_length=1, max_length=10_000)]

    @classmethod
    def of(cls, info: VideoInfo, model: ModelInfo, categories: list[Category]) -> ResultsHeader:
        """The header for a source, in the format of today."""
        return cls(FORMAT, VERSION, SourceInfo.of(info), model, categories)

    def with_frames(self, frames: list[FrameResults], summary: ResultsSummary) -> VideoResults:
        """The whole file of this header."""
        head = {name: getattr(self, name) for name in ResultsHeader.__struct_fields__}
        return VideoResults(**head, frames=frames, summary=summary)


class ResultsSummary(Struct, frozen=True):
    """What became of the video; the counts are those of :class:`.stream.ReadReport`.

    It says nothing of times, so that equal runs give equal files.

    Attributes:
        status: "complete"; "incomplete" if the source was damaged, cut off or has gaps;
            "interrupted" by the user; "limited" to a number of frames.
        frames_processed: frames in the file.
        instances: detections by class, of those that were drawn.
        problems: what made it incomplete, a line each.
        notes: what is unusual but lost nothing, a line each.
    """

    status: Literal["complete", "incomplete", "interrupted", "limited"] = "complete"
    frames_processed: Count = 0
    instances: Annotated[dict[Name, Count], Meta(max_length=10_000)] = msgspec.field(
        default_factory=dict
    )
    frames_read: Count = 0
    frames_lost: Count = 0
    frames_hidden: Count = 0
    frames_damaged: Count = 0
    decode_errors: Count = 0
    truncated: bool = False
    time_gaps: Annotated[list[tuple[float, float]], Meta(max_length=1000)] = msgspec.field(
        default_factory=list
    )
    time_gap_count: Count = 0
    size_changes: Annotated[list[tuple[int, int, int]], Meta(max_length=1000)] = msgspec.field(
        default_factory=list
    )
    size_change_count: Count = 0
    timestamps_repaired: Count = 0
    variable_frame_rate: bool = False
    problems: Annotated[list[Line], Meta(max_length=100)] = msgspec.field(default_factory=list)
    notes: Annotated[list[Line], Meta(max_length=100)] = msgspec.field(default_factory=list)

    @classmethod
    def of(
        cls, status: str, frames_processed: int, instances: dict[str, int], report: ReadReport
    ) -> ResultsSummary:
        """The summary of a pass over a source that ``report`` tells of."""
        counts = {name: getattr(report, name) for name in _REPORTED}
        return cls(
            status=status,
            frames_processed=frames_processed,
            instances=instances,
            problems=report.problems(),
            notes=report.notes(),
            **counts,
        )


_REPORTED = [n for n in ResultsSummary.__struct_fields__ if n in ReadReport.__dataclass_fields__]


class VideoResults(ResultsHeader, frozen=True):
    """A whole results file."""

    frames: Annotated[list[FrameResults], Meta(max_length=10_000_000)]
    summary: ResultsSummary = ResultsSummary()

    def frame_size(self, frame: FrameResults) -> tuple[int, int]:
        """Width and height of one of its frames."""
        return frame.width or self.video.width, frame.height or self.video.height

    @property
    def duration_s(self) -> float:
        """Length of the video: as it says itself, else to the end of the last frame here."""
        end = self.frames[-1].time_s + 1 / self.video.fps if self.frames else 0.0
        return self.video.duration_s or end


def read_results(path: str | Path) -> VideoResults:
    """Read a results file and check all of it.

    Raises:
        InputError: if it cannot be read, or is no such file.
    """
    try:
        content = read_regular_file(path, MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path}: the results cannot be read ({error.strerror})") from error
    return decode_results(content, str(path))


def is_results_file(path: str | Path) -> bool:
    """Whether a file begins as the results of a video do."""
    try:
        check_regular_file(path, MAX_BYTES)
        with open(path, "rb") as file:
            return FORMAT.encode() in file.read(100)
    except (OSError, InputError):
        return False


class _Tag(Struct):
    """What says that a file is one of these."""

    format: str
    version: int = VERSION


def decode_results(content: bytes, source: str) -> VideoResults:
    """The same from the bytes of a file; ``source`` is its name for messages."""
    expected = "expected what msnet video --results writes"
    try:
        tag = msgspec.json.decode(content, type=_Tag)
    except msgspec.ValidationError:
        tag = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{source}: not JSON ({error}); {expected}") from error
    if tag is None or tag.format != FORMAT:
        raise InputError(f"{source}: not the results of a video; {expected}")
    if tag.version > VERSION:
        raise InputError(
            f"{source}: written by a newer version of msnet (format {tag.version}, this one reads "
            f"up to {VERSION}); update msnet_d2"
        )
    try:
        results = msgspec.json.decode(content, type=VideoResults)
        _check(results)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not as msnet video writes it ({error})") from error
    return results


def _check(results: VideoResults) -> None:
    """See what the types do not say: what has to fit together.

    Raises:
        ValueError: with the place of the first fault.
    """
    categories = {c.id for c in results.categories}
    if len(categories) < len(results.categories):
        raise ValueError("two categories have the same id")
    if results.video.width * results.video.height > MAX_PIXELS:
        raise ValueError(f"frames of {results.video.width} x {results.video.height} pixels")
    last = -1
    for frame in results.frames:
        width, height = results.frame_size(frame)
        if frame.index <= last:
            raise ValueError(f"frame {frame.index} comes after frame {last}")
        if width * height > MAX_PIXELS:
            raise ValueError(f"frame {frame.index}: {width} x {height} pixels")
        last = frame.index
        for number, part in enumerate(frame.instances):
            for fault in _faults(part, categories, width, height):
                raise ValueError(f"frame {frame.index}, instance {number}: {fault}")


def _faults(part: PartDetection, categories: set[int], width: int, height: int) -> Iterator[str]:
    if part.category_id not in categories:
        yield f"category_id {part.category_id} is none of the categories"
    if isinstance(part.segmentation, dict):
        # Decoders of masks would crash on others, or fill with memory that is not theirs.
        try:
            checked_rle(part.segmentation, height, width)
        except ValueError as error:
            yield f"segmentation: {error}"
    elif part.segmentation:
        if any(len(p) % 2 for p in part.segmentation):
            yield "a polygon has an odd number of coordinates"
        points = sum(map(len, part.segmentation)) // 2
        if points > MAX_POINTS:
            yield f"its polygons have {points:,} points; {MAX_POINTS:,} are the most"


SCHEMA_FILE = Path(__file__).with_suffix(".schema.json")


def results_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a results file; :data:`SCHEMA_FILE` holds it as text."""
    schema = msgspec.json.schema(VideoResults)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The content of :data:`SCHEMA_FILE`."""
    return json.dumps(results_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write_text(SCHEMA_FILE, schema_text())
