"""Times of the layers of one artifact on one target, measured by one worker process."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.bench.sampling import warm_up
from lenet_edge.bench.timing import make_batches
from lenet_edge.errors import LenetEdgeError, TargetError
from lenet_edge.inspection import Layer, layers_of, total
from lenet_edge.results.layer_times import LayerTime, LayerTimes
from lenet_edge.runtimes import one_line, open_session
from lenet_edge.runtimes._layer_probe import (
    LayerProbe,
    LayerStep,
    TimesLayers,
    seconds_per_call,
)
from lenet_edge.target import InputValues, Session, Target

_BLOCK_S = 3e-4  # time of the calls in a row; they fill the caches as `bench` does for the latency
_MIN_ROUNDS, _MAX_ROUNDS = 5, 60


@worker.function
def measure_layers(
    artifact: dict[str, Any],
    target: dict[str, Any],
    batch_size: int,
    num_threads: int,
    inputs: Path | None = None,
    max_time_s: float = 2.0,
) -> dict[str, Any]:
    """Measure the layers of one cell in this process.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        batch_size: images in one call.
        num_threads: threads for one call.
        inputs: the .npz file with an array for each input; None takes test images or random values.
        max_time_s: seconds for each probe of the runtime.

    Returns:
        The JSON of the `LayerTimes`.

    Raises:
        TargetError: the target cannot run the file, or the runtime cannot time its layers.
        ModelFileError: the file has changed since the plan was made.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_unchanged(file)
    values = make_batches(file, batch_size, inputs)[0]
    with closing(open_session(file, chosen, num_threads)) as session:
        if not isinstance(session, TimesLayers):
            raise TargetError(f"{chosen.name} cannot time its layers")
        session.prepare(values)
        session.infer()
        block = max(1, math.ceil(_BLOCK_S / max(warm_up(session, [values]).infer_s, 1e-9)))
        times: LayerTimes | None = None
        for probe in _probes(session, values):
            with closing(probe):
                rows, whole_s = _sample(session, probe, block, max_time_s)
            call_s, seconds = probe.split(rows)
            candidate = LayerTimes(
                artifact=file.name,
                artifact_sha256=file.sha256,
                target=chosen.name,
                runtime_version=session.runtime_version,
                batch_size=batch_size,
                num_threads=num_threads,
                method=probe.method,
                whole_s=whole_s,
                call_s=call_s,
                rounds=len(rows),
                layers=describe_steps(probe.steps, seconds, _layers(file)),
            )
            # A profiler that slows its model does not agree with the whole call.
            if times is None or abs(candidate.rest_s) < abs(times.rest_s):
                times = candidate
            if times.agrees:
                break
        if times is None:
            raise TargetError(f"{chosen.name} cannot time the layers of {file.name}")
        return times.to_json()


def _probes(session: TimesLayers, values: InputValues) -> Iterator[LayerProbe]:
    """Yield the probes of a session, until the runtime refuses a cut graph.

    Raises:
        TargetError: the first probe fails.
    """
    probes = session.layer_probes(values)
    for number in itertools.count():
        try:
            probe = next(probes, None)
        except MemoryError:
            raise
        except Exception as error:  # each vendor raises its own types
            if not number:
                reason = error if isinstance(error, LenetEdgeError) else one_line(error)
                raise TargetError(str(reason)) from error
            return
        if probe is None:
            return
        yield probe


def _sample(
    session: Session, probe: LayerProbe, block: int, max_time_s: float
) -> tuple[list[Sequence[float]], float]:
    """Time the whole call and its steps in turn; return the rows, and the median of the whole."""
    rows: list[Sequence[float]] = []
    wholes: list[float] = []
    started = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        while len(rows) < _MIN_ROUNDS or (
            len(rows) < _MAX_ROUNDS and time.perf_counter() - started < max_time_s
        ):
            wholes.append(seconds_per_call(session.infer, block))
            rows.append(probe.sample(block))
    finally:
        gc.enable()
    return rows, float(np.median(wholes))


def _layers(file: Artifact) -> list[Layer]:
    """Return the layers of a file; none if no installed package can read it."""
    with contextlib.suppress(LenetEdgeError):
        return layers_of(file.path, file.format)
    return []


def describe_steps(
    steps: Sequence[LayerStep], seconds: Sequence[float], layers: Sequence[Layer]
) -> tuple[LayerTime, ...]:
    """Return the steps with the facts of the layers that they compute.

    A layer counts for the first step that computes it, so that no MAC counts twice.

    Args:
        steps: the steps.
        seconds: their times.
        layers: the layers of the file.
    """
    known: dict[str, list[Layer]] = {}  # some converters give one name to several operators
    for layer in layers:
        known.setdefault(layer.name, []).append(layer)
    described = []
    for step, time_s in zip(steps, seconds, strict=True):
        own = []
        for name in step.nodes:
            same = known.get(name, [])
            match = next((each for each in same if each.kind == step.operator), None)
            match = match or next(iter(same), None)
            if match is not None:
                same.remove(match)
                own.append(match)
        main = max(own, key=lambda layer: layer.macs or 0, default=None)
        names = tuple(layer.name for layer in own) if layers else step.nodes
        fallback = step.nodes[-1] if step.nodes and not layers else step.name
        described.append(
            LayerTime(
                name=main.name if main else fallback,
                step=step.name,
                operator=step.operator,
                time_s=time_s,
                layers=names,
                tensor=step.tensor,
                macs=total(layer.macs for layer in own) if own else None,
                parameters=total(layer.parameters for layer in own) if own else None,
                parameter_bytes=total(layer.parameter_bytes for layer in own) if own else None,
            )
        )
    return tuple(described)
