"""Many videos, each to an end: done, or set aside with the reason, whatever dies meanwhile.

What became of each video stands in a file of its own, written before and after each try. A worker
or the whole run may be killed at any moment; to start it again goes on where it was, and touches
nothing that has ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from msnet_d2.errors import DatasetError, InputError, MSNetError, VideoError
from msnet_d2.utils.file_io import write_json
from msnet_d2.utils.redact import redact_paths

__all__ = ["MAX_TRIES", "Outcome", "read_outcomes", "run_batch"]

MAX_TRIES = 3
ENDED = ("done", "quarantined")
# Faults of the video itself, which another try would meet again.
_FAULTS_OF_THE_VIDEO = (VideoError, InputError, DatasetError)
_LONGEST_REASON = 500  # characters


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        name: as it was given.
        status: "waiting", "running", "failed" (to be tried again), "done" or "quarantined".
        tries: how often it was begun.
        reason: why the last try failed; "" if none did.
        result: what the work returned; None unless done.
    """

    name: str
    status: str = "waiting"
    tries: int = 0
    reason: str = ""
    result: Any = None

    @property
    def ended(self) -> bool:
        """Whether it will not be tried again."""
        return self.status in ENDED


def run_batch(
    names: Sequence[str],
    work: Callable[[str], Any],
    state: str | Path,
    *,
    workers: int = 1,
    max_tries: int = MAX_TRIES,
    timeout_s: float | None = None,
    context: str = "spawn",
    on_end: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Do ``work`` for each name in worker processes, until each has ended.

    A :class:`VideoError`, :class:`InputError` or :class:`DatasetError` is the video's own fault and
    sets it aside at once. Any other error of the work, a worker that dies and one that takes too
    long count as a try; after ``max_tries`` the video is set aside. Other errors of this project,
    such as missing weights or a full disk, concern all videos and end the run.

    Args:
        names: such as paths; each once.
        work: called in a worker with one name; returns what JSON can hold. It has to write its
            files whole or not at all. With the context "spawn" it must be importable.
        state: folder that remembers; a second run with the same one goes on.
        workers: processes.
        max_tries: how often a video is begun at most, earlier runs counted.
        timeout_s: seconds after which a worker is killed; None: never.
        context: how processes start, see :mod:`multiprocessing`.
        on_end: called here with each outcome when it is there.

    Returns:
        The outcomes in the order of ``names``; all have ended.

    Raises:
        InputError: if a name comes twice, or a number is below 1.
        MSNetError: what the work raised that concerns all videos.
    """
    if len(set(names)) < len(names):
        double = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"{double} is given twice; each video is processed once")
    if workers < 1 or max_tries < 1:
        raise InputError(f"at least one worker and one try are needed, not {workers}, {max_tries}")
    store = _Store(Path(state), max_tries)
    todo = []
    for name in names:
        outcome = store.read(name)
        if not outcome.ended:
            todo.append(name)
        elif on_end is not None:
            on_end(outcome)
    if todo:
        pool = _Pool(min(workers, len(todo)), context, work, store)
        try:
            for outcome in pool.run(todo, timeout_s):
                if on_end is not None:
                    on_end(outcome)
        finally:
            pool.close()
    return [store.read(name) for name in names]


def read_outcomes(state: str | Path, names: Sequence[str]) -> list[Outcome]:
    """What is known of videos; "waiting" where nothing is."""
    store = _Store(Path(state), MAX_TRIES)
    return [store.read(name) for name in names]


@dataclass(frozen=True)
class _Store:
    """The files of a batch; one of each video, and a lock that its worker holds."""

    folder: Path
    max_tries: int

    def _path(self, name: str, suffix: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / f"{digest[:24]}{suffix}"

    def read(self, name: str) -> Outcome:
        path = self._path(name, ".json")
        try:
            return Outcome(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Outcome(name)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path} is no outcome of a batch ({error}); remove it, and the video is processed "
                "again"
            ) from error

    def write(self, outcome: Outcome) -> Outcome:
        write_json(self._path(outcome.name, ".json"), asdict(outcome))
        return outcome

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Nobody else works on it: a worker may outlive the run that started it.

        The system frees the lock when the process ends, in whatever way.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self._path(name, ".lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def attempt(self, name: str, work: Callable[[str], Any]) -> Outcome:
        """Try one video once, unless it has ended or has been tried often enough."""
        with self.lock(name):
            before = self.read(name)
            if before.ended:
                return before
            if before.tries >= self.max_tries:
                return self.write(self._set_aside(before))
            started = self.write(replace(before, status="running", tries=before.tries + 1))
            try:
                result = work(name)
            except _FAULTS_OF_THE_VIDEO as error:
                return self.write(replace(started, status="quarantined", reason=_reason(error)))
            except MSNetError:
                # Not its fault: the try does not count.
                self.write(before)
                raise
            except Exception as error:
                failed = replace(started, status="failed", reason=_reason(error))
                if failed.tries >= self.max_tries:
                    failed = self._set_aside(failed)
                return self.write(failed)
            return self.write(replace(started, status="done", reason="", result=result))

    def _set_aside(self, outcome: Outcome) -> Outcome:
        died = f"its worker died or was killed in all of {outcome.tries} tries"
        reason = outcome.reason if outcome.status == "failed" else died
        return replace(outcome, status="quarantined", reason=reason)


@dataclass
class _Worker:
    """A process, and the video that it has in hand."""

    process: multiprocessing.Process
    connection: Connection
    name: str | None = None
    since: float = 0.0


@dataclass
class _Pool:
    """Workers that are replaced when they die."""

    count: int
    context: str
    work: Callable[[str], Any]
    store: _Store
    workers: list[_Worker] = field(default_factory=list)

    def run(self, names: Sequence[str], timeout_s: float | None) -> Iterator[Outcome]:
        waiting = list(reversed(names))
        while waiting or any(w.name is not None for w in self.workers):
            while len(self.workers) < self.count:
                self.workers.append(self._start())
            for worker in self.workers:
                if worker.name is None and waiting:
                    worker.name, worker.since = waiting.pop(), time.monotonic()
                    self._send(worker)
            busy = [w for w in self.workers if w.name is not None]
            ready = wait([w.connection for w in busy], timeout=0.5 if timeout_s else None)
            for worker in busy:
                if worker.connection in ready:
                    outcome = self._receive(worker)
                elif timeout_s and time.monotonic() - worker.since > timeout_s:
                    worker.process.kill()
                    outcome = self._replace(worker)
                else:
                    continue
                if outcome.ended:
                    yield outcome
                else:
                    # Last in line, so that what kills workers holds up nothing else.
                    waiting.insert(0, outcome.name)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context(self.context)
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, here, self.work, self.store), daemon=True
        )
        process.start()
        there.close()
        return _Worker(process, here)

    def _send(self, worker: _Worker) -> None:
        with suppress(OSError):  # it has died; receiving tells so
            worker.connection.send(worker.name)

    def _receive(self, worker: _Worker) -> Outcome:
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if isinstance(answer, BaseException):
            raise answer
        worker.name = None
        return answer

    def _replace(self, worker: _Worker) -> Outcome:
        """Put another worker in the place of a dead one; what it had in hand is not ended."""
        worker.process.join()
        worker.connection.close()
        self.workers.remove(worker)
        return self.store.read(worker.name)

    def close(self) -> None:
        """End the workers; those with a video in hand were given up by an error."""
        for worker in self.workers:
            worker.connection.close()
            if worker.name is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join()


def _serve(
    connection: Connection, other_end: Connection, work: Callable[[str], Any], store: _Store
) -> None:
    """In a worker: take names until the run ends, or dies; the video in hand is finished first."""
    other_end.close()
    while True:
        try:
            name = connection.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer: Any = store.attempt(name, work)
        except MSNetError as error:
            answer = error
        try:
            connection.send(answer)
        except OSError:
            return  # the run has died; what became of the video is written


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Results are shared: names of files, not where somebody keeps them.
    text = redact_paths(text)
    if not isinstance(error, MSNetError):
        text = f"{type(error).__name__}: {text}"
    return text[:_LONGEST_REASON]
