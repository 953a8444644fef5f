"""The float32 arithmetic that this machine can do at most; runs in a worker process of its own."""

from __future__ import annotations

import os
import sys
import time

from lenet_edge import worker

_SIDE = 384  # three such matrices fit into a level-2 cache; smaller ones reach less
_SECONDS = 0.25


@worker.function
def peak_macs_per_s(num_threads: int) -> float:
    """Return the float32 multiply-adds a second of NumPy's matrix product, at its best.

    The best of many, because other work on the machine only ever takes away. Called in a fresh
    process, before NumPy is there: its BLAS asks for its threads as it is loaded.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("NumPy is loaded already; its threads cannot be chosen any more")
    for library in ("OPENBLAS", "OMP", "MKL", "BLIS"):
        os.environ[f"{library}_NUM_THREADS"] = str(num_threads)
    import numpy as np

    left = np.full((_SIDE, _SIDE), 0.5, np.float32)
    product = np.empty_like(left)
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        begin = time.perf_counter()
        np.matmul(left, left, out=product)
        best = min(best, time.perf_counter() - begin)
    return _SIDE**3 / best
