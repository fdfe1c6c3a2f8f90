"""How the picture moves: points followed over a second or so, at moments all over a video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from msnet_d2.errors import VideoError
from msnet_d2.utils.video_io import import_av, open_video
from msnet_d2.video.reader import VideoReader

# Pairs of frames for a video. Twice as many changed no verdict on rendered flights.
PAIRS = 24
# Points are followed in pictures of at most this size, in pixels.
WORK_PX = 640
# A pair ends when the picture has moved by this share of its width, or after so many seconds.
MOVED_SHARE = 0.08
MAX_PAIR_S = 1.5
# Steps shorter than this add error and no information.
STEP_S = 0.06
POINTS = 60
LEAST_POINTS = 12
# To reach a moment this far ahead, decoding on is cheaper than seeking.
DECODE_ON_S = 4.0
# A point that does not come back to within this many pixels was lost.
_BACK_PX = 1.0


@dataclass(frozen=True)
class PairMotion:
    """Points of the ground in two frames of a video.

    Attributes:
        t0: time of the first frame, seconds of the video.
        t1: time of the second frame.
        start: pixels (N, 2) in the first frame.
        end: the same points (N, 2) in the second.
    """

    t0: float
    t1: float
    start: np.ndarray
    end: np.ndarray


def measure_motion(video: Path, duration_s: float, pairs: int = PAIRS) -> list[PairMotion]:
    """Follow points in ``pairs`` short pieces of a video, spread evenly over it.

    Frames are decoded near those moments alone, and two are kept at a time. Pieces without
    texture, and what cannot be decoded, are left out.

    Args:
        video: file or folder of frames.
        duration_s: its length.
        pairs: number of pieces.
    """
    spacing = duration_s / pairs
    starts = (np.arange(pairs) + 0.5) * spacing - min(MAX_PAIR_S, spacing) / 2
    found: list[PairMotion] = []
    frames = _Frames(video)
    try:
        for start in np.clip(starts, 0, None):
            with suppress(StopIteration):
                pair = _follow(frames.from_time(float(start), spacing / 2))
                if pair is not None and (not found or pair.t0 > found[-1].t0):
                    found.append(pair)
    finally:
        frames.close()
    return found


class _Frames:
    """Grey frames of a video from given moments on, which must ascend."""

    def __init__(self, video: Path) -> None:
        self.video = video
        self.container = None
        self._now = -np.inf
        self._stream: Iterator[tuple[float, np.ndarray]] | None = None
        if video.is_file():
            self.container = open_video(video)

    def close(self) -> None:
        if self.container is not None:
            self.container.close()

    def from_time(self, start: float, early: float) -> Iterator[tuple[float, np.ndarray]]:
        """Time and picture of frames from ``start`` on; the first may be ``early`` by so much."""
        if self._stream is None or start - self._now > DECODE_ON_S:
            self._stream = self._open_at(start)
        for time_s, image in self._stream:
            self._now = time_s
            if time_s >= start - early:
                yield time_s, image

    def _open_at(self, start: float) -> Iterator[tuple[float, np.ndarray]]:
        if self.container is None:
            yield from self._folder(start)
            return
        errors = import_av().FFmpegError
        stream = self.container.streams.video[0]
        # As VideoReader counts: from the start of the container.
        begin = self.container.start_time
        origin = (stream.start_time or 0) * stream.time_base if begin is None else begin / 1e6
        with suppress(errors):
            stamp = int((start + float(origin)) / stream.time_base)
            self.container.seek(max(stamp, 0), stream=stream, backward=True)
        try:
            for picture in self.container.decode(stream):
                if picture.pts is None:
                    continue
                gray = picture.to_ndarray(format="gray")
                turn = round(picture.rotation / 90) % 4
                yield float(picture.pts * stream.time_base) - float(origin), np.rot90(gray, turn)
        except errors:
            return

    def _folder(self, start: float) -> Iterator[tuple[float, np.ndarray]]:
        try:
            with VideoReader(self.video) as reader:
                fps = float(reader.info.fps)
            with VideoReader(self.video, start=max(0, int(start * fps))) as reader:
                for frame in reader:
                    yield frame.time_s, cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
        except VideoError:
            return


def _follow(frames: Iterator[tuple[float, np.ndarray]]) -> PairMotion | None:
    """Follow points from the first frame until the picture has moved enough."""
    t0, image = next(frames)
    scale = max(1.0, max(image.shape) / WORK_PX)
    before = _small(image, scale)
    corners = cv2.goodFeaturesToTrack(before, POINTS, 0.01, max(before.shape) / 50)
    if corners is None or len(corners) < LEAST_POINTS:
        return None
    start = now = corners.astype(np.float32)
    t1 = t0
    for time_s, image in frames:
        if time_s - t1 < STEP_S:
            continue
        if time_s - t0 > MAX_PAIR_S + 1:
            break
        after = _small(image, scale)
        if after.shape != before.shape:
            break
        moved, kept = _step(before, after, now)
        if kept.sum() < LEAST_POINTS:
            break
        start, now, before, t1 = start[kept], moved[kept], after, time_s
        way = float(np.median(np.linalg.norm(now - start, axis=2)))
        if way > MOVED_SHARE * before.shape[1] or t1 - t0 >= MAX_PAIR_S:
            break
    if t1 == t0:
        return None
    # OpenCV counts from the centre of the corner pixel.
    return PairMotion(t0, t1, *((p.reshape(-1, 2) + 0.5) * scale for p in (start, now)))


def _small(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return np.ascontiguousarray(image)
    size = round(image.shape[1] / scale), round(image.shape[0] / scale)
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)


def _step(before: np.ndarray, after: np.ndarray, points: np.ndarray):
    """Where points go from one picture to the next, and which of them come back."""
    options = {"winSize": (21, 21), "maxLevel": 4}
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **options)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    off = np.linalg.norm(back - points, axis=2).ravel()
    return there, (seen.ravel() == 1) & (seen_back.ravel() == 1) & (off < _BACK_PX)
