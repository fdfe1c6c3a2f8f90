"""What was seen of buildings in each frame of a video.

An :class:`Observation` holds pixels alone. :mod:`.placement` turns it into one that has a place on
the ground (:class:`PlacedObservation`), one of which only the drone's position is known
(:class:`NadirObservation`), or one that has none and says why (:class:`UnplacedObservation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.damage_map.geometry.flight import Flight
from msnet_d2.damage_map.telemetry.cleaning import TelemetryFlag
from msnet_d2.data.isbda.categories import read_categories
from msnet_d2.errors import InputError
from msnet_d2.utils.text import printable
from msnet_d2.video.results import PartDetection, VideoResults

# Building boxes of one frame that overlap by this IoU are one building.
SAME_BUILDING_IOU = 0.5
# A box whose edge is this near to the frame's, in pixels, is truncated by it.
EDGE_PX = 2.0


@dataclass(frozen=True, eq=False)
class MapVideo:
    """A video of a map.

    Attributes:
        path: of the file or folder of frames.
        order: place among the videos of the map, from 0.
        results: what was found in it.
        flight: its log; None: nothing in it gets a place.
        notes: what to know of it, a line each.
        created: when recording began, as the file says; None if it does not.
    """

    path: Path
    order: int
    results: VideoResults
    flight: Flight | None = None
    notes: tuple[str, ...] = ()
    created: datetime | None = None

    @property
    def name(self) -> str:
        """Name of the file, without folders."""
        return printable(self.path.name)

    @property
    def start(self) -> datetime | None:
        """When the video begins: by the log's clock, else as the file says; aware of its zone only
        where the source is."""
        clock = None if self.flight is None else self.flight.telemetry.clock_start
        return clock or self.created

    @property
    def weights_sha256(self) -> str | None:
        """Digest of the weights that were used."""
        return self.results.model.weights_sha256


@dataclass(frozen=True, eq=False)
class PartObservation:
    """A damaged part in one frame.

    Attributes:
        level: 1 to 3.
        score: after refinement, 0 to 1.
        box: (4,) XYXY in pixels.
        segmentation: COCO's RLE or polygons, or None.
        score_raw: before refinement, or None.
        track_id: equal for detections of the video that the detector holds for one object, or None.
    """

    level: int
    score: float
    box: np.ndarray
    segmentation: Any = None
    score_raw: float | None = None
    track_id: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """A damaged building in one frame, in pixels.

    Attributes:
        video: in which it was seen.
        frame: index of the frame.
        time_s: of the frame in the video.
        box: (4,) XYXY in pixels: of the building, or of its damaged parts if that is not known.
        size: width and height of the frame.
        parts: at least one.
        has_building_box: whether ``box`` is the building's.
    """

    video: MapVideo
    frame: int
    time_s: float
    box: np.ndarray
    size: tuple[float, float]
    parts: tuple[PartObservation, ...]
    has_building_box: bool = True

    @property
    def order(self) -> tuple[int, int]:
        """Sort key: by video, then frame."""
        return self.video.order, self.frame

    @property
    def truncated(self) -> bool:
        """Whether the frame's edge cuts it off."""
        x0, y0, x1, y1 = self.box
        width, height = self.size
        return bool(min(x0, y0, width - x1, height - y1) <= EDGE_PX)

    @property
    def worst(self) -> PartObservation:
        """The part of the worst level, of these the one with the highest score."""
        return max(self.parts, key=lambda p: (p.level, p.score))

    @property
    def score(self) -> float:
        """Highest score of its parts."""
        return max(p.score for p in self.parts)

    @property
    def track_ids(self) -> set[int]:
        """Of all its parts."""
        return {p.track_id for p in self.parts if p.track_id is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class UnplacedObservation(Observation):
    """An observation without a place.

    Attributes:
        reason: why, in words.
    """

    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class NadirObservation(Observation):
    """An observation of which only the drone's position is known, not where the camera looked.

    Attributes:
        point: (2,) metres east and north, under the drone.
        ce90_m: radius about ``point`` that holds the building with a probability of 90%.
        flags: what the telemetry is made of.
    """

    point: np.ndarray
    ce90_m: float
    flags: TelemetryFlag


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacedObservation(Observation):
    """An observation on the ground.

    Attributes:
        outline: (4, 2) metres east and north, in the order near left, near right, far right, far
            left as the camera sees it.
        ce90_m: radius about its center that holds the truth with a probability of 90%.
        view: direction (2,) east, north in which the camera looks at it, of length 1.
        relief_displacement: metres on the ground by which the top of something one metre high is
            displaced.
        flags: what the telemetry is made of.
        part_outlines: (4, 2) of the box of each part; None where a part has no place.
    """

    outline: np.ndarray
    ce90_m: float
    view: np.ndarray
    relief_displacement: float
    flags: TelemetryFlag
    part_outlines: tuple[np.ndarray | None, ...]


def observations_of(video: MapVideo, *, min_score: float = 0.3) -> list[Observation]:
    """The damaged buildings in each frame of a video, in order of frames.

    Args:
        video: with its results.
        min_score: detections that score less are left out.

    Raises:
        InputError: if the classes of the results are not ISBDA's levels.
    """
    levels = _levels(video)
    observations = []
    for frame in video.results.frames:
        parts = [
            (_part(p, levels[p.category_id]), p.parent_bbox and _xyxy(p.parent_bbox))
            for p in frame.instances
            if p.score >= min_score
        ]
        width, height = video.results.frame_size(frame)
        observations += group_parts(
            parts,
            video=video,
            frame=frame.index,
            time_s=frame.time_s,
            size=(float(width), float(height)),
        )
    return observations


def _levels(video: MapVideo) -> dict[int, int]:
    """Damage level, 1 to 3, of each category id."""
    issues: list[str] = []
    raw = [{"id": c.id, "name": c.name} for c in video.results.categories]
    categories = read_categories(raw, lambda _, message: issues.append(message))
    if issues or not categories.is_isbda:
        raise InputError(
            f"{video.name}: the map needs ISBDA's levels Slight, Severe, Debris as categories, got "
            f"{', '.join(categories.thing_classes) or issues[0]}"
        )
    return {i: number + 1 for i, number in categories.id_to_contiguous.items()}


def _part(part: PartDetection, level: int) -> PartObservation:
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
    parts: Sequence[tuple[PartObservation, np.ndarray | None]], **seen: Any
) -> list[Observation]:
    """Gather the parts of one frame by building.

    Args:
        parts: each with the box (XYXY) of its building, or None. A part without one goes to the
            building that holds most of it, if one holds at least half; else it stands alone.
        seen: video, frame, time_s and size of the observations.
    """
    boxes: list[np.ndarray] = []
    members: list[list[PartObservation]] = []
    known = [(p, b) for p, b in parts if b is not None]
    for part, box in sorted(known, key=lambda pair: -pair[0].score):
        overlaps = [box_iou(box, other) for other in boxes]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= SAME_BUILDING_IOU:
            members[best].append(part)
        else:
            boxes.append(box)
            members.append([part])
    buildings = len(boxes)
    for part in (p for p, b in parts if b is None):
        inside = [_inside(part.box, box) for box in boxes]
        best = int(np.argmax(inside)) if inside else -1
        if best >= 0 and inside[best] >= 0.5:
            members[best].append(part)
        else:
            boxes.append(part.box)
            members.append([part])
    return [
        Observation(box=box, parts=tuple(group), has_building_box=i < buildings, **seen)
        for i, (box, group) in enumerate(zip(boxes, members))
    ]


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
    """Fraction of box ``a`` that lies in ``b``."""
    return _intersection(a, b) / max(_area(a), 1e-9)
