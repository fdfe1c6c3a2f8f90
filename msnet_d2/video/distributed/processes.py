"""Chunks of videos in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from msnet_d2.errors import MSNetError, VideoError

# Workers import this module before they know what to run.
if TYPE_CHECKING:
    from msnet_d2.video.detector import DetectorSettings
    from msnet_d2.video.distributed.parallel import ChunkFunction, Outcomes, Task

__all__ = ["run_in_processes"]


def run_in_processes(
    function: ChunkFunction, settings: DetectorSettings, tasks: list[Task], *, workers: int
) -> Outcomes:
    """A :data:`.parallel.Backend` of ``workers`` processes.

    A chunk whose worker dies, for want of memory for one, is run again last of all; after
    :data:`.parallel.RETRIES` more tries that is its error.
    """
    from msnet_d2.video.distributed.parallel import RETRIES

    waiting, tries = list(range(len(tasks)))[::-1], [0] * len(tasks)
    # A pool each, so that it is known whose chunk a worker died over.
    idle = [_pool() for _ in range(min(workers, len(tasks)))]
    running: dict[Future, tuple[int, ProcessPoolExecutor]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                number, pool = waiting.pop(), idle.pop()
                running[pool.submit(function, settings, *tasks[number])] = number, pool
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number, pool = running.pop(future)
                idle.append(pool)
                try:
                    found = future.result()
                except MSNetError as error:
                    found = error
                except (BrokenProcessPool, InterruptedError) as error:
                    idle.pop().shutdown(wait=False)
                    idle.append(_pool())
                    tries[number] += 1
                    if tries[number] <= RETRIES:
                        waiting.insert(0, number)
                        continue
                    reason = str(error).splitlines()[0]
                    found = VideoError(f"workers died over it {tries[number]} times ({reason})")
                yield number, found
    finally:
        for pool in [*idle, *(pool for _, pool in running.values())]:
            # What still runs is of no use to anybody.
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    """In a worker: end when the run does, also if that was killed."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
