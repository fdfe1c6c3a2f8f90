"""Decoding a video file, and knowing which of its frames came out whole.

FFmpeg conceals errors: a broken packet yields a picture, made up from its neighbours, and so do all
frames predicted from it. Here a frame is intact if its packet, and all packets since the last key
frame in decoding order, decoded without a complaint under the strictest checks. H.264, MPEG-4 and
JPEG notice nearly all damage. HEVC, VP8 and VP9 read almost any bits as some picture and cannot
tell; for these only what is missing or unreadable is found.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from msnet_d2.errors import VideoError
from msnet_d2.utils.text import printable
from msnet_d2.utils.video_io import import_av, open_video
from msnet_d2.video.integrity import MAX_REORDERING, FrameClock, IntegrityChecker
from msnet_d2.video.mp4_tables import check_mp4
from msnet_d2.video.stream import Frame, ReadReport, VideoInfo

__all__ = ["FileDecoder"]

# Every check that a decoder has, and an error instead of concealment.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
# A demuxer that fails so often in a row without a packet in between has nothing more to give.
_MAX_DEMUX_ERRORS = 20
# Some packets of these give no picture, so that a packet without one is no loss.
_HIDDEN_FRAMES = frozenset({"vp8"})


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
        start: int = 0,
        keep_damaged: bool = False,
        max_pixels: int = 1 << 26,
    ):
        """Open a file.

        Args:
            path: of a file in one of the containers mp4, mov, mkv, webm, avi, ts.
            stride: only every ``stride``-th frame, by its index, is given out.
            start: frames of a lower index are decoded, so that indices and what is damaged come out
                the same, but not given out.
            keep_damaged: give out frames that were decoded from corrupt data, marked, instead of
                counting them as lost.
            max_pixels: larger frames are refused before they are decoded.

        Raises:
            VideoError: if the file is missing, no video in one of these containers, or too large.
            DependencyError: if PyAV is missing.
        """
        self._av = import_av()
        self._path = Path(path)
        # AVI says when packets are decoded, not when pictures are shown. There the stamps serve to
        # tell pictures apart, and the n-th picture is shown at the n-th time.
        self._decoding_times = False
        self._stride = stride
        self._start = start
        self._keep_damaged = keep_damaged
        self._max_pixels = max_pixels
        self.report = ReadReport()
        if not self._path.is_file():
            what = "is not a file" if self._path.exists() else "does not exist"
            raise VideoError(f"the video {path} {what}")
        try:
            self._stored = check_mp4(self._path)
            self._container = open_video(self._path)
        except VideoError:
            raise
        except (OSError, ValueError) as error:
            raise VideoError(
                f"{path} cannot be opened as a video ({_reason(error)}); expected a whole mp4, "
                "mov, mkv, webm, avi or ts file. An mp4 that was cut off while recording has no "
                "index and needs a repair tool first"
            ) from error
        try:
            self._decoding_times = self._container.format.name == "avi"
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
            name=printable(self._path.name),
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
            created=_moment(self._container.metadata.get("creation_time", "")),
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
        codec = self._stream.codec_context.name
        matched = not self._decoding_times and codec not in _HIDDEN_FRAMES
        checker = IntegrityChecker(
            matched,
            self.report,
            keep_stamps=self._decoding_times,
            lossy=self._container.format.name == "mpegts",
        )
        clock = FrameClock(self._origin(), self.info, self.report)
        size = None
        packets = 0
        held: deque[Any] = deque()
        for packet in self._packets():
            if packet is not None and not packet.is_discard:
                packets += 1
            for picture in self._settled(packet, checker, held):
                reorders = bool(self._stream.codec_context.has_b_frames)
                lost, damaged = checker.received(picture, reorders)
                stamp = checker.first_sent() if self._decoding_times else picture.pts
                self.report.frames_lost += lost
                if damaged and not self._keep_damaged:
                    self.report.frames_lost += 1
                    clock.lost(lost + 1)
                    continue
                clock.lost(lost)
                index = self.report.frames_read + self.report.frames_lost
                self.report.frames_read += 1
                self.report.frames_damaged += damaged
                pts, time_s = clock.time(stamp)
                turn = round(picture.rotation / 90) % 4
                upright = (picture.width, picture.height)[:: -1 if turn % 2 else 1]
                if size is None:
                    self.info = replace(
                        self.info, width=upright[0], height=upright[1], rotation=turn * 90
                    )
                elif upright != size:
                    self.report.add_size_change(index, *upright)
                size = upright
                if index < self._start or index % self._stride:
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
        self.report.frames_lost += checker.rest()
        self._check_end(packets, checker)
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
                if self._decoding_times:
                    packet.pts = packet.dts
                yield packet
        else:
            self.report.truncated = True
        yield None

    def _settled(self, packet: Any, checker: IntegrityChecker, held: deque[Any]) -> Iterator[Any]:
        """The pictures of which it is known after a packet (None: the last) what they build on."""
        for picture in self._decode(packet, checker):
            checker.arrived(picture)
            held.append(picture)
        while held and (packet is None or len(held) > MAX_REORDERING or checker.is_ready(held[0])):
            yield held.popleft()

    def _decode(self, packet: Any, checker: IntegrityChecker) -> list[Any]:
        """The pictures that the decoder gives after a packet (None: the last ones)."""
        if packet is not None:
            checker.sent(packet)
        try:
            return self._stream.codec_context.decode(packet)
        except self._av.FFmpegError:
            self.report.decode_errors += 1
            if packet is not None:
                checker.failed(packet)
            return []

    def _check_end(self, packets: int, checker: IntegrityChecker) -> None:
        """Compare what there was with what the header announces."""
        announced = self._stream.frames - checker.discarded
        # What an edit list or a time table leaves out has not been looked at.
        self.report.frames_hidden = max(
            checker.discarded, (self._stored or 0) - max(packets, announced)
        )
        self.report.frames_lost += self.report.frames_hidden
        if self._decoding_times and checker.last_pts is not None:
            # AVI counts empty packets too, which stand for "as before".
            packets = max(packets, checker.last_pts - self._origin() + 1)
        if announced > packets:
            self.report.truncated = True
            self.report.frames_lost += announced - packets
        elif not self._stream.frames and self.info.duration_s and checker.last_pts is not None:
            # No count (mkv, webm, ts): the announced duration, give or take a few frames.
            end = (checker.last_pts - self._origin()) * self.info.time_base + 1 / self.info.fps
            missing = self.info.duration_s - float(end)
            if missing > max(0.5, 3 / float(self.info.fps)) and self._only_stream():
                self.report.truncated = True
                self.report.frames_lost += math.floor(missing * self.info.fps)

    def _only_stream(self) -> bool:
        """Whether the container's duration can only be the video's."""
        return self._stream.duration is not None or len(self._container.streams) == 1


def _upright(image: np.ndarray, turn: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, turn)) if turn else image


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
