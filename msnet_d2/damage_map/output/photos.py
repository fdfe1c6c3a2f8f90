"""Pictures of the map, in one pass over a video: crops of buildings, the ground from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import MapVideo, Observation
from msnet_d2.damage_map.buildings.parts import outlines_px
from msnet_d2.damage_map.geometry.flight import Flight
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.records import building_id
from msnet_d2.errors import VideoError
from msnet_d2.utils.redact import redact_paths
from msnet_d2.video.stream import Frame

# Width of a building's picture in pixels, and with more than so many buildings: of 5,000, drone
# pictures take 48 MB at this width (10 kB each), and 105 MB at that.
CROP_WIDTH = 400
MANY_BUILDINGS = 300
MANY_CROP_WIDTH = 240
_MARGIN = 0.3

# Longer side of a mosaic, shared among all videos, and the frames that it is made of.
MOSAIC_PX = 2000
MIN_MOSAIC_PX = 600
MOSAIC_FRAMES = 60
# Metres a pixel: a coarser mosaic shows nothing.
MOSAIC_COARSEST_M = 1.5
# A frame whose side is longer on the ground than this, in heights of the drone, reaches near the
# horizon and would cover half the map with a blur.
MAX_REACH = 6.0


@dataclass(frozen=True, eq=False)
class MosaicPlan:
    """Which frames of a video go into the picture of its ground, and where.

    Attributes:
        box: west, south, east, north in metres of web maps (EPSG:3857).
        size: width and height of the picture in pixels.
        frames: index of each frame with its corners (4, 2) in pixels of the picture, in the order
            of the frame's own corners from the upper left clockwise.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    frames: dict[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The ground of one video from above, put together from frames.

    Attributes:
        box: west, south, east, north in metres of web maps (EPSG:3857).
        picture: (H, W, 4) BGRA; transparent where nothing was seen.
    """

    box: tuple[float, float, float, float]
    picture: np.ndarray

    @classmethod
    def empty(cls, plan: MosaicPlan) -> Mosaic:
        """A mosaic on which nothing is laid yet."""
        width, height = plan.size
        return cls(plan.box, np.zeros((height, width, 4), np.uint8))

    def lay(self, image: np.ndarray, corners: np.ndarray) -> None:
        """Lay a frame (H, W, 3) over what is there; ``corners`` as in :class:`MosaicPlan`."""
        height, width = image.shape[:2]
        source = np.float32([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
        matrix = cv2.getPerspectiveTransform(source, np.float32(corners) - 0.5)
        size = self.picture.shape[1::-1]
        x, y = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
        x0, y0 = np.maximum(x, 0)
        x1, y1 = np.minimum(y, size)
        if x1 <= x0 or y1 <= y0:
            return
        shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], dtype=float) @ matrix
        part = (int(x1 - x0), int(y1 - y0))
        warped = cv2.warpPerspective(image, shift, part, flags=cv2.INTER_LINEAR)
        covers = cv2.warpPerspective(np.full((height, width), 255, np.uint8), shift, part) > 250
        target = self.picture[y0:y1, x0:x1]
        target[covers, :3] = warped[covers]
        target[covers, 3] = 255

    def encode(self) -> bytes:
        """The picture as WebP."""
        return cv2.imencode(".webp", self.picture, [cv2.IMWRITE_WEBP_QUALITY, 60])[1].tobytes()


@dataclass(frozen=True, eq=False)
class Pictures:
    """All pictures of a map.

    Attributes:
        crops: JPEG of each building by its id.
        mosaics: the ground of each video whose flight is known.
        problems: videos that could not be read, a line each.
    """

    crops: dict[str, bytes]
    mosaics: tuple[Mosaic, ...]
    problems: tuple[str, ...]


def take_pictures(
    videos: Sequence[MapVideo], buildings: Sequence[Building], enu: EnuFrame | None
) -> Pictures:
    """Take the pictures of a map in one pass over each video.

    Args:
        videos: of the map.
        buildings: to show, each by its best observation.
        enu: plane of the places.
    """
    width = CROP_WIDTH if len(buildings) <= MANY_BUILDINGS else MANY_CROP_WIDTH
    flown = sum(v.flight is not None for v in videos)
    pixels = max(MIN_MOSAIC_PX, int(MOSAIC_PX / max(flown, 1) ** 0.5))
    crops: dict[str, bytes] = {}
    mosaics, problems = [], []
    for video in videos:
        wanted: dict[int, list[Building]] = {}
        for building in buildings:
            if building.best.video is video:
                wanted.setdefault(building.best.frame, []).append(building)
        plan = plan_mosaic(video, enu, pixels)
        mosaic = None if plan is None else Mosaic.empty(plan)
        laid = {} if plan is None else plan.frames
        try:
            for frame in _frames(video, {*wanted, *laid}):
                for building in wanted.get(frame.index, ()):
                    name = building_id(building.number)
                    crops[name] = crop(frame.image, building.best, width)
                if mosaic is not None and frame.index in laid:
                    mosaic.lay(frame.image, laid[frame.index])
        except VideoError as error:
            reason = redact_paths(str(error), video.path)
            problems.append(f"{video.name}: no pictures of it ({reason})")
        if mosaic is not None:
            mosaics.append(mosaic)
    return Pictures(crops, tuple(mosaics), tuple(problems))


def _frames(video: MapVideo, wanted: set[int]) -> Iterator[Frame]:
    """The frames of a video with the indices ``wanted``."""
    from msnet_d2.video.reader import VideoReader

    if not wanted:
        return
    last = max(wanted)
    with VideoReader(video.path) as reader:
        for frame in reader:
            if frame.index in wanted:
                yield frame
            if frame.index >= last:
                return


def plan_mosaic(video: MapVideo, enu: EnuFrame | None, pixels: int) -> MosaicPlan | None:
    """Choose frames at equal distances; None where there is nothing to show.

    Args:
        video: with its flight.
        enu: plane of the places.
        pixels: longer side of the mosaic.
    """
    flight, found = video.flight, video.results.frames
    if flight is None or enu is None or not found:
        return None
    quads: dict[int, np.ndarray] = {}
    for k in np.unique(np.linspace(0, len(found) - 1, min(MOSAIC_FRAMES, len(found))).astype(int)):
        corners = _corners(flight, found[k].time_s, enu)
        if corners is not None:
            quads[found[k].index] = corners
    if not quads:
        return None
    points = np.concatenate(list(quads.values()))
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    unit = max(east - west, north - south) / pixels
    # Metres of web maps are longer than those on the ground, by 1 / cos(latitude).
    latitude = np.radians(flight.telemetry.home[0])
    if not 0 < unit * np.cos(latitude) <= MOSAIC_COARSEST_M:
        return None
    frames = {
        index: np.stack([(q[:, 0] - west) / unit, (north - q[:, 1]) / unit], axis=1)
        for index, q in quads.items()
    }
    size = (int(np.ceil((east - west) / unit)), int(np.ceil((north - south) / unit)))
    return MosaicPlan((west, south, east, north), size, frames)


def _corners(flight: Flight, time_s: float, enu: EnuFrame) -> np.ndarray | None:
    """Where the frame's corners lie, in web metres (4, 2); None if one has no sensible place."""
    projector = flight.projector(time_s)
    if projector.is_point:
        return None
    width, height = flight.size
    found = projector.to_ground([[0, 0], [width, 0], [width, height], [0, height]])
    if found.failure.any():
        return None
    xy = enu.to_xy(found.lat_lon)
    reach = np.linalg.norm(xy[0] - xy[3]) / max(projector.sample.alt, 1.0)
    return enu.to_mercator(xy) if reach < MAX_REACH else None


def crop(image: np.ndarray, observation: Observation, width: int) -> bytes:
    """A building with its damage outlined, as JPEG ``width`` pixels wide, three by four."""
    x0, y0, x1, y1 = observation.box
    half = max((x1 - x0) / 2, (y1 - y0) / 2 * 4 / 3) * (1 + _MARGIN)
    half = max(half, 20.0)
    center = ((x0 + x1) / 2, (y0 + y1) / 2)
    scale = width / (2 * half)
    matrix = np.array(
        [
            [scale, 0, width / 2 - scale * center[0] - 0.5 + scale * 0.5],
            [0, scale, width * 3 / 8 - scale * center[1] - 0.5 + scale * 0.5],
        ]
    )
    size = (width, width * 3 // 4)
    view = cv2.warpAffine(
        image,
        matrix,
        size,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
        borderValue=(40, 36, 34),
    )

    def there(points: np.ndarray) -> np.ndarray:
        offset = np.array([width / 2, width * 3 / 8]) - scale * np.array(center)
        return np.round(points * scale + offset - 0.5).astype(np.int32)

    if observation.has_building_box:
        low, high = there(np.array([[x0, y0], [x1, y1]]))
        cv2.rectangle(view, low.tolist(), high.tolist(), (255, 255, 255), 1, cv2.LINE_AA)
    for part in observation.parts:
        color = LEVELS[part.level].color
        bgr = tuple(int(color[i : i + 2], 16) for i in (5, 3, 1))
        outlines = [there(o) for o in outlines_px(part, observation.size)]
        cv2.polylines(view, outlines, True, (20, 20, 20), 4, cv2.LINE_AA)
        cv2.polylines(view, outlines, True, bgr, 2, cv2.LINE_AA)
    return cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
