from __future__ import annotations

import threading
import time

import pytest

from msnet_d2.video.stages import Prefetch, Worker


def test_prefetch_gives_every_item_once_in_order():
    assert list(Prefetch(range(100), 3)) == list(range(100))


def test_prefetch_is_at_most_its_size_ahead():
    made = []

    def items():
        for i in range(1000):
            made.append(i)
            yield i

    source = Prefetch(items(), 4, "ahead")
    iterator = iter(source)
    assert next(iterator) == 0
    deadline = time.monotonic() + 5
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # One taken, four in the queue, one in the hand of the thread.
    assert len(made) == 6
    source.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_prefetch_raises_what_its_source_raised_after_the_items_before():
    def items():
        yield 1
        raise ValueError("broken")

    source = iter(Prefetch(items(), 2))
    assert next(source) == 1
    with pytest.raises(ValueError, match="broken"):
        next(source)


def test_worker_does_every_item_in_order():
    done = []
    worker = Worker(done.append, 2)
    for i in range(50):
        worker.put(i)
    worker.close()
    assert done == list(range(50))
    worker.close()


def test_worker_makes_the_producer_wait():
    gate = threading.Event()
    worker = Worker(lambda _: gate.wait(10), 2)
    handed_over = []

    def produce():
        for i in range(10):
            worker.put(i)
            handed_over.append(i)

    thread = threading.Thread(target=produce)
    thread.start()
    time.sleep(0.3)
    # One in the hand of the worker, two in its queue.
    assert len(handed_over) == 3
    gate.set()
    thread.join(10)
    worker.close()
    assert len(handed_over) == 10


def test_worker_raises_its_error_to_the_producer():
    def fail(item):
        raise ValueError(f"item {item}")

    worker = Worker(fail, 2)

    def produce():
        for i in range(1000):
            worker.put(i)
            time.sleep(0.005)

    with pytest.raises(ValueError, match="item 0"):
        produce()
    with pytest.raises(ValueError, match="item 0"):
        worker.close()
    worker.abort()


def test_abort_drops_what_waits():
    gate = threading.Event()
    done = []

    def work(item):
        gate.wait(10)
        done.append(item)

    worker = Worker(work, 5)
    for i in range(4):
        worker.put(i)
    time.sleep(0.1)
    threading.Timer(0.1, gate.set).start()
    worker.abort()
    assert done == [0]
