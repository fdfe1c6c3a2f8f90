"""Detection spread over a Ray cluster: videos and chunks of long ones.

Ray places the chunks, starts and watches the workers, and runs a chunk again whose worker died;
here is only what to run, and what of it has been done before. Videos and weights are read by the
workers, under the same paths; what they find comes back to this process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msnet_d2 import __version__
from msnet_d2.errors import DependencyError, InputError, MSNetError, VideoError
from msnet_d2.utils.file_io import write_text
from msnet_d2.video.distributed.chunks import (
    Chunk,
    DetectorSettings,
    detect_chunk,
    join_chunks,
    plan_chunks,
    settings_key,
)

__all__ = ["RayDetection", "import_ray"]

logger = logging.getLogger(__name__)

# How often a chunk is run again whose worker died. Errors of the video itself are not repeated.
RETRIES = 3


def import_ray():
    """Return the module ray.

    Raises:
        DependencyError: if it is not installed.
    """
    # Maps are made of places where people have lost their homes: nobody is told, unless asked to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise DependencyError.for_extra("ray", "ray", "--workers ray") from error
    return ray


@dataclass
class _Video:
    """A video on its way: chunks, their files, and what went wrong."""

    chunks: list[Chunk] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    error: MSNetError | None = None

    @property
    def missing(self) -> list[int]:
        return [k for k, f in enumerate(self.files) if not f.is_file()]


class RayDetection:
    """Detects in videos on a Ray cluster; a context manager, and what ``make_map`` takes to detect.

    All chunks of all videos are handed to Ray when the first video is asked for. Each is written to
    the folder ``kept`` as soon as it is done, and not run again while its file is there: neither
    after an error, nor when a video is added.
    """

    def __init__(
        self,
        videos: Sequence[str | Path],
        settings: DetectorSettings,
        kept: Path,
        *,
        weights_sha256: str,
        address: str | None = None,
        workers: int | None = None,
        chunk_s: float = 60.0,
        min_score: float = 0.0,
        function: Callable[[DetectorSettings, str, Chunk], str] = detect_chunk,
        progress: bool = False,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            videos: all that will be asked for.
            settings: of the detector.
            kept: folder of finished chunks.
            weights_sha256: digest of the weights.
            address: of a cluster, as ``ray.init`` takes it; None: that of RAY_ADDRESS, else a local
                cluster.
            workers: processes of a local cluster; None: one a core.
            chunk_s: length of chunks in seconds.
            min_score: what scores less is left out of results.
            function: run for each chunk.
            progress: show a progress bar.

        Raises:
            DependencyError: without Ray.
        """
        self._ray = import_ray()
        self._videos = {Path(v): _Video() for v in videos}
        self._settings, self._function = settings, function
        self._kept, self._digest = Path(kept), weights_sha256
        self._address, self._workers = address, workers
        self._chunk_s, self._min_score = chunk_s, min_score
        self._progress = progress
        self._pending: dict[Any, tuple[_Video, int]] = {}
        self._started = self._connected = False
        self._bar: Any = None

    def __enter__(self) -> RayDetection:
        return self

    def __exit__(self, *exc_info) -> None:
        if self._bar is not None:
            self._bar.close()
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        if self._connected:
            self._ray.shutdown()

    def __call__(self, video: Path, results: Path, marked: Path | None = None) -> None:
        """Write the results file of one of the videos, once all its chunks are done.

        ``marked`` is not written: ``msnet video`` draws.

        Raises:
            VideoError, InputError: over the video.
        """
        if not self._started:
            self._start()
        state = self._videos[Path(video)]
        while state.error is None and state.missing:
            self._wait()
        if state.error is not None:
            raise state.error
        texts = [f.read_text(encoding="utf-8") for f in state.files]
        join_chunks(texts, state.chunks, results, self._min_score)

    def _start(self) -> None:
        from tqdm import tqdm

        self._started = True
        try:
            self._kept.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._kept} cannot be written: {error.strerror}") from error
        todo = []
        for video, state in self._videos.items():
            try:
                state.chunks = plan_chunks(video, self._settings, self._chunk_s)
                state.files = [self._file(video, chunk) for chunk in state.chunks]
            except (VideoError, InputError, OSError) as error:
                known = isinstance(error, MSNetError)
                state.error = error if known else VideoError(f"{video}: {error}")
            todo += [(video, state, k) for k in state.missing]
        total = sum(len(s.chunks) for s in self._videos.values())
        logger.info("%d of %d chunks are to be detected", len(todo), total)
        self._bar = tqdm(
            total=total, initial=total - len(todo), unit="chunk", disable=not self._progress
        )
        if not todo:
            return
        self._connect()
        remote = self._ray.remote(max_retries=RETRIES, num_gpus=self._gpus())(self._function)
        for video, state, k in todo:
            path = str(video.resolve())
            self._pending[remote.remote(self._settings, path, state.chunks[k])] = (state, k)

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        where = self._address or os.environ.get("RAY_ADDRESS")
        _check_reachable(where)
        # A cluster that exists has the workers it has.
        local = {} if where else {"num_cpus": self._workers, "include_dashboard": False}
        try:
            self._ray.init(address=self._address, log_to_driver=False, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no Ray cluster at {where or 'this machine'}: {_first_line(error)}"
            ) from error
        self._connected = True

    def _gpus(self) -> int:
        from msnet_d2.video.distributed.chunks import _load

        wanted = _load(self._settings.config).MODEL.DEVICE.startswith("cuda")
        return int(wanted and self._ray.cluster_resources().get("GPU", 0) >= 1)

    def _wait(self) -> None:
        """Keep what is done next."""
        done, _ = self._ray.wait(list(self._pending), num_returns=1)
        for reference in done:
            state, k = self._pending.pop(reference)
            try:
                write_text(state.files[k], self._ray.get(reference))
                self._bar.update()
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause
                if not isinstance(cause, MSNetError):
                    raise
                state.error = state.error or cause
            except self._ray.exceptions.RayError as error:
                state.error = state.error or VideoError(
                    f"workers died over it {RETRIES + 1} times ({_first_line(error)})"
                )

    def _file(self, video: Path, chunk: Chunk) -> Path:
        """Where a chunk is kept: under a name that changes with all that decides what is found."""
        files = sorted(video.iterdir()) if video.is_dir() else [video]
        stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        content = [__version__, settings_key(self._settings, self._digest), stamps, asdict(chunk)]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        return self._kept / f"{video.stem}_{chunk.first}_{digest}.json"


def _check_reachable(address: str | None) -> None:
    """See that somebody listens at HOST:PORT: Ray itself would try for many minutes.

    Raises:
        InputError: if nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return  # "auto", ray://…: Ray's own to judge
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster at {address}: {error}; start one by 'ray start --head', or leave the "
            "address out"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
