"""Lower bound of the latency: the multiply-accumulates of an image over the machine's peak rate.

No float32 artifact can be faster than this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from lenet_edge import inspection, worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.peak import peak_macs_per_s
from lenet_edge.errors import LenetEdgeError
from lenet_edge.formats import BY_NAME


@worker.function
def measure_peaks(num_threads: list[int]) -> dict[int, float]:
    """Measure the float32 multiply-accumulates per second of this machine.

    Args:
        num_threads: the thread counts.

    Returns:
        The peak rate by thread count. A failed measurement is left out: the chart then lacks a
        line.
    """
    peaks = {}
    for threads in sorted(set(num_threads)):
        with contextlib.suppress(LenetEdgeError):
            peaks[threads] = worker.run(peak_macs_per_s.bind(threads))
    return peaks


def count_macs(artifacts: Iterable[Artifact]) -> dict[str, int]:
    """Return the multiply-accumulates for one image, by sha256, of each artifact that is readable.

    Checkpoints have no entry, artifacts whose reader is not installed (.onnx on a board), and
    artifacts with an operator that cannot be counted.
    """
    macs = {}
    exported = {
        artifact.sha256: artifact
        for artifact in artifacts
        if BY_NAME[artifact.format].role != "checkpoint"
    }
    for sha256, artifact in exported.items():
        with contextlib.suppress(LenetEdgeError):
            layers = worker.run(inspection.read.bind(artifact.path, artifact.format))
            count = inspection.total(layer["macs"] for layer in layers)
            if count is not None:
                macs[sha256] = count
    return macs
