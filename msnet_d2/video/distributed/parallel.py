"""Detection in many videos by many processes, here or on other machines.

What is run, and what of it has been done before, is here; where it is run is a :data:`Backend`:
:func:`.processes.run_in_processes` or :func:`.ray_workers.run_on_ray`. Videos and weights are read
by the workers, under the same paths; what they find comes back to this process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msnet_d2 import __version__
from msnet_d2.errors import InputError, MSNetError, VideoError, WeightsError
from msnet_d2.utils.file_io import write_bytes
from msnet_d2.utils.locks import hold
from msnet_d2.video.detector import DetectorSettings, VideoDetector
from msnet_d2.video.distributed.chunks import Chunk, detect_chunk, join_chunks, plan_chunks
from msnet_d2.video.results import decode_results
from msnet_d2.video.results_writer import write_results

__all__ = ["RETRIES", "Backend", "ChunkFunction", "ParallelDetection", "Task"]

logger = logging.getLogger(__name__)

# How often a chunk is run again whose worker died. Errors of the video itself are not repeated.
RETRIES = 3

Task = tuple[str, Chunk]  # path of a video, and a piece of it
ChunkFunction = Callable[[DetectorSettings, str, Chunk], bytes]
# Runs the function for each task, and gives out, as they are done, the task's place in the list and
# what the function returned or which error of ours it raised.
Outcomes = Generator[tuple[int, "bytes | MSNetError"], None, None]
Backend = Callable[[ChunkFunction, DetectorSettings, list[Task]], Outcomes]


@dataclass
class _Video:
    """A video on its way: chunks, their files, and what went wrong."""

    path: Path
    chunks: list[Chunk] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    error: MSNetError | None = None

    @property
    def missing(self) -> list[int]:
        return [k for k, f in enumerate(self.files) if not f.is_file()]


class ParallelDetection:
    """Detects in videos piece by piece; a context manager, used as a :class:`VideoDetector` is.

    All chunks of all videos are handed out when the first video is asked for. Each is written to
    the folder ``kept`` as soon as it is done, and not run again while its file is there: neither
    after an error, nor when a video is added.
    """

    def __init__(
        self,
        videos: Sequence[str | Path],
        detector: VideoDetector,
        kept: str | Path,
        backend: Backend,
        *,
        chunk_s: float = 60.0,
        function: ChunkFunction = detect_chunk,
    ) -> None:
        """Prepare; nothing is started. ``kept`` is locked from entering the context on.

        Args:
            videos: all that will be asked for.
            detector: of which each worker builds its own.
            kept: folder of finished chunks.
            backend: where chunks are run.
            chunk_s: length of chunks in seconds.
            function: run for each chunk.

        Raises:
            WeightsError: if there are no weights.
        """
        from msnet_d2.utils.weight_files import fetch_weights

        if not detector.settings.weights:
            raise WeightsError("no weights: MODEL.WEIGHTS is empty; name a checkpoint by `weights`")
        weights = fetch_weights(detector.settings.weights)
        self._settings = dataclasses.replace(
            detector.settings, weights=str(Path(weights.path).resolve())
        )
        self._detector, self._digest = detector, weights.sha256
        self._videos = {Path(v): _Video(Path(v)) for v in videos}
        self._kept, self._backend, self._function = Path(kept), backend, function
        self._chunk_s = chunk_s
        self._todo: list[tuple[_Video, int]] = []
        self._results: Outcomes | None = None
        self._bar: Any = None
        self._open = ExitStack()

    def __enter__(self) -> ParallelDetection:
        self._open.enter_context(hold(self._kept, "detections"))
        return self

    def __exit__(self, *exc_info) -> None:
        self._open.close()

    def detect(
        self,
        video: str | Path,
        *,
        results: str | Path,
        out: str | Path | None = None,
        results_min_score: float = 0.0,
        progress: bool = False,
    ) -> None:
        """Write the results file of one of the videos, once all its chunks are done.

        ``out`` is not written: ``msnet video`` draws.

        Raises:
            VideoError, InputError: over the video.
        """
        if self._bar is None:
            self._start(progress)
        state = self._videos[Path(video)]
        while state.error is None and state.missing:
            self._wait()
        if state.error is not None:
            raise state.error
        pieces = [decode_results(f.read_bytes(), str(f)) for f in state.files]
        write_results(results, join_chunks(pieces, state.chunks, results_min_score))

    def _start(self, progress: bool) -> None:
        from tqdm import tqdm

        try:
            self._kept.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._kept} cannot be written: {error.strerror}") from error
        for state in self._videos.values():
            try:
                state.chunks = plan_chunks(state.path, self._detector, self._chunk_s)
                state.files = [self._file(state.path, chunk) for chunk in state.chunks]
            except (VideoError, InputError, OSError) as error:
                known = isinstance(error, MSNetError)
                state.error = error if known else VideoError(f"{state.path}: {error}")
            self._todo += [(state, k) for k in state.missing]
        total, todo = sum(len(s.chunks) for s in self._videos.values()), len(self._todo)
        logger.info("%d of %d chunks are to be detected", todo, total)
        self._bar = tqdm(total=total, initial=total - todo, unit="chunk", disable=not progress)
        self._open.callback(self._bar.close)
        tasks = [(str(state.path.resolve()), state.chunks[k]) for state, k in self._todo]
        if tasks:
            self._results = self._backend(self._function, self._settings, tasks)
            self._open.callback(self._results.close)

    def _wait(self) -> None:
        """Keep what is done next."""
        number, found = next(self._results)
        state, k = self._todo[number]
        if isinstance(found, MSNetError):
            state.error = state.error or found
        else:
            write_bytes(state.files[k], found)
            self._bar.update()

    def _file(self, video: Path, chunk: Chunk) -> Path:
        """Where a chunk is kept: under a name that changes with all that decides what is found."""
        files = sorted(video.iterdir()) if video.is_dir() else [video]
        stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        settings = {**asdict(self._settings), "weights": self._digest}
        content = [__version__, settings, stamps, asdict(chunk)]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        return self._kept / f"{video.stem}_{chunk.first}_{digest}.json"
