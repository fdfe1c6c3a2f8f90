"""Threads that run ahead of and behind the caller, so that decoding, detecting and drawing overlap.

The work in the middle stays in the caller's thread: PyTorch's thread settings and Ctrl-C belong to
it. :class:`Prefetch` runs what comes before, :class:`Worker` what comes after. Memory is bounded,
and an error in any thread reaches the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

__all__ = ["Prefetch", "Worker"]

_END = object()


class Prefetch:
    """Iterates over ``items`` in a thread of its own, at most ``size`` ahead of the consumer."""

    def __init__(self, items: Iterable[Any], size: int, name: str = "prefetch"):
        self._items = iter(items)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        # One more is in the hand of the thread.
        self._ahead = deque(self._next() for _ in range(max(1, size) + 1))

    def _next(self) -> Future:
        return self._pool.submit(next, self._items, _END)

    def __iter__(self) -> Iterator[Any]:
        """Give out the items in their order.

        Raises:
            Exception: what the iteration raised in its thread, after the items before it.
        """
        while (item := self._ahead.popleft().result()) is not _END:
            self._ahead.append(self._next())
            yield item

    def close(self) -> None:
        """Stop the thread, drop what it has read ahead; harmless to repeat."""
        self._pool.shutdown(cancel_futures=True)


class Worker:
    """Calls ``function(item)`` for each item in a thread of its own, in the order they come."""

    def __init__(self, function: Callable[[Any], None], size: int, name: str = "worker"):
        self._function = function
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        # Items that wait, and the one in the hand of the thread.
        self._places = BoundedSemaphore(max(1, size) + 1)
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        """Hand over an item; waits while there are too many.

        Raises:
            Exception: what the function raised for an earlier item.
        """
        self._places.acquire()
        if self._error is not None:
            self._places.release()
            raise self._error
        self._pool.submit(self._do, item)

    def _do(self, item: Any) -> None:
        try:
            if self._error is None:
                self._function(item)
        except BaseException as error:
            self._error = error
        finally:
            self._places.release()

    def close(self) -> None:
        """Wait until all items are done; harmless to repeat.

        Raises:
            Exception: what the function raised.
        """
        self._pool.shutdown()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Stop after the item in hand and drop the others; harmless to repeat."""
        self._pool.shutdown(cancel_futures=True)
