"""From a video to an annotated video and a results file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from msnet_d2.errors import InputError, VideoError, WeightsError
from msnet_d2.utils.stop_signals import stop_signals
from msnet_d2.video.detections import Detections, FrameDetector
from msnet_d2.video.reader import VideoReader
from msnet_d2.video.results import Category, ModelInfo, ResultsHeader, ResultsSummary
from msnet_d2.video.results_writer import ResultsWriter, frame_results
from msnet_d2.video.stages import Prefetch, Worker
from msnet_d2.video.stream import Frame, ReadReport, VideoInfo
from msnet_d2.video.writer import VideoWriter
from msnet_d2.visualization.draw import draw_instance_predictions

__all__ = ["VideoSummary", "categories_of", "process_video"]

# Frames that may wait between two stages, besides a batch.
_SLACK = 4


@dataclass(frozen=True)
class VideoSummary:
    """What became of a video.

    Attributes:
        info: of the source.
        status: as in :class:`.results.ResultsSummary`.
        frames_processed: frames that the detector saw and that were written.
        instances: detections by class name, of those that were drawn.
        report: what reading met.
        seconds: it took.
    """

    info: VideoInfo
    status: str
    frames_processed: int
    instances: dict[str, int]
    report: ReadReport
    seconds: float


@dataclass
class _Sink:
    """Draws and writes what was detected, in two threads; opens its files with the first frame."""

    reader: VideoReader
    metadata: Any
    out: Path | None
    results: Path | None
    min_score: float
    results_min_score: float
    model: ModelInfo
    encoder: dict
    frames: int = 0
    counts: list[int] = field(default_factory=list)
    _video: VideoWriter | None = None
    _json: ResultsWriter | None = None
    _draw: Worker | None = None
    _encode: Worker | None = None

    def put(self, frame: Frame, detections: Detections) -> None:
        if self._draw is None:
            self._open(frame)
        self._draw.put((frame, detections))

    def _open(self, frame: Frame) -> None:
        info = self.reader.info
        self._category_ids = [c.id for c in categories_of(self.metadata)]
        self.counts = [0] * len(self._category_ids)
        if self.out is not None:
            self._video = VideoWriter(
                self.out,
                width=info.width,
                height=info.height,
                fps=Fraction(info.fps) / self.reader.stride,
                time_base=info.time_base,
                sample_aspect_ratio=info.sample_aspect_ratio,
                **self.encoder,
            )
            self._encode = Worker(lambda item: self._video.write(*item), _SLACK, "encode")
        if self.results is not None:
            self._json = ResultsWriter(self.results)
            self._json.start(ResultsHeader.of(info, self.model, categories_of(self.metadata)))
        self._draw = Worker(self._draw_frame, _SLACK, "draw")

    def _draw_frame(self, item: tuple[Frame, Detections]) -> None:
        frame, found = item
        if self._json is not None:
            info = self.reader.info
            self._json.write(
                frame_results(
                    frame,
                    found,
                    self._category_ids,
                    source_size=(info.width, info.height),
                    min_score=self.results_min_score,
                )
            )
        for level in found.pred_classes[found.scores >= self.min_score]:
            self.counts[int(level)] += 1
        if self._encode is not None:
            image = draw_instance_predictions(
                frame.image,
                found,
                metadata=self.metadata,
                parents=found.parents,
                min_score=self.min_score,
                caption=f"{_clock(frame.time_s)}  frame {frame.index}",
                in_place=True,
            )
            self._encode.put((image, frame.pts))
        self.frames += 1

    def finish(self) -> None:
        """Wait for the threads."""
        for worker in (self._draw, self._encode):
            if worker is not None:
                worker.close()

    def close(self, summary: VideoSummary) -> None:
        """Give the files their names."""
        if self._video is not None:
            self._video.close()
        if self._json is not None:
            self._json.close(
                ResultsSummary.of(
                    summary.status, summary.frames_processed, summary.instances, summary.report
                )
            )

    def abort(self) -> None:
        """Leave nothing behind; harmless after :meth:`close`."""
        for part in (self._draw, self._encode, self._video, self._json):
            if part is not None:
                part.abort()


def process_video(
    reader: VideoReader,
    detector: FrameDetector,
    *,
    metadata: Any,
    out: str | Path | None = None,
    results: str | Path | None = None,
    min_score: float = 0.5,
    results_min_score: float = 0.0,
    batch_size: int = 1,
    max_frames: int | None = None,
    model: ModelInfo | None = None,
    encoder: dict | None = None,
    progress: bool = False,
) -> VideoSummary:
    """Detect in all frames of a video, and write an annotated video and a results file.

    Decoding, detecting, drawing and encoding overlap, each at most a few frames ahead of the next,
    so that memory does not depend on the length. The detector runs in the calling thread.

    Ctrl-C (and SIGTERM) ends the video after the frames in hand: both files are finished, with the
    status "interrupted". A second one stops at once and leaves no file. Any error, in any stage, is
    raised here and leaves no file either.

    Args:
        reader: open, not yet iterated; the caller closes it.
        detector: see :class:`FrameDetector`.
        metadata: ``thing_classes``, ``thing_colors`` and optionally
            ``thing_dataset_id_to_contiguous_id``.
        out: annotated video, in the source's size and times, its rate divided by the reader's
            stride; None: none.
        results: results file, see :class:`ResultsWriter`; None: none.
        min_score: detections with a lower score are not drawn.
        results_min_score: detections with a lower score are not in the results.
        batch_size: frames that the detector gets at once.
        max_frames: end after so many frames, status "limited"; None: all.
        model: goes into the results.
        encoder: further arguments of :class:`VideoWriter`, such as ``codec``.
        progress: show a progress bar with frames a second and the time left.

    Returns:
        The summary; where no frame came before an interruption there is no file.

    Raises:
        VideoError: if the source has no frame that can be decoded, or writing fails.
        InputError: if nothing is to be written, or over the source itself.
    """
    paths = [Path(p) if p is not None else None for p in (out, results)]
    if paths[0] is not None and paths[0] == paths[1]:
        raise InputError(f"video and results cannot both be written to {out}")
    for path in paths:
        known = path is not None and path.exists() and reader.path is not None
        if known and path.samefile(reader.path):
            raise InputError(f"{path} is the source itself; give another name for the output")
    if not any(paths):
        raise InputError("neither a video nor results are to be written; name at least one")
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, and is {batch_size}")
    sink = _Sink(
        reader,
        metadata,
        *paths,
        min_score=min_score,
        results_min_score=results_min_score,
        model=model or ModelInfo(),
        encoder=encoder or {},
    )
    start = time.perf_counter()
    bar = _progress_bar(reader, max_frames, progress)
    source = Prefetch(reader, batch_size + _SLACK, "decode")
    stopped = False
    try:
        with stop_signals() as stop:
            try:
                for frames in _batches(source, batch_size, max_frames):
                    for frame, found in _detect(detector, frames, reader.info.name):
                        sink.put(frame, found)
                    bar.update(len(frames))
                    if stop.is_set():
                        break
            except KeyboardInterrupt:
                if stop.is_set():
                    raise
                stop.set()
            source.close()
            for frame, found in detector.flush():
                sink.put(frame, found)
            sink.finish()
            stopped = stop.is_set()
        status = "complete" if reader.report.is_complete else "incomplete"
        if stopped:
            status = "interrupted"
        elif max_frames is not None and sink.frames >= max_frames:
            status = "limited"
        elif sink.frames == 0:
            raise VideoError(
                f"no frame of {reader.info.name} is left at a stride of {reader.stride}"
            )
        names = list(metadata.thing_classes)
        summary = VideoSummary(
            reader.info,
            status,
            sink.frames,
            dict(zip(names, sink.counts or [0] * len(names))),
            reader.report,
            time.perf_counter() - start,
        )
        sink.close(summary)
        return summary
    finally:
        source.close()
        sink.abort()
        bar.close()


def _detect(
    detector: FrameDetector, frames: list[Frame], name: str
) -> list[tuple[Frame, Detections]]:
    """Detect in a batch; if the model computes what is not finite, say where."""
    try:
        return detector.push(frames)
    except WeightsError as error:
        raise WeightsError(f"frame {frames[0].index} of {name}: {error}") from error


def _batches(source: Prefetch, batch_size: int, max_frames: int | None) -> Iterator[list[Frame]]:
    frames: list[Frame] = []
    for count, frame in enumerate(source, start=1):
        frames.append(frame)
        full = max_frames is not None and count >= max_frames
        if len(frames) == batch_size or full:
            yield frames
            frames = []
        if full:
            return
    if frames:
        yield frames


def _progress_bar(reader: VideoReader, max_frames: int | None, show: bool) -> Any:
    from tqdm import tqdm

    total = reader.info.frame_count
    if total is None and reader.info.duration_s:
        total = round(reader.info.duration_s * reader.info.fps)
    if total is not None:
        total = -(-total // reader.stride)
        total = total if max_frames is None else min(total, max_frames)
    return tqdm(total=total or max_frames, unit="frame", disable=not show, dynamic_ncols=True)


def categories_of(metadata: Any) -> list[Category]:
    """The classes of ``metadata`` with the data set's ids; 1, 2, … where it does not say."""
    names = metadata.thing_classes
    mapping = getattr(metadata, "thing_dataset_id_to_contiguous_id", None)
    if not mapping:
        return [Category(i, name) for i, name in enumerate(names, start=1)]
    ids = {contiguous: original for original, contiguous in mapping.items()}
    return [Category(ids[i], name) for i, name in enumerate(names)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
    return f"{hours}:{text}" if hours else text
