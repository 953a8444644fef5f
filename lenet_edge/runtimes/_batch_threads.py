"""Threads that compute a batch together. They live as long as the session that owns them."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

PARTS_OF_A_THREAD = 8  # a batch has this many parts for each thread
_AWAKE_S = 2e-4  # how long a thread looks for the next batch before it sleeps


class _Batch:
    """The calls of one batch. Each thread takes the next one until none is left."""

    def __init__(self, calls: Sequence[Callable[..., object]]) -> None:
        # Steps of both iterators are atomic in CPython.
        self._calls, self._finished = iter(calls), itertools.count(1)
        self._count = len(calls)
        self.done = threading.Lock()
        self.done.acquire()

    def work(self, arguments: tuple[Any, ...]) -> None:
        for call in self._calls:
            call(*arguments)
            if next(self._finished) == self._count:
                self.done.release()


class BatchThreads:
    """A pool of threads for calls that release the interpreter's lock.

    The thread that calls `run` is one of them. A batch ends with its last call, so that a thread
    that was not scheduled in time delays nothing.

    Args:
        arguments: for each thread, the arguments that it adds to every call.
    """

    def __init__(self, arguments: Sequence[tuple[Any, ...]]) -> None:
        self.count = len(arguments)
        self._own, *others = arguments
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(each,), daemon=True) for each in others
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self, arguments: tuple[Any, ...]) -> None:
        while (batch := self._next()) is not None:
            batch.work(arguments)

    def _next(self) -> _Batch | None:
        # To wake a sleeping thread takes about as long as a quarter of a small batch.
        end = time.perf_counter() + _AWAKE_S
        while self._queue.empty() and time.perf_counter() < end:
            time.sleep(0)
        return self._queue.get()

    def run(self, calls: Sequence[Callable[..., object]]) -> None:
        """Make all calls; return when all have returned. There is at least one."""
        batch = _Batch(calls)
        for _ in self._threads:
            self._queue.put(batch)
        batch.work(self._own)
        batch.done.acquire()

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []


def split(count: int, num_threads: int) -> list[range]:
    """Return the parts of a batch: few enough for one call each, more than threads."""
    parts = min(count, num_threads * PARTS_OF_A_THREAD)
    edges = [count * part // parts for part in range(parts + 1)]
    return [range(first, last) for first, last in itertools.pairwise(edges)]
