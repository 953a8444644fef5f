"""What no float32 file can beat: the multiply-adds of an image over those of the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from lenet_edge import inspection, worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.peak import peak_macs_per_s
from lenet_edge.errors import LenetEdgeError


@worker.function
def peaks(num_threads: list[int]) -> dict[int, float]:
    """Return the float32 multiply-adds a second that this machine reaches, by threads."""
    found = {}
    for threads in sorted(set(num_threads)):
        with contextlib.suppress(LenetEdgeError):  # then a picture lacks a line, and nothing else
            found[threads] = worker.run(peak_macs_per_s.bind(threads))
    return found


def macs(artifacts: Iterable[Artifact]) -> dict[str, int]:
    """Return the multiply-adds for one image of each exported file that can be read here."""
    found = {}
    for one in {one.sha256: one for one in artifacts if one.format != "keras"}.values():
        try:
            layers = worker.run(inspection.read.bind(one.path, one.format))
        except LenetEdgeError:  # no reader, as for .onnx files on a board: it has no limit drawn
            continue
        found[one.sha256] = sum(layer["macs"] for layer in layers)
    return found
