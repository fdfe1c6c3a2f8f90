"""Decoding a video file, and knowing which of its frames came out whole.

FFmpeg conceals errors: a broken packet yields a picture, made up from its neighbours, and so do all
frames predicted from it. Here a frame is sound if its packet, and all packets since the last key
frame in decoding order, decoded without a complaint under the strictest checks. H.264, MPEG-4 and
JPEG notice nearly all damage. HEVC, VP8 and VP9 read almost any bits as some picture and cannot
tell; for these only what is missing or unreadable is found.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.errors import DependencyError, VideoError
from msnet_d2.video.stream import Frame, ReadReport, VideoInfo

__all__ = ["FileDecoder", "import_av"]

# Containers that hold their own pictures. Playlists and concatenations (m3u8, concat, …) open
# further files at the will of whoever made them, and are refused by FFmpeg itself with this list.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
# Every check that a decoder has, and an error instead of concealment.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
# A demuxer that fails so often in a row without a packet in between has nothing more to give.
_MAX_DEMUX_ERRORS = 20
# Some packets of these give no picture, so that a packet without one is no loss.
_HIDDEN_FRAMES = frozenset({"vp8"})
# No distance between frames below this many seconds is called a gap.
_MIN_GAP_S = 1.0


def import_av() -> Any:
    """Import PyAV.

    Raises:
        DependencyError: if it is missing.
    """
    try:
        import av
    except ImportError as error:
        raise DependencyError.for_extra("av", "video", "reading and writing video files") from error
    return av


class FileDecoder:
    """The frames of one video file in the order of their presentation; a context manager.

    Attributes:
        info: what is known of the file.
        report: what was met so far; complete when the iteration is.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stride: int = 1,
        keep_damaged: bool = False,
        max_pixels: int = 1 << 26,
    ):
        """Open a file.

        Args:
            path: of a file in one of the containers mp4, mov, mkv, webm, avi, ts.
            stride: only every ``stride``-th frame, by its index, is given out.
            keep_damaged: give out frames that were decoded from corrupt data, marked, instead of
                counting them as lost.
            max_pixels: larger frames are refused before they are decoded.

        Raises:
            VideoError: if the file is missing, no video in one of these containers, or too large.
            DependencyError: if PyAV is missing.
        """
        self._av = import_av()
        self._path = Path(path)
        self._stride = stride
        self._keep_damaged = keep_damaged
        self._max_pixels = max_pixels
        self.report = ReadReport()
        if not self._path.is_file():
            what = "is not a file" if self._path.exists() else "does not exist"
            raise VideoError(f"the video {path} {what}")
        try:
            # An absolute path: no name can be taken for a protocol.
            self._container = self._av.open(
                str(self._path.resolve()), options=dict(_OPEN_OPTIONS), metadata_errors="replace"
            )
        except (OSError, ValueError) as error:
            raise VideoError(
                f"{path} cannot be opened as a video ({_reason(error)}); expected a whole mp4, "
                "mov, mkv, webm, avi or ts file. An mp4 that was cut off while recording has no "
                "index and needs a repair tool first"
            ) from error
        try:
            self._stream = self._video_stream()
            self.info = self._info()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> FileDecoder:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; harmless to repeat."""
        self._container.close()

    def _video_stream(self) -> Any:
        streams = [
            s
            for s in self._container.streams.video
            if not s.disposition & self._av.stream.Disposition.attached_pic
        ]
        if not streams:
            kinds = sorted({s.type for s in self._container.streams}) or ["nothing"]
            raise VideoError(f"{self._path} holds no video, only {', '.join(kinds)}")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{self._path}: there is no decoder for its video")
        return stream

    def _info(self) -> VideoInfo:
        stream = self._stream
        context = stream.codec_context
        self._check_size(context.width, context.height)
        # One thread: with several, FFmpeg's H.264 decoder keeps most of its complaints to itself,
        # and the others come too late to know their packet. Decoding is a small part of the work.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        context.options = {**context.options, **_STRICT}
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        duration = None
        if stream.duration is not None and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / 1e6
        return VideoInfo(
            name=self._path.name,
            kind="file",
            width=context.width,
            height=context.height,
            fps=Fraction(rate) if rate else Fraction(25),
            time_base=Fraction(stream.time_base or Fraction(1, 90000)),
            frame_count=stream.frames or None,
            duration_s=duration,
            codec=context.name,
            pixel_format=context.pix_fmt or "",
            sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
        )

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise VideoError(
                f"{self._path} has frames of {width}x{height} pixels, over the limit of "
                f"{self._max_pixels} pixels"
            )

    def __iter__(self) -> Iterator[Frame]:
        """Give out the frames.

        Raises:
            VideoError: at the end, if no frame could be decoded.
        """
        tracker = _Tracker(self._stream.codec_context.name in _HIDDEN_FRAMES, self.report)
        clock = _Clock(self._origin(), self.info, self.report)
        size = None
        packets = 0
        for packet in self._packets():
            if packets == 0 and packet is not None and self._container.format.name == "avi":
                # AVI has decoding times only, so that its first frame seems to come late.
                clock.origin = packet.pts or 0
            if packet is not None and not packet.is_discard:
                packets += 1
            for picture in self._decode(packet, tracker):
                lost, damaged = tracker.received(picture)
                self.report.frames_lost += lost
                if damaged and not self._keep_damaged:
                    self.report.frames_lost += 1
                    clock.lost(lost + 1)
                    continue
                clock.lost(lost)
                index = self.report.frames_read + self.report.frames_lost
                self.report.frames_read += 1
                self.report.frames_damaged += damaged
                pts, time_s = clock.time(picture.pts)
                turn = round(picture.rotation / 90) % 4
                upright = (picture.width, picture.height)[:: -1 if turn % 2 else 1]
                if size is None:
                    self.info = replace(
                        self.info, width=upright[0], height=upright[1], rotation=turn * 90
                    )
                elif upright != size:
                    self.report.add_size_change(index, *upright)
                size = upright
                if index % self._stride:
                    continue
                self._check_size(picture.width, picture.height)
                yield Frame(
                    image=_upright(picture.to_ndarray(format="bgr24"), turn),
                    index=index,
                    time_s=time_s,
                    pts=pts,
                    time_base=self.info.time_base,
                    key=bool(picture.key_frame),
                    damaged=damaged,
                )
        self.report.frames_lost += tracker.rest()
        self._check_end(packets, tracker)
        self.report.variable_frame_rate = clock.varies
        if self.report.frames_read == 0:
            raise VideoError(
                f"no frame of {self._path} can be decoded ({packets} packets, "
                f"{self.report.decode_errors} errors)"
            )

    def _origin(self) -> int:
        """Time stamp of the source's time 0, in units of the stream's time base."""
        start = self._container.start_time
        if start is None:
            return self._stream.start_time or 0
        return round(Fraction(start, 1_000_000) / self.info.time_base)

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream, then None once."""
        errors_in_a_row = 0
        demuxer = self._container.demux(self._stream)
        while errors_in_a_row < _MAX_DEMUX_ERRORS:
            try:
                packet = next(demuxer)
            except StopIteration:
                break
            except self._av.FFmpegError:
                self.report.decode_errors += 1
                errors_in_a_row += 1
                demuxer = self._container.demux(self._stream)
                continue
            errors_in_a_row = 0
            # The demuxer's own empty packet at the end would drain the decoder early.
            if packet.size:
                yield packet
        else:
            self.report.truncated = True
        yield None

    def _decode(self, packet: Any, tracker: _Tracker) -> list[Any]:
        """The pictures that the decoder gives after a packet (None: the last ones)."""
        if packet is not None:
            tracker.sent(packet)
        try:
            return self._stream.codec_context.decode(packet)
        except self._av.FFmpegError:
            self.report.decode_errors += 1
            if packet is not None:
                tracker.failed(packet)
            return []

    def _check_end(self, packets: int, tracker: _Tracker) -> None:
        """Compare what there was with what the header announces."""
        announced = self._stream.frames - tracker.discarded
        if announced > packets:
            self.report.truncated = True
            self.report.frames_lost += announced - packets
        elif not self._stream.frames and self.info.duration_s and tracker.last_pts is not None:
            # No count (mkv, webm, ts): the announced duration, give or take a few frames.
            end = (tracker.last_pts - self._origin()) * self.info.time_base + 1 / self.info.fps
            missing = self.info.duration_s - float(end)
            if missing > max(0.5, 3 / float(self.info.fps)) and self._only_stream():
                self.report.truncated = True
                self.report.frames_lost += math.floor(missing * self.info.fps)

    def _only_stream(self) -> bool:
        """Whether the container's duration can only be the video's."""
        return self._stream.duration is not None or len(self._container.streams) == 1


class _Tracker:
    """Follows packets in decoding order and pictures in presentation order, to know what is sound.

    Packets and pictures are matched by their time stamps. Where these cannot be relied on (hidden
    frames, fields in packets of their own, stamps missing or out of order), each error of the
    decoder counts as one lost frame.
    """

    def __init__(self, hidden_frames: bool, report: ReadReport):
        self.discarded = 0
        self.last_pts: int | None = None
        self._report = report
        self._matched = not hidden_frames
        # Time stamps sent to the decoder and not yet come out, a heap; those of them whose
        # packets, or packets they build on, were corrupt.
        self._waiting: list[int] = []
        self._unsound: set[int] = set()
        # Whether packets now sent build on a corrupt one, and below which time stamp those after
        # the next key frame still do (leading frames of an open group of pictures).
        self._tainted = False
        self._leading: int | None = None
        # Whether pictures are unsound until the next key frame, because the decoder said so late.
        self._tainted_pictures = False
        self._unmatched_errors = 0

    def sent(self, packet: Any) -> None:
        """Note a packet before it is decoded."""
        if packet.is_discard:
            self.discarded += 1
            return
        pts = packet.pts
        if packet.is_keyframe:
            self._leading = pts if self._tainted else None
            self._tainted = False
        if packet.is_corrupt:
            self._report.decode_errors += 1
            self._tainted = True
        if pts is None:
            self._unmatch()
            return
        if self._matched:
            heapq.heappush(self._waiting, pts)
        if self._tainted or (self._leading is not None and pts < self._leading):
            self._unsound.add(pts)

    def failed(self, packet: Any) -> None:
        """Note that a packet could not be decoded: what builds on it cannot be sound."""
        self._tainted = True
        if packet.pts is not None:
            self._unsound.add(packet.pts)
        if not self._matched:
            self._unmatched_errors += 1

    def received(self, picture: Any) -> tuple[int, bool]:
        """Take a picture.

        Returns:
            How many frames before it were lost, and whether it is damaged.
        """
        pts = picture.pts
        backwards = None not in (pts, self.last_pts) and pts <= self.last_pts
        if picture.interlaced_frame or pts is None or backwards:
            self._unmatch()
        lost, self._unmatched_errors = self._unmatched_errors, 0
        if self._matched:
            while self._waiting and self._waiting[0] < pts:
                missing = heapq.heappop(self._waiting)
                self._unsound.discard(missing)
                lost += missing != self.last_pts
                self.last_pts = missing
            if self._waiting and self._waiting[0] == pts:
                heapq.heappop(self._waiting)
        if pts is not None:
            self.last_pts = pts if self.last_pts is None else max(pts, self.last_pts)
        if picture.is_corrupt:
            self._tainted_pictures = True
        elif picture.key_frame:
            self._tainted_pictures = False
        damaged = self._tainted_pictures or pts in self._unsound
        self._unsound.discard(pts)
        return lost, damaged

    def rest(self) -> int:
        """How many frames were lost after the last picture."""
        lost = len(set(self._waiting) - {self.last_pts}) + self._unmatched_errors
        if self._waiting:
            self.last_pts = max(self._waiting)
        return lost

    def _unmatch(self) -> None:
        self._matched = False
        self._waiting.clear()


class _Clock:
    """Times of frames from their time stamps: increasing, gaps noted."""

    def __init__(self, origin: int, info: VideoInfo, report: ReadReport):
        self.origin = origin
        self._info = info
        self._report = report
        self._last: int | None = None
        self._lost = 0
        self._gap = max(Fraction(_MIN_GAP_S), 5 / info.fps)
        self._step = max(1, round(1 / (info.fps * info.time_base)))
        self._shortest: int | None = None
        self._longest: int | None = None

    def lost(self, count: int) -> None:
        """Note that frames were lost before the next one."""
        self._lost += count

    def time(self, stamp: int | None) -> tuple[int, float]:
        """Time of a frame in units of the time base, and in seconds, both from the origin."""
        pts = None if stamp is None else stamp - self.origin
        if pts is None or (self._last is not None and pts <= self._last):
            self._report.timestamps_repaired += 1
            pts = 0 if self._last is None else self._last + self._step
        elif self._last is not None and not self._lost:
            self._measure(pts)
        self._last = pts
        self._lost = 0
        return pts, float(pts * self._info.time_base)

    def _measure(self, pts: int) -> None:
        step = pts - self._last
        if step * self._info.time_base > self._gap:
            times = [float(t * self._info.time_base) for t in (self._last, pts)]
            self._report.add_time_gap(*times)
            return
        self._shortest = step if self._shortest is None else min(step, self._shortest)
        self._longest = step if self._longest is None else max(step, self._longest)

    @property
    def varies(self) -> bool:
        """Whether distances between frames differ by more than a tenth, and than rounding to the
        container's unit explains.
        """
        if self._shortest is None:
            return False
        return self._longest - self._shortest > max(2, self._longest // 10)


def _upright(image: np.ndarray, turn: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, turn)) if turn else image


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
