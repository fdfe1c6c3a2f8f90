"""Which decoded pictures are sound, which are missing, and when each is shown."""

from __future__ import annotations

import heapq
from fractions import Fraction
from typing import Any

from msnet_d2.video.stream import ReadReport, VideoInfo

__all__ = ["FrameClock", "FrameTracker"]

# No codec shows more pictures than this between two that follow one another in decoding order.
_MAX_REORDERING = 16
# No distance between frames below this many seconds is called a gap.
_MIN_GAP_S = 1.0


class FrameTracker:
    """Follows packets in decoding order and pictures in presentation order, to know what is sound.

    Packets and pictures are matched by their time stamps. Where these do not tell what is missing
    (hidden frames, fields in packets of their own, stamps missing or out of order), each error of
    the decoder counts as one lost frame.
    """

    def __init__(self, matched: bool, report: ReadReport, keep_stamps: bool):
        self.discarded = 0
        self.last_pts: int | None = None
        self._report = report
        self._matched = matched
        self._keep_stamps = keep_stamps
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
        # Where not matched: packets that failed, to be counted as lost with the next picture.
        self._failed: set[int | None] = set()

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
        if self._matched or self._keep_stamps:
            heapq.heappush(self._waiting, pts)
        if self._tainted or (self._leading is not None and pts < self._leading):
            self._unsound.add(pts)

    def failed(self, packet: Any) -> None:
        """Note that a packet could not be decoded: what builds on it cannot be sound."""
        self._tainted = True
        if packet.pts is not None:
            self._unsound.add(packet.pts)
        if not self._matched:
            self._failed.add(packet.pts)

    def first_sent(self) -> int | None:
        """Take the earliest time stamp that was sent and not taken yet."""
        return heapq.heappop(self._waiting) if self._waiting else None

    def received(self, picture: Any, reorders: bool = False) -> tuple[int, bool]:
        """Take a picture.

        Args:
            picture: decoded.
            reorders: whether the order of decoding differs from that of presentation.

        Returns:
            How many frames before it were lost, and whether it is damaged.
        """
        pts = picture.pts
        backwards = None not in (pts, self.last_pts) and pts <= self.last_pts
        if picture.interlaced_frame or pts is None or backwards:
            self._unmatch()
        # A packet may fail and its picture come out all the same, behind those that B-frames are.
        self._failed.discard(pts)
        late = -1 if pts is None else pts - (_MAX_REORDERING if reorders else 0)
        gone = {stamp for stamp in self._failed if stamp is None or stamp < late}
        self._failed -= gone
        lost = len(gone)
        if self._keep_stamps and gone:
            self._waiting = sorted(set(self._waiting) - gone)
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
            self._report.decode_errors += 1
            self._tainted_pictures = True
        elif picture.key_frame:
            self._tainted_pictures = False
        damaged = self._tainted_pictures or pts in self._unsound
        self._unsound.discard(pts)
        return lost, damaged

    def rest(self) -> int:
        """How many frames were lost after the last picture."""
        if not self._matched:
            return len(self._failed)
        lost = len(set(self._waiting) - {self.last_pts})
        if self._waiting:
            self.last_pts = max(self._waiting)
        return lost

    def _unmatch(self) -> None:
        if self._matched:
            self._matched = False
            self._waiting.clear()


class FrameClock:
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
