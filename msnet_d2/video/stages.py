"""Threads with bounded queues, so that decoding, detecting, drawing and encoding overlap.

The work in the middle stays in the caller's thread: PyTorch's thread settings and Ctrl-C belong to
it. :class:`Prefetch` runs what comes before, :class:`Worker` what comes after. Memory is bounded by
the queues, and an error in any thread reaches the caller.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["Prefetch", "Worker"]

_END = object()
# How long a thread waits for its queue before it looks whether it is to stop, in seconds.
_PATIENCE = 0.05


class Prefetch:
    """Iterates over ``items`` in a thread of its own, at most ``size`` ahead of the consumer."""

    def __init__(self, items: Iterable[Any], size: int, name: str = "prefetch"):
        self._queue: queue.Queue = queue.Queue(maxsize=max(1, size))
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        """Give out the items in their order.

        Raises:
            Exception: what the iteration raised in its thread, after the items before it.
        """
        while True:
            item = self._queue.get()
            if item is _END:
                self._thread.join()
                if self._error is not None:
                    raise self._error
                return
            yield item

    def close(self) -> None:
        """Stop the thread, drop what it has read ahead; harmless to repeat."""
        self._stop.set()
        self._thread.join()

    def _run(self, items: Iterable[Any]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._error = error
        self._put(_END)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
                return True
            except queue.Full:
                continue
        return False


class Worker:
    """Calls ``function(item)`` for each item in a thread of its own, in the order they come."""

    def __init__(self, function: Callable[[Any], None], size: int, name: str = "worker"):
        self._function = function
        self._queue: queue.Queue = queue.Queue(maxsize=max(1, size))
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Hand over an item; waits while the queue is full.

        Raises:
            Exception: what the function raised for an earlier item.
        """
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(item, timeout=_PATIENCE)
                return
            except queue.Full:
                continue

    def close(self) -> None:
        """Wait until all items are done; harmless to repeat.

        Raises:
            Exception: what the function raised.
        """
        if self._thread.is_alive():
            self.put(_END)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Stop after the item in hand and drop the others; harmless to repeat."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if item is _END:
                return
            try:
                self._function(item)
            except BaseException as error:
                self._error = error
                return
