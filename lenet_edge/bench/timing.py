"""Measurement of one cell by one worker process.

Load, first inference, prepare, inference and read-out are timed separately. The images are real
and change from call to call. The raw samples are stored, no averages; see `sampling`.
"""

from __future__ import annotations

import dataclasses
import gc
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.bench import energy
from lenet_edge.bench.sampling import (
    StopRule,
    calls_per_sample,
    clock_cost_s,
    null_cost_s,
    take_samples,
    warm_up,
)
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.evaluation_images import evaluation_images, has_test_images
from lenet_edge.errors import TargetError
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.machine.conditions import read_conditions, read_system_file, throttling_remedy
from lenet_edge.model_inputs import has_state_inputs, random_inputs, read_inputs
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.process_samples import ProcessSamples
from lenet_edge.runtimes import one_line, open_session
from lenet_edge.support.portable import resource
from lenet_edge.target import InputValues, Session, Target

_DISTINCT_BATCHES = 16


@worker.function
def measure(
    artifact: dict[str, Any],
    target: dict[str, Any],
    batch_size: int,
    num_threads: int,
    stop: dict[str, Any],
    inputs: Path | None = None,
) -> dict[str, Any]:
    """Measure one cell in this process.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        batch_size: images in one inference.
        num_threads: threads for one inference.
        stop: the fields of the `StopRule`.
        inputs: the .npz file with an array for each input; None takes test images or random values.

    Returns:
        The JSON of the `Measurement`, with the samples of this process.

    Raises:
        TargetError: the target cannot run the file, or a delegate left nodes to the CPU.
        ModelFileError: the file has changed since the plan was made.
    """
    file, chosen, rule = Artifact.from_json(artifact), Target.from_json(target), StopRule(**stop)
    if file.batch_size not in (None, batch_size):
        raise TargetError(f"{file.name} is fixed to batches of {file.batch_size}, not {batch_size}")
    if chosen.measures != "latency":
        raise TargetError(
            f"{chosen.name} is a microcontroller, and bench measures no latency there; it counts"
            f" {chosen.measures} with: lenet-edge bench {file.name} --target {chosen.name}"
        )
    check_unchanged(file)
    batches = make_batches(file, batch_size, inputs)
    origin = origin_of(file, inputs)
    before, resident = read_conditions(), _status_bytes("VmRSS")
    started = time.perf_counter()
    with closing(open_session(file, chosen, num_threads)) as session:
        session.prepare(batches[0])  # some runtimes allocate or compile at this point
        loaded = time.perf_counter()
        _infer_first(session, file, origin)
        first = time.perf_counter()
        session.outputs()
        delegation = checked_delegation(session, file, chosen)
        samples = _sample(session, batches, rule)
        meter = energy.find_meter()
        joules = meter.joules_per_call(session.infer) if meter else None
        after = read_conditions()
        samples = dataclasses.replace(
            samples,
            load_time_s=loaded - started,
            first_inference_s=first - loaded,
            rss_growth_bytes=samples.peak_rss_bytes - resident,
            energy_j=joules,
            before=before,
            after=after,
            seconds=time.perf_counter() - started,
        )
        return Measurement(
            artifact=file.name,
            artifact_sha256=file.sha256,
            size_bytes=getattr(session, "built_bytes", None) or file.size_bytes,
            target=chosen.name,
            runtime_version=session.runtime_version,
            batch_size=batch_size,
            num_threads=num_threads,
            processes=(samples,),
            delegation=delegation,
            arena_bytes=getattr(session, "arena_bytes", None),
            inputs=origin,
            state=state_of(session),
            built_for=getattr(session, "built_for", None),
            energy_covers=meter.covers if meter else None,
            invalid=_throttling(after.throttled),
        ).to_json()


def _infer_first(session: Session, file: Artifact, origin: str) -> None:
    """Run the first inference.

    Raises:
        TargetError: it fails with random inputs, which may not fit the model.
    """
    try:
        session.infer()
    except Exception as error:  # each runtime raises its own types
        if origin != "random":
            raise
        raise TargetError(
            f"{file.name} cannot use random inputs ({one_line(error)}); give values that fit with"
            " --inputs FILE.npz"
        ) from error


def _throttling(throttled: tuple[str, ...]) -> str | None:
    """Return the reason why a throttled board's figures are invalid."""
    return (
        f"the board says: {', '.join(throttled)}; {throttling_remedy(throttled)}"
        if throttled
        else None
    )


def origin_of(file: Artifact, inputs: Path | None) -> str:
    """Return the origin of the values of `make_batches`: a file name, "test images" or "random"."""
    takes_tests = takes_images(file) and has_test_images(file)
    return inputs.name if inputs else "test images" if takes_tests else "random"


def state_of(session: Session) -> str | None:
    """Return "carried" or "reset" for a model with a state: the state that each call begins with.

    A runtime that keeps the state carries it from call to call. A state that is an input has the
    same value in each call.
    """
    if session.state:
        return session.state
    return "reset" if has_state_inputs(session.input_specs, session.output_specs) else None


def _sample(session: Session, batches: list[InputValues], rule: StopRule) -> ProcessSamples:
    gc.collect()  # once, because collecting TensorFlow's heap is slow; sampling disables it
    clock_s = clock_cost_s()
    warmup = warm_up(session, batches)
    calls = calls_per_sample(warmup.infer_s, clock_s)
    peak = _status_bytes("VmHWM")  # before the samples use memory
    switches = _context_switches()
    rows = take_samples(session, batches, calls, rule)
    preempted = _context_switches() - switches
    return ProcessSamples(
        latencies_s=rows[:, 1],
        load_time_s=0.0,
        first_inference_s=0.0,
        prepare_s=float(np.median(rows[:, 0])),
        readout_s=float(np.median(rows[:, 2])),
        warmup_runs=warmup.runs,
        peak_rss_bytes=peak,
        settled=warmup.settled,
        calls_per_sample=calls,
        timer_s=clock_s,
        null_s=null_cost_s(session, batches, calls),
        preempted=preempted,
    )


def _context_switches() -> int:
    """Return how often the system has interrupted this process; 0 where it does not count."""
    return 0 if resource is None else int(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw)


def _status_bytes(name: str) -> int:
    """Return a size of this process in memory; 0 where the system has no /proc."""
    # Not getrusage: on Linux its maximum survives exec, so a worker would report its caller's.
    status = read_system_file(Path("/proc/self/status")) or ""
    found = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def takes_images(artifact: Artifact) -> bool:
    """Return whether the only input of a model takes images of a fixed size."""
    if len(artifact.inputs) != 1:
        return False
    if has_test_images(artifact):
        return True
    (spec,) = artifact.inputs
    shape, is_index = spec.image_shape, spec.scale is None and np.dtype(spec.dtype).itemsize > 1
    return shape is not None and None not in shape and ("float" in spec.dtype or not is_index)


def make_batches(
    artifact: Artifact, batch_size: int, inputs: Path | None = None
) -> list[InputValues]:
    """Return the inputs of several calls, which differ if there are enough of them.

    A model of images gets 16 batches of images, scaled for it. Other models get random values.

    Args:
        artifact: the model.
        batch_size: the number of images in a batch.
        inputs: an .npz file to read the inputs from; see `read_inputs`.

    Raises:
        DataError: an input has a free size, or the file does not fit.
    """
    if inputs:
        return [*read_inputs(inputs, artifact.inputs, batch_size)]
    if not takes_images(artifact):
        return [*random_inputs(artifact.inputs, batch_size, _DISTINCT_BATCHES)]
    images = evaluation_images(artifact, _DISTINCT_BATCHES)
    indexes = np.arange(_DISTINCT_BATCHES * batch_size).reshape(-1, batch_size) % len(images)
    values = to_model_input(images[indexes.ravel()], artifact)
    return [np.ascontiguousarray(batch) for batch in np.split(values, _DISTINCT_BATCHES)]
