"""What no file can beat here in float32: the multiply-adds of the machine, over those of an image."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

from lenet_edge import worker
from lenet_edge.artifact import Artifact
from lenet_edge.errors import LenetEdgeError
from lenet_edge.inspection import inspect

_SIDE = 384  # three such matrices fit into a level-2 cache; smaller ones reach less
_SECONDS = 0.5


def peak_macs_per_s(num_threads: int) -> float:
    """Return the float32 multiply-adds a second of NumPy's matrix product, at its best.

    The best of many, because other work on the machine only ever takes away. Called in a fresh
    process, before NumPy is there: its BLAS asks for its threads as it is loaded.
    """
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


def peaks(num_threads: Iterable[int]) -> dict[int, float]:
    """Return the float32 multiply-adds a second that this machine reaches, by threads."""
    found = {}
    for threads in sorted(set(num_threads)):
        with contextlib.suppress(LenetEdgeError):  # then a picture lacks a line, and nothing else
            found[threads] = worker.call("bench.limit:peak_macs_per_s", num_threads=threads)
    return found


def macs(artifacts: Iterable[Artifact]) -> dict[str, int]:
    """Return the multiply-adds for one image of each exported file that can be read here."""
    found = {}
    for one in {one.sha256: one for one in artifacts if one.format != "keras"}.values():
        try:
            found[one.sha256] = sum(layer.macs for layer in inspect(one.path))
        except LenetEdgeError:  # no reader, as for .onnx files on a board: it has no limit drawn
            continue
    return found
