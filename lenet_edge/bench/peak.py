"""Peak rate of float32 arithmetic of this machine, measured in a worker."""

from __future__ import annotations

import os
import sys
import time

from lenet_edge import worker

_SIDE = 384  # three such matrices fit into a level-2 cache; smaller ones are slower
_SECONDS = 0.25


@worker.function
def peak_macs_per_s(num_threads: int) -> float:
    """Measure the best rate of NumPy's matrix product, in float32 multiply-accumulates per second.

    Other work on the machine only reduces the rate, so the best of many products counts. NumPy
    must not be loaded yet, because its BLAS reads the thread count while it loads.

    Raises:
        RuntimeError: NumPy is loaded.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("NumPy is loaded already, so its thread count is fixed; use a worker")
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
