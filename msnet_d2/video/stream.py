"""What a video is to the rest of the package: frames with times, what is known of it, what went
wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

import numpy as np

from msnet_d2.utils.text import listing

__all__ = ["Frame", "ReadReport", "VideoInfo"]

# So many single events of a kind are kept for the report; more are counted only.
_MAX_EVENTS = 100


@dataclass
class Frame:
    """One frame.

    Attributes:
        image: (H, W, 3) uint8 BGR, upright (a rotation tag is applied).
        index: number of the frame in the source, from 0, frames that were lost counted.
        time_s: seconds from the start of the source, from its presentation time stamps.
        pts: the same in units of ``time_base``.
        time_base: seconds.
        key: whether the frame was coded by itself.
        damaged: whether its data, or those of a frame it was predicted from, were corrupt.
    """

    image: np.ndarray
    index: int
    time_s: float
    pts: int
    time_base: Fraction
    key: bool = True
    damaged: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a source before reading it.

    Attributes:
        name: file or folder name without its path, or "camera 0".
        kind: "file", "folder" or "camera".
        width, height: of the first frame in pixels, upright.
        fps: frames a second, on average.
        time_base: unit in seconds of ``Frame.pts``.
        frame_count: how many frames the source says it has; None if it does not.
        duration_s: as the source says; None if it does not.
        codec, pixel_format: names by FFmpeg, "" where there is no stream.
        rotation: degrees counter-clockwise that the stored pictures are turned by; known after the
            first frame.
        sample_aspect_ratio: width of a pixel by its height.
        created: when recording began, as the file says; None if it does not.
    """

    name: str
    kind: str
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    frame_count: int | None = None
    duration_s: float | None = None
    codec: str = ""
    pixel_format: str = ""
    rotation: int = 0
    sample_aspect_ratio: Fraction = Fraction(1)
    created: datetime | None = None


@dataclass
class ReadReport:
    """What reading a source met so far.

    Attributes:
        frames_read: frames decoded soundly (also those that a stride leaves out).
        frames_lost: frames that the source has or should have and that could not be decoded
            soundly.
        frames_hidden: among ``frames_lost``, those that the file stores and that its edit list or
            time table does not show.
        frames_damaged: among ``frames_read``, those decoded from corrupt data all the same, because
            that was asked for.
        decode_errors: errors that the decoder or the container reported.
        truncated: whether the source ends before the end it announces.
        time_gaps: (from, to) in seconds where no frame is for over a second, none of them lost as
            far as the file tells. ``time_gap_count`` counts all.
        size_changes: (index, width, height) where the size of the frames changes.
        timestamps_repaired: frames whose time stamp was missing or not later than the one before.
        variable_frame_rate: whether the distances of frames differ by over a tenth.
        links: names of pictures that are links out of their folder, and were not opened.
            ``link_count`` counts all.
    """

    frames_read: int = 0
    frames_lost: int = 0
    frames_hidden: int = 0
    frames_damaged: int = 0
    decode_errors: int = 0
    truncated: bool = False
    time_gaps: list[tuple[float, float]] = field(default_factory=list)
    time_gap_count: int = 0
    size_changes: list[tuple[int, int, int]] = field(default_factory=list)
    size_change_count: int = 0
    timestamps_repaired: int = 0
    variable_frame_rate: bool = False
    links: list[str] = field(default_factory=list)
    link_count: int = 0

    def add_link(self, name: str) -> None:
        """Note a picture that leads out of its folder."""
        self.link_count += 1
        if len(self.links) < _MAX_EVENTS:
            self.links.append(name)

    def add_time_gap(self, start_s: float, end_s: float) -> None:
        """Note a gap between two frames."""
        self.time_gap_count += 1
        if len(self.time_gaps) < _MAX_EVENTS:
            self.time_gaps.append((round(start_s, 3), round(end_s, 3)))

    def add_size_change(self, index: int, width: int, height: int) -> None:
        """Note that frames from ``index`` on are ``width`` × ``height`` pixels and no longer the
        size they were. The first few are listed, all are counted.
        """
        self.size_change_count += 1
        if len(self.size_changes) < _MAX_EVENTS:
            self.size_changes.append((index, width, height))

    @property
    def is_complete(self) -> bool:
        """Whether all that the source should hold was read soundly."""
        return not (
            self.frames_lost
            or self.frames_damaged
            or self.decode_errors
            or self.truncated
            or self.time_gap_count
            or self.link_count
        )

    def problems(self) -> list[str]:
        """What made the source incomplete, a line each; empty if nothing did."""
        lines = []
        if self.frames_lost:
            total = self.frames_read + self.frames_lost
            lines.append(f"{self.frames_lost} of {total} frames were lost")
        if self.frames_hidden:
            lines.append(
                f"{self.frames_hidden} of these are stored, but an edit list or time table hides "
                "them: convert the video without it (ffmpeg -ignore_editlist 1)"
            )
        if self.frames_damaged:
            lines.append(f"{self.frames_damaged} frames are damaged")
        if self.decode_errors:
            lines.append(f"the decoder reported {self.decode_errors} errors")
        if self.truncated:
            lines.append("it ends before the end that it announces")
        if self.time_gap_count:
            gaps = ", ".join(f"{a:.2f}-{b:.2f} s" for a, b in self.time_gaps[:3])
            more = ", …" if self.time_gap_count > 3 else ""
            lines.append(f"{self.time_gap_count} gaps in time ({gaps}{more})")
        if self.link_count:
            lines.append(
                f"{self.link_count} pictures are links that lead out of the folder, and were not "
                f"opened: {listing(self.links)}"
            )
        return lines

    def notes(self) -> list[str]:
        """What is unusual but lost nothing, a line each."""
        lines = []
        if self.size_change_count:
            index, width, height = self.size_changes[0]
            lines.append(
                f"the size changes {self.size_change_count} times, first to {width}x{height} at "
                f"frame {index}"
            )
        if self.timestamps_repaired:
            lines.append(f"{self.timestamps_repaired} time stamps were missing or out of order")
        if self.variable_frame_rate:
            lines.append("the frame rate varies")
        return lines
