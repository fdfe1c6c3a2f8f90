"""Pictures of the map, in one pass over a video: crops of buildings, the ground from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from msnet_d2.damage_map.buildings.assessment import Building
from msnet_d2.damage_map.buildings.levels import LEVELS
from msnet_d2.damage_map.buildings.observations import Observation, VideoResults
from msnet_d2.damage_map.buildings.parts import outlines_px
from msnet_d2.damage_map.geometry.flight import Flight
from msnet_d2.damage_map.geometry.local_frame import EnuFrame
from msnet_d2.damage_map.output.records import building_id
from msnet_d2.errors import VideoError
from msnet_d2.utils.redact import redact_paths

CROP_WIDTH = 400
# With more buildings than this crops become smaller, so that the page stays usable.
MANY = 300
_MARGIN = 0.3

MOSAIC_PX = 2000
MOSAIC_FRAMES = 60
# Coarser than this a mosaic shows nothing.
MOSAIC_COARSEST_M = 1.5


@dataclass
class Mosaic:
    """The ground of one video from above, put together from frames.

    Attributes:
        box: west, south, east, north in metres of web maps (EPSG:3857).
        picture: (H, W, 4) BGRA; transparent where nothing was seen.
        frames: index of each frame to use, with its corners (4, 2) in pixels of ``picture``, in
            the order of the frame's own corners from the upper left clockwise.
    """

    box: tuple[float, float, float, float]
    picture: np.ndarray
    frames: dict[int, np.ndarray]

    def add(self, image: np.ndarray, corners: np.ndarray) -> None:
        """Lay a frame (H, W, 3) over what is there."""
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


def plan_mosaics(
    flights: Sequence[Flight | None], videos: Sequence[VideoResults], local: EnuFrame | None
) -> dict[int, Mosaic]:
    """Choose the frames of each video's mosaic; none for a video where there is nothing to show."""
    count = max(1, sum(f is not None for f in flights))
    pixels = max(600, int(MOSAIC_PX / count**0.5))
    plans = {}
    for number, (flight, video) in enumerate(zip(flights, videos)):
        if flight is not None and video.frames:
            plan = _plan_mosaic(flight, video, local, pixels)
            if plan is not None:
                plans[number] = plan
    return plans


def _plan_mosaic(
    flight: Flight, video: VideoResults, local: EnuFrame, pixels: int
) -> Mosaic | None:
    """Frames at equal distances; those that reach near the horizon are not used, as they would
    cover half the map with a blur."""
    quads: dict[int, np.ndarray] = {}
    total = len(video.frames)
    for k in np.unique(np.linspace(0, total - 1, min(MOSAIC_FRAMES, total)).astype(int)):
        index, time_s = video.frames[k]
        corners = _corners(flight, time_s, local)
        if corners is not None:
            quads[index] = corners
    if not quads:
        return None
    points = np.concatenate(list(quads.values()))
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    unit = max(east - west, north - south) / pixels
    # Metres of web maps are longer than those on the ground, by 1 / cos(latitude).
    latitude = np.radians(flight.telemetry.home[0])
    if not 0 < unit * np.cos(latitude) <= MOSAIC_COARSEST_M:
        return None
    size = (int(np.ceil((north - south) / unit)), int(np.ceil((east - west) / unit)), 4)
    frames = {
        index: np.stack([(q[:, 0] - west) / unit, (north - q[:, 1]) / unit], axis=1)
        for index, q in quads.items()
    }
    return Mosaic((west, south, east, north), np.zeros(size, np.uint8), frames)


def _corners(flight: Flight, time_s: float, local: EnuFrame) -> np.ndarray | None:
    """Where the frame's corners lie, in web metres (4, 2); None if one has no sensible place."""
    projector = flight.projector(time_s)
    if projector.is_point:
        return None
    width, height = flight.size
    found = projector.to_ground([[0, 0], [width, 0], [width, height], [0, height]])
    if found.failure.any():
        return None
    xy = local.to_xy(found.lat_lon)
    reach = np.linalg.norm(xy[0] - xy[3]) / max(projector.sample.alt, 1.0)
    return local.to_mercator(xy) if reach < 6 else None


def take_pictures(
    sources: Sequence[Path],
    buildings: Sequence[Building],
    videos: Sequence[VideoResults],
    mosaics: dict[int, Mosaic],
    problems: list[str],
) -> dict[str, bytes]:
    """Crops of the best observations as JPEG, by the buildings' ids; fills ``mosaics`` on the way.

    Args:
        sources: the video of each number.
        buildings: to show.
        videos: their results.
        mosaics: of the videos' numbers, to be filled.
        problems: gets a line for a video that cannot be read.
    """
    from msnet_d2.video.reader import VideoReader

    crops: dict[str, bytes] = {}
    width = CROP_WIDTH if len(buildings) <= MANY else CROP_WIDTH // 2
    for number, source in enumerate(sources):
        wanted: dict[int, list[Building]] = {}
        for building in buildings:
            if building.best.video == number:
                wanted.setdefault(building.best.frame, []).append(building)
        mosaic = mosaics.get(number)
        laid = {} if mosaic is None else mosaic.frames
        last = max([*wanted, *laid], default=-1)
        if last < 0:
            continue
        try:
            with VideoReader(source) as reader:
                for frame in reader:
                    for building in wanted.get(frame.index, ()):
                        crops[building_id(building.number)] = crop(
                            frame.image, building.best, width
                        )
                    if frame.index in laid:
                        mosaic.add(frame.image, laid[frame.index])
                    if frame.index >= last:
                        break
        except VideoError as error:
            reason = redact_paths(str(error), source)
            problems.append(f"{videos[number].name}: no pictures of it ({reason})")
    return crops


def crop(image: np.ndarray, observation: Observation, width: int) -> bytes:
    """A building with its damage outlined, as JPEG ``width`` pixels wide, three by four."""
    x0, y0, x1, y1 = observation.box
    half = max((x1 - x0) / 2, (y1 - y0) / 2 * 4 / 3) * (1 + _MARGIN)
    half = max(half, 20.0)
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    scale = width / (2 * half)
    matrix = np.array(
        [
            [scale, 0, width / 2 - scale * centre[0] - 0.5 + scale * 0.5],
            [0, scale, width * 3 / 8 - scale * centre[1] - 0.5 + scale * 0.5],
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
        offset = np.array([width / 2, width * 3 / 8]) - scale * np.array(centre)
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
