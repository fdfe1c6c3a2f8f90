"""What was seen of buildings in each frame, as read from the results of ``msnet video``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.data.isbda.categories import read_categories
from msnet_d2.errors import InputError
from msnet_d2.video import results as results_file

# Building boxes of one frame that overlap by this IoU are one building.
SAME_BUILDING_IOU = 0.5
# A box this near to the frame's edge is cut off by it, in pixels.
EDGE_PX = 2.0


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
    found = results_file.read_results(path)
    levels = _levels(found, str(path))
    observations = []
    for frame in found.frames:
        size = tuple(map(float, found.frame_size(frame)))
        parts = [
            (
                _part(p, levels[p.category_id]),
                None if p.parent_bbox is None else _xyxy(p.parent_bbox),
            )
            for p in frame.instances
            if p.score >= min_score
        ]
        observations += group_parts(parts, video, frame.index, frame.time_s, size)
    return VideoResults(
        name=found.video.name,
        size=(float(found.video.width), float(found.video.height)),
        fps=found.video.fps,
        duration_s=found.duration_s,
        frames=[(f.index, f.time_s) for f in found.frames],
        observations=observations,
        weights_sha256=found.model.weights_sha256,
        problems=found.summary.problems,
    )


def _levels(found: results_file.VideoResults, source: str) -> dict[int, int]:
    """Damage level, 1 to 3, of each category id.

    Raises:
        InputError: if the categories are not ISBDA's levels.
    """
    flaws: list[str] = []
    raw = [{"id": c.id, "name": c.name} for c in found.categories]
    categories = read_categories(raw, lambda _, message: flaws.append(message))
    if flaws or not categories.is_isbda:
        raise InputError(
            f"{source}: the map needs ISBDA's levels Slight, Severe, Debris as categories, got "
            f"{', '.join(categories.thing_classes) or flaws[0]}"
        )
    return {i: number + 1 for i, number in categories.id_to_contiguous.items()}


def _part(part: results_file.PartDetection, level: int) -> PartObservation:
    known = part.track_id is not None and part.track_id >= 0
    return PartObservation(
        level=level,
        score=part.score,
        box=_xyxy(part.bbox),
        segmentation=part.segmentation,
        score_raw=part.score_raw,
        track_id=part.track_id if known else None,
    )


def _xyxy(box: Sequence[float]) -> np.ndarray:
    x, y, w, h = box
    return np.array([x, y, x + w, y + h])


def group_parts(
    parts: Sequence[tuple[PartObservation, np.ndarray | None]],
    video: int,
    frame: int,
    time_s: float,
    size: tuple[float, float],
) -> list[Observation]:
    """Gather the parts of one frame by building.

    Args:
        parts: each with the box (XYXY) of its building, or None. A part without one goes to the
            building that holds most of it, if one holds at least half; else it stands alone.
        video, frame, time_s, size: of the observations.
    """
    groups: list[Observation] = []
    known = [(p, b) for p, b in parts if b is not None]
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
