"""Detection in pieces of videos that can be done anywhere, in any order, and more than once.

A chunk is a range of frames. Score refinement looks at neighbors, and so a chunk is detected with
some frames more on both sides, which are dropped when the chunks of a video are joined. What comes
out is byte by byte what one pass over the video gives, track numbers included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from msnet_d2.config.refinement import refines_scores
from msnet_d2.errors import InputError, VideoError
from msnet_d2.video.detector import DetectorSettings, VideoDetector
from msnet_d2.video.pipeline import categories_of
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.results import (
    FrameResults,
    PartDetection,
    ResultsHeader,
    ResultsSummary,
    VideoResults,
)

__all__ = ["Chunk", "detect_chunk", "frames_of_overlap", "join_chunks", "plan_chunks"]

# With RUNNING_MEAN a refined score is the mean of a frame's own score and that of the frame
# before. A frame this many steps back weighs 2^-64, below the 2^-24 of single precision; by
# geometry 0.65^64, which is 2^-40.
RUNNING_MEAN_FRAMES = 64
# Detections from this score on count in a video's summary, as in `msnet video`.
_COUNTED_SCORE = 0.5


@dataclass(frozen=True)
class Chunk:
    """A piece of a video.

    Attributes:
        first: index of its first frame.
        end: index after its last frame; None: to the end of the video.
        overlap: frames more on both sides.
    """

    first: int = 0
    end: int | None = None
    overlap: int = 0


def frames_of_overlap(detector: VideoDetector) -> int:
    """How many frames, by index, a chunk needs on both sides."""
    if not refines_scores(detector.cfg):
        return 0
    rule = detector.cfg.TEST.SCORE_REFINEMENT
    runs = rule.RUNNING_MEAN or rule.RULE == "geometry"
    past = RUNNING_MEAN_FRAMES * detector.settings.stride if runs else 0
    return int(rule.MAX_FRAME_GAP) + past


def plan_chunks(video: str | Path, detector: VideoDetector, seconds: float) -> list[Chunk]:
    """Split a video into chunks of about ``seconds``, the last one up to half longer.

    Raises:
        VideoError: if it cannot be opened.
    """
    with VideoReader(video) as reader:
        info = reader.info
    overlap, stride = frames_of_overlap(detector), detector.settings.stride
    count = info.frame_count or round((info.duration_s or 0) * info.fps)
    length = max(1, round(seconds * float(info.fps)), 2 * overlap)
    length = -(-length // stride) * stride
    if count < 1.5 * length:
        return [Chunk()]
    pieces = max(1, round(count / length))
    starts = [k * length for k in range(pieces)]
    return [Chunk(a, b, overlap) for a, b in zip(starts, [*starts[1:], None])]


@lru_cache(maxsize=1)
def _detector(settings: DetectorSettings) -> VideoDetector:
    """The detector of this process: its model is built once."""
    return VideoDetector(settings)


def detect_chunk(settings: DetectorSettings, video: str, chunk: Chunk) -> bytes:
    """Detect in a chunk.

    Returns:
        What ``msnet video --results`` would write for its frames and the overlap, detections of
        all scores in it.

    Raises:
        VideoError: if the video cannot be decoded.
        InterruptedError: if a signal stopped this process.
    """
    detector = _detector(settings)
    start = max(0, chunk.first - chunk.overlap)
    most = None
    if chunk.end is not None:
        most = -(-(chunk.end + chunk.overlap - start) // settings.stride)
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoReader(video, stride=settings.stride, start=start) as reader,
    ):
        path = Path(folder) / "chunk.json"
        try:
            done = detector.detect(reader, results=path, max_frames=most)
        except VideoError:
            # The header promised more frames than there are: what is left is the reader's report.
            if not chunk.first or not reader.report.frames_read:
                raise
            categories = categories_of(detector.predictor.metadata)
            header = ResultsHeader.of(reader.info, detector.model, categories)
            summary = ResultsSummary.of("complete", 0, {}, reader.report)
            return msgspec.json.encode(header.with_frames([], summary))
        if done.status == "interrupted":
            raise InterruptedError(f"a signal stopped the detection in {reader.info.name}")
        return path.read_bytes()


def join_chunks(
    pieces: Sequence[VideoResults], chunks: Sequence[Chunk], min_score: float = 0.0
) -> VideoResults:
    """The results of a video from those of its chunks.

    Args:
        pieces: what :func:`detect_chunk` returned, read, in order.
        chunks: of them.
        min_score: detections and buildings that score less are left out.

    Raises:
        InputError: if the chunks do not continue each other.
    """
    names = {c.id: c.name for c in pieces[0].categories}
    counts = dict.fromkeys(names.values(), 0)
    frames: list[FrameResults] = []
    shown: dict[int, list[int]] = {}  # tracks of the frames that the next chunk has too
    tracks = 0
    for piece, chunk in zip(pieces, chunks, strict=True):
        renamed, fresh = _continue_tracks(piece.frames, chunk, shown)
        shown = {}
        for frame in piece.frames:
            if frame.index < chunk.first or (chunk.end is not None and frame.index >= chunk.end):
                continue
            parts = [_renumber(p, renamed, tracks - fresh) for p in frame.instances]
            shown[frame.index] = _track_ids(parts)
            for part in parts:
                counts[names[part.category_id]] += part.score >= _COUNTED_SCORE
            parents = frame.parents
            if parents is not None:
                parents = [p for p in parents if p.score >= min_score]
            kept = [p for p in parts if p.score >= min_score]
            frames.append(replace(frame, instances=kept, parents=parents))
        tracks = max([tracks, *(t + 1 for ids in shown.values() for t in ids)])
    summary = replace(pieces[-1].summary, frames_processed=len(frames), instances=counts)
    return replace(pieces[0], frames=frames, summary=summary)


def _track_ids(parts: Sequence[PartDetection]) -> list[int]:
    return [p.track_id for p in parts if p.track_id is not None]


def _renumber(part: PartDetection, renamed: dict[int, int], shift: int) -> PartDetection:
    if part.track_id is None:
        return part
    return replace(part, track_id=renamed.get(part.track_id, part.track_id + shift))


def _continue_tracks(
    frames: Sequence[FrameResults], chunk: Chunk, shown: dict[int, list[int]]
) -> tuple[dict[int, int], int]:
    """New numbers of tracks that began before the chunk, and how many numbers those took."""
    renamed: dict[int, int] = {}
    fresh = 0
    for frame in frames:
        if frame.index >= chunk.first:
            break
        ids = _track_ids(frame.instances)
        fresh = max([fresh, *(i + 1 for i in ids)])
        known = shown.get(frame.index)
        if known is None:
            continue
        if len(known) != len(ids):
            raise InputError(
                f"frame {frame.index} has {len(known)} detections in one chunk and {len(ids)} "
                "in the next; were they detected on machines that differ?"
            )
        renamed.update(zip(ids, known))
    return renamed, fresh
