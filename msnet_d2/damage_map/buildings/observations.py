"""What was seen of buildings in each frame, as read from the results of ``msnet video``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.data.isbda.categories import read_categories
from msnet_d2.errors import InputError
from msnet_d2.structures.rle import checked_rle
from msnet_d2.utils.text import brief
from msnet_d2.video.results import FORMAT

# Building boxes of one frame that overlap by this IoU are one building.
SAME_BUILDING_IOU = 0.5
# A box this near to the frame's edge is cut off by it, in pixels.
EDGE_PX = 2.0
# Bounds of what a file may hold: no video has more.
_MAX_SIDE = 1 << 16
_MAX_PX = 1e6
_MAX_S = 1e9
_MAX_INT = 2**53


@dataclass
class PartObservation:
    """A damaged part in one frame.

    Attributes:
        level: 1 to 3.
        score: after refinement, 0 to 1.
        box: (4,) XYXY in pixels.
        segmentation: COCO's RLE or polygons, or None.
        score_raw: before refinement, or None.
        track_id: a hint which detections of the video are one object, or None.
        outline: (4, 2) local metres of its box on the ground; None where it has no place.
    """

    level: int
    score: float
    box: np.ndarray
    segmentation: Any = None
    score_raw: float | None = None
    track_id: int | None = None
    outline: np.ndarray | None = None


@dataclass
class Observation:
    """A damaged building in one frame.

    Attributes:
        video: number of the video, from 0.
        frame: index of the frame.
        time_s: of the frame in the video.
        box: (4,) XYXY in pixels: of the building, or of its damaged parts if that is not known.
        size: width and height of the frame.
        parts: at least one.
        has_building_box: whether ``box`` is the building's.
        outline: (4, 2) local metres, on the ground; None where it has no place. In order: near
            left, near right, far right, far left as the camera sees it.
        ce90_m: 90% radius of its place.
        view: direction (2,) east, north in which the camera looks at it, of length 1.
        relief_displacement: metres on the ground by which the top of something one metre high is
            displaced.
        doubts: what is wrong with its place, in words; empty if nothing.
    """

    video: int
    frame: int
    time_s: float
    box: np.ndarray
    size: tuple[float, float]
    parts: list[PartObservation]
    has_building_box: bool = True
    outline: np.ndarray | None = None
    ce90_m: float = np.nan
    view: np.ndarray | None = None
    relief_displacement: float = 0.0
    doubts: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the frame's edge cuts it off."""
        x0, y0, x1, y1 = self.box
        width, height = self.size
        return bool(min(x0, y0, width - x1, height - y1) <= EDGE_PX)

    @property
    def worst(self) -> PartObservation:
        """The part of the worst level, the surest of these."""
        return max(self.parts, key=lambda p: (p.level, p.score))

    @property
    def score(self) -> float:
        """Confidence of its surest part."""
        return max(p.score for p in self.parts)

    @property
    def track_ids(self) -> set[int]:
        """Hints of all its parts."""
        return {p.track_id for p in self.parts if p.track_id is not None}


@dataclass
class VideoResults:
    """The results of one video.

    Attributes:
        name: of the video.
        size: width and height of its frames.
        fps: frames a second.
        duration_s: of the video.
        frames: index and time of each frame that was looked at.
        observations: in order of frames.
        weights_sha256: digest of the weights, or None.
        problems: what is missing of the video, a line each.
    """

    name: str
    size: tuple[float, float]
    fps: float
    duration_s: float
    frames: list[tuple[int, float]]
    observations: list[Observation]
    weights_sha256: str | None = None
    problems: list[str] = field(default_factory=list)


def read_results(path: str | Path, *, video: int = 0, min_score: float = 0.3) -> VideoResults:
    """Read a results file of ``msnet video``.

    Args:
        path: the file.
        video: number that its observations get.
        min_score: what scores less is left out.

    Raises:
        InputError: if it cannot be read, or is no such file.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the results cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({error}); expected what msnet video --results writes"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(
            f"{path}: not the results of a video; expected what msnet video --results writes"
        )
    try:
        return _from_json(data, str(path), video, min_score)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not as msnet video writes it ({type(error).__name__}: {error})"
        ) from error


def _from_json(data: dict, source: str, video: int, min_score: float) -> VideoResults:
    flaws: list[str] = []
    categories = read_categories(data["categories"], lambda _, message: flaws.append(message))
    if flaws or not categories.is_isbda:
        raise InputError(
            f"{source}: the map needs ISBDA's levels Slight, Severe, Debris as categories, got "
            f"{', '.join(categories.thing_classes) or flaws[0]}"
        )
    about = data["video"]
    size = (_number(about, "width", 1, _MAX_SIDE), _number(about, "height", 1, _MAX_SIDE))
    fps = _number(about, "fps", 1e-3, 1e5)
    frames, observations = [], []
    for entry in data["frames"]:
        index = int(_number(entry, "index", 0, _MAX_INT))
        time_s = _number(entry, "time_s", 0, _MAX_S)
        frames.append((index, time_s))
        frame_size = (
            _number({"width": size[0], **entry}, "width", 1, _MAX_SIDE),
            _number({"height": size[1], **entry}, "height", 1, _MAX_SIDE),
        )
        parts = []
        for item in entry["instances"]:
            if _number(item, "score", 0, 1) < min_score:
                continue
            level = categories.id_to_contiguous[item["category_id"]] + 1
            parent = item.get("parent_bbox")
            if parent is not None:
                _xyxy(parent)
            parts.append((_part(item, level, frame_size), parent))
        observations += group_parts(parts, video, index, time_s, frame_size)
    end = frames[-1][1] + 1 / fps if frames else 0.0
    duration = None if about.get("duration_s") is None else _number(about, "duration_s", 0, _MAX_S)
    digest = (data.get("model") or {}).get("weights_sha256")
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"weights_sha256 is {brief(digest)}")
    return VideoResults(
        name=str(about["name"]),
        size=size,
        fps=fps,
        duration_s=duration or end,
        frames=frames,
        observations=observations,
        weights_sha256=digest,
        problems=[str(p) for p in (data.get("summary") or {}).get("problems", [])],
    )


def _number(item: dict, key: str, least: float, most: float) -> float:
    """The number under ``key``; such a file may come from anybody."""
    value = item[key]
    # Also false for NaN, and exact for integers that no float can hold.
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{key} is {brief(value)}, not a number from {least:g} to {most:g}")
    return float(value)


def _part(item: dict, level: int, size: tuple[float, float]) -> PartObservation:
    track = item.get("track_id")
    track = None if track is None else int(_number(item, "track_id", -1, _MAX_INT))
    raw = item.get("score_raw")
    segmentation = item.get("segmentation")
    if segmentation:
        _check_segmentation(segmentation, int(size[1]), int(size[0]))
    return PartObservation(
        level=level,
        score=_number(item, "score", 0, 1),
        box=_xyxy(item["bbox"]),
        segmentation=segmentation,
        score_raw=None if raw is None else _number(item, "score_raw", 0, 1),
        track_id=None if track is None or track < 0 else track,
    )


def _check_segmentation(value: Any, height: int, width: int) -> None:
    """Refuse what decoders of masks would crash on, or fill with memory that is not theirs."""
    if isinstance(value, dict):
        checked_rle(value, height, width)
        return
    for polygon in value:
        for x in polygon:
            _number({"a polygon's coordinate": x}, "a polygon's coordinate", -_MAX_PX, _MAX_PX)
        if len(polygon) % 2:
            raise ValueError("a polygon has an odd number of coordinates")


def _xyxy(box: Sequence[float]) -> np.ndarray:
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise ValueError(f"a box is {brief(box)}, not four numbers")
    x, y, w, h = (
        _number({"a box's number": v}, "a box's number", least, _MAX_PX)
        for v, least in zip(box, (-_MAX_PX, -_MAX_PX, 0, 0))
    )
    return np.array([x, y, x + w, y + h])


def group_parts(
    parts: list[tuple[PartObservation, Sequence[float] | None]],
    video: int,
    frame: int,
    time_s: float,
    size: tuple[float, float],
) -> list[Observation]:
    """Gather the parts of one frame by building.

    Args:
        parts: each with the box (XYWH) of its building, or None. A part without one goes to the
            building that holds most of it, if one holds at least half; else it stands alone.
        video, frame, time_s, size: of the observations.
    """
    groups: list[Observation] = []
    known = [(p, _xyxy(b)) for p, b in parts if b is not None]
    for part, box in sorted(known, key=lambda pair: -pair[0].score):
        overlaps = [box_iou(box, g.box) for g in groups]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= SAME_BUILDING_IOU:
            groups[best].parts.append(part)
        else:
            groups.append(Observation(video, frame, time_s, box, size, [part]))
    for part in (p for p, b in parts if b is None):
        inside = [_inside(part.box, g.box) for g in groups]
        best = int(np.argmax(inside)) if inside else -1
        if best >= 0 and inside[best] >= 0.5:
            groups[best].parts.append(part)
        else:
            groups.append(
                Observation(video, frame, time_s, part.box, size, [part], has_building_box=False)
            )
    return groups


def _intersection(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    return float(max(w, 0) * max(h, 0))


def _area(a: np.ndarray) -> float:
    return float(max(a[2] - a[0], 0) * max(a[3] - a[1], 0))


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes XYXY."""
    common = _intersection(a, b)
    return common / max(_area(a) + _area(b) - common, 1e-9)


def _inside(a: np.ndarray, b: np.ndarray) -> float:
    """Share of box ``a`` that lies in ``b``."""
    return _intersection(a, b) / max(_area(a), 1e-9)
