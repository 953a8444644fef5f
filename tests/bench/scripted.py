"""Scripted replies to the calls of a job, for tests without processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec, describe_file
from lenet_edge.artifacts.reference import reference_path
from lenet_edge.bench import limit, timing
from lenet_edge.errors import LenetEdgeError
from lenet_edge.machine.environment import Environment
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.process_samples import ProcessSamples
from lenet_edge.worker import Call, Job

CHECKPOINT = "c" * 64
PEAK = 1e9


def make_artifact(folder: Path, name: str) -> Artifact:
    """Return an artifact whose file holds its own name, beside an empty file for its reference."""
    path = folder / name
    path.write_text(name)
    reference_path(folder, CHECKPOINT).touch()
    return describe_file(
        path, precision="float32", batch_size=None,
        inputs=(TensorSpec("image", (None, 28, 28, 1), "float32"),),
        outputs=(TensorSpec("logits", (None, 10), "float32"),),
        parent_sha256=CHECKPOINT, converter="test", calibration=None,
    )  # fmt: skip


def make_environment(machine: str = "a Raspberry Pi 5") -> Environment:
    """Return the facts of an invented machine."""
    return Environment(
        machine, "Cortex-A76", (), 4, 2**33, "aarch64", "Debian", "6.1", "3.11", None, None, None,
        False,
    )  # fmt: skip


def measured(call: Call[Any], latency_s: float = 1e-3, invalid: str | None = None) -> Any:
    """Return the reply to a call of `timing.measure`: ten samples of one latency."""
    assert call.function is timing.measure
    artifact = Artifact.from_json(call.arguments["artifact"])
    samples = ProcessSamples(np.full(10, latency_s), 0.1, 0.01, 1e-6, 1e-6, 3, 2**20)
    return Measurement(
        artifact.name,
        artifact.sha256,
        artifact.size_bytes,
        call.arguments["target"]["name"],
        "1.0",
        call.arguments["batch_size"],
        call.arguments["num_threads"],
        (samples,),
        invalid=invalid,
    ).to_json()


def reply(call: Call[Any]) -> Any:
    """Return the reply of a machine on which every call of a benchmark succeeds."""
    if call.function is limit.measure_peaks:
        return dict.fromkeys(call.arguments["num_threads"], PEAK)
    return measured(call)


def drive(job: Job, reply: Callable[[Call[Any]], Any] = reply) -> list[Call[Any]]:
    """Run a job with scripted replies, which may raise; return its calls."""
    calls = []
    with closing(job), suppress(StopIteration):
        call = next(job)
        while True:
            calls.append(call)
            try:
                result = reply(call)
            except LenetEdgeError as error:
                call = job.throw(error)
            else:
                call = job.send(result)
    return calls


def key_of(call: Call[Any]) -> tuple[str, str, int, int] | str:
    """Return the key of the cell that a call measures, or the name of another function."""
    if call.function is not timing.measure:
        return call.function.name
    arguments = call.arguments
    return (
        Path(arguments["artifact"]["path"]).name,
        arguments["target"]["name"],
        arguments["batch_size"],
        arguments["num_threads"],
    )


def latencies(measurement: Measurement) -> list[float]:
    """Return the median latency of each process in microseconds, rounded."""
    return [round(process.p50_s * 1e6) for process in measurement.processes]
