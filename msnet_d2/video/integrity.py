"""Which decoded pictures are intact, which are missing, and when each is shown."""

from __future__ import annotations

import heapq
from fractions import Fraction
from typing import Any

from msnet_d2.video.stream import ReadReport, VideoInfo

__all__ = ["MAX_REORDERING", "FrameClock", "IntegrityChecker"]

# No codec shows more pictures than this between two that follow one another in decoding order.
MAX_REORDERING = 16
# No distance between frames below this many seconds is called a gap.
_MIN_GAP_S = 1.0
# So many distances of packets in a row must be equal for a rate to be even.
_EVEN = 3
# More packets than any decoder keeps.
_MAX_DELAY = 64


class IntegrityChecker:
    """Follows packets in decoding order and pictures in presentation order, to know what is intact.

    Packets and pictures are matched by their time stamps. Where these do not tell what is missing
    (hidden frames, fields in packets of their own, stamps missing or out of order), each error of
    the decoder counts as one lost frame.
    """

    def __init__(self, matched: bool, report: ReadReport, keep_stamps: bool, lossy: bool = False):
        """Begin before the first packet.

        Args:
            matched: match packets and pictures by their time stamps.
            report: errors of the decoder are counted there.
            keep_stamps: keep the stamps also where they are not matched.
            lossy: whether packets may vanish (transport streams); a hole in an even rate tells.
        """
        self.discarded = 0
        self.last_pts: int | None = None
        self._report = report
        self._matched = matched
        self._keep_stamps = keep_stamps
        # Time stamps sent to the decoder and not yet come out, a heap; those of them whose
        # packets, or packets they build on, were corrupt.
        self._waiting: list[int] = []
        self._damaged_stamps: set[int] = set()
        # Whether packets now sent build on a corrupt one, and below which time stamp those after
        # the next key frame still do (leading frames of an open group of pictures).
        self._tainted = False
        self._leading: int | None = None
        # Of stamps not received yet: place in decoding order, number of the group of pictures, time
        # stamp of that group's key frame. Those of them that the decoder has not given out.
        self._places: dict[int, tuple[int, int, int | None]] = {}
        self._coming: set[int] = set()
        self._packets = 0
        self._group = 0
        self._key: int | None = None
        # Distance of packets in decoding order, how often it was met in a row, and how many packets
        # are missing that no picture has shown yet.
        self._lossy = lossy
        self._last_dts: int | None = None
        self._step = 0
        self._even = 0
        self._vanished = 0
        # Whether pictures without a place are damaged until the next key frame.
        self._tainted_pictures = False
        # Where not matched: packets that failed, to be counted as lost with the next picture.
        self._failed: set[int | None] = set()

    def sent(self, packet: Any) -> None:
        """Note a packet before it is decoded."""
        if packet.is_discard:
            self.discarded += 1
            return
        pts = packet.pts
        self._packets += 1
        if packet.is_keyframe:
            self._leading = pts if self._tainted else None
            self._tainted = False
            self._group += 1
            self._key = pts
        if packet.is_corrupt or self._follows_hole(packet.dts):
            self._report.decode_errors += 1
            self._tainted = not packet.is_keyframe or packet.is_corrupt
        if pts is None:
            self._unmatch()
            return
        if self._matched or self._keep_stamps:
            heapq.heappush(self._waiting, pts)
            self._places[pts] = self._packets, self._group, self._key
            self._coming.add(pts)
        if self._tainted or (self._leading is not None and pts < self._leading):
            self._damaged_stamps.add(pts)

    def _follows_hole(self, dts: int | None) -> bool:
        """Whether packets are missing before this one."""
        if not self._lossy or dts is None:
            return False
        step = dts - (dts if self._last_dts is None else self._last_dts)
        self._last_dts = dts
        if step == self._step:
            self._even += 1
        elif self._even >= _EVEN and step in range(2 * self._step, _MAX_DELAY * self._step):
            if step % self._step == 0:
                self._vanished += step // self._step - 1
                return True
            self._even = 0
        else:
            self._step, self._even = max(step, 0), 0
        return False

    def failed(self, packet: Any) -> None:
        """Note that a packet could not be decoded: what builds on it cannot be intact."""
        self._tainted = True
        if packet.pts is not None:
            self._damaged_stamps.add(packet.pts)
            self._coming.discard(packet.pts)
        if not self._matched:
            self._failed.add(packet.pts)

    def arrived(self, picture: Any) -> None:
        """Note a picture as soon as the decoder gives it, before it is received.

        A decoder marks a picture that it made up in part when that comes out. What builds on it may
        be shown, and so come out, before it.
        """
        pts = picture.pts
        self._coming.discard(pts)
        if self._matched and pts is not None:
            # They come out in the order of their stamps: those of lower ones never will.
            self._coming = {stamp for stamp in self._coming if stamp > pts}
        if not picture.is_corrupt:
            return
        self._report.decode_errors += 1
        if pts not in self._places:
            return
        place, group, _ = self._places[pts]
        for stamp, (other, its_group, key) in self._places.items():
            leading = its_group == group + 1 and key is not None and stamp < key
            if (its_group == group and other >= place) or leading:
                self._damaged_stamps.add(stamp)
        if group == self._group:
            self._tainted = True
        elif group == self._group - 1:
            self._leading = self._key

    def is_ready(self, picture: Any) -> bool:
        """Whether all pictures that one may build on have come out, or never will."""
        if picture.pts not in self._places:
            return True
        place = self._places[picture.pts][0]
        return all(self._places[stamp][0] > place for stamp in self._coming)

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
        late = -1 if pts is None else pts - (MAX_REORDERING if reorders else 0)
        gone = {stamp for stamp in self._failed if stamp is None or stamp < late}
        self._failed -= gone
        lost = len(gone)
        if self._keep_stamps and gone:
            self._waiting = sorted(set(self._waiting) - gone)
        if self._matched:
            lost += self._missing_before(pts)
            while self._waiting and self._waiting[0] < pts:
                missing = heapq.heappop(self._waiting)
                self._damaged_stamps.discard(missing)
                lost += missing != self.last_pts
                self.last_pts = missing
            if self._waiting and self._waiting[0] == pts:
                heapq.heappop(self._waiting)
        if pts is not None:
            self.last_pts = pts if self.last_pts is None else max(pts, self.last_pts)
        if picture.is_corrupt and pts not in self._places:
            self._tainted_pictures = True
        elif picture.key_frame:
            self._tainted_pictures = False
        damaged = picture.is_corrupt or self._tainted_pictures or pts in self._damaged_stamps
        self._forget(pts)
        self._damaged_stamps.discard(pts)
        return lost, damaged

    def _missing_before(self, pts: int) -> int:
        """How many of the vanished would have been shown just before ``pts``."""
        if not self._vanished or self.last_pts is None:
            return 0
        known = sum(self.last_pts < stamp < pts for stamp in self._waiting)
        count = min((pts - self.last_pts) // self._step - 1 - known, self._vanished)
        self._vanished -= max(count, 0)
        return max(count, 0)

    def rest(self) -> int:
        """How many frames were lost after the last picture."""
        if not self._matched:
            return len(self._failed)
        lost = self._vanished + len(set(self._waiting) - {self.last_pts})
        if self._waiting:
            self.last_pts = max(self._waiting)
        return lost

    def _forget(self, pts: int | None) -> None:
        """Drop the places of this picture and of those that can no longer come."""
        place, *_ = self._places.pop(pts, (0,))
        if place:
            old = place - _MAX_DELAY
            self._places = {s: p for s, p in self._places.items() if p[0] > old}
            self._coming &= self._places.keys()

    def _unmatch(self) -> None:
        if self._matched:
            self._matched = False
            self._waiting.clear()
            self._places.clear()
            self._coming.clear()


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
