"""What an MP4 or MOV file states of its frames, read before any decoder opens it.

FFmpeg sets memory aside for as many frames as a table states, and gives out those alone that edit
list and time table show. Boxes as in ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msnet_d2.errors import VideoError

__all__ = ["check_mp4"]

# Boxes that hold boxes, on the way to the tables of a track.
_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex"})
# The smallest frame takes a few bytes, and its size in a table another four.
_LEAST_BYTES = 4
_ALWAYS = 1000
# Frames of a track: 46 hours of 30 a second. FFmpeg takes up to 160 bytes for each.
_MAX_SAMPLES = 5_000_000
_MAX_BOXES = 200_000
_MAX_DEPTH = 8


def check_mp4(path: str | Path) -> int | None:
    """See that a file does not state more frames than it can hold, and count those it stores.

    Args:
        path: of a file; nothing is checked in files of other formats.

    Returns:
        Number of frames that the first video track stores, shown or not; None if it is in
        fragments, or the file is of another format.

    Raises:
        VideoError: if a track states more frames than the file has room for, or over 5 million; or
            if there are more than 200,000 boxes.
        OSError: if the file cannot be read.
    """
    size = os.path.getsize(path)
    stored, track = None, _Track()
    with open(path, "rb") as file:
        head = file.read(12)
        if len(head) < 8 or head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
            return None
        for kind, start, end in _boxes(file, 0, size, 0, [0]):
            if kind == b"trak":
                track = _Track()
            track.read(file, kind, start, end)
            if track.samples > min(size // _LEAST_BYTES + _ALWAYS, _MAX_SAMPLES):
                raise VideoError(
                    f"{path} states {track.samples:,} frames in {size:,} bytes: not a sound mp4"
                )
            if kind == b"stsz" and track.is_video and stored is None:
                stored = track.stored
    return stored or None


class _Track:
    """What the tables of a track state."""

    def __init__(self) -> None:
        self.is_video = False
        self.is_audio = False
        self.samples = 0  # that FFmpeg makes room for
        self.stored = 0

    def read(self, file: BinaryIO, kind: bytes, start: int, end: int) -> None:
        """Take up one box, whose content is from ``start`` to ``end``."""
        file.seek(start)
        if kind == b"hdlr":
            handler = file.read(12)[8:12]
            self.is_video, self.is_audio = handler == b"vide", handler == b"soun"
        elif kind in (b"stsz", b"stz2"):
            _, every, count = _integers(file.read(12))
            self.stored = count
            # Sound without compression has frames of two bytes, which are not counted one by one.
            if not (self.is_audio and kind == b"stsz" and every):
                self.samples = max(self.samples, count)
        elif kind in (b"stts", b"ctts"):
            counts = [c for c, _ in _pairs(file, start + 8, end)]
            if not (self.is_audio and len(counts) == 1):
                self.samples = max(self.samples, sum(counts))
        elif kind == b"trun":
            self.samples += _integers(file.read(8))[1]


def _integers(raw: bytes) -> tuple[int, ...]:
    """Big-endian unsigned integers of 32 bits; zeros where the file ends early."""
    return struct.unpack(">3I", raw.ljust(12, b"\0"))


def _pairs(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    file.seek(start)
    while start < end:
        block = file.read(min(1 << 16, end - start))
        yield from struct.iter_unpack(">2I", block[: len(block) // 8 * 8])
        if len(block) < 8:
            return
        start += len(block)


def _boxes(
    file: BinaryIO, start: int, end: int, depth: int, seen: list[int]
) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box, those in containers after their container."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        content = start + 8
        if size == 1:
            size, content = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0], start + 16
        stop = end if size == 0 else start + size
        if stop < content or stop > end:
            stop = end  # cut off; FFmpeg says so
        seen[0] += 1
        if seen[0] > _MAX_BOXES:
            raise VideoError(f"{file.name} has more than {_MAX_BOXES:,} boxes: not a sound mp4")
        yield kind, content, stop
        if kind in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(file, content, stop, depth + 1, seen)
        start = stop
