"""Counts of the cycles of an inference, by a real board at a serial port."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.bench.timing import takes_images
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.evaluation_images import evaluation_images
from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.serial import COUNTERS
from lenet_edge.model_inputs import random_inputs
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.runtimes.serial import SerialSession
from lenet_edge.target import Target

NUM_IMAGES = 30  # three seconds over a line of 115,200 baud
_TIMEOUT_S = 900


def count_cycles(artifact: Artifact, name: str) -> CycleCount:
    """Run a file on the first test images, or on random inputs, and return the board's counts.

    Args:
        artifact: the file.
        name: the name of the target.

    Raises:
        TargetError: the board cannot run the file, or has no counter.
    """
    target = get_target(name)
    call = read_counts.bind(artifact.to_json(), asdict(target))
    facts = worker.run(call.within(_TIMEOUT_S))
    return CycleCount.of_samples(
        artifact.name, artifact.sha256, name, facts["unit"], facts["counter_hz"], facts["counts"]
    )


@worker.function
def read_counts(artifact: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """Run a file on a board.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.

    Returns:
        The "unit" and the frequency of the counter ("counter_hz"), and the "counts" of the calls.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_unchanged(file)
    with closing(open_session(file, chosen)) as session:
        assert isinstance(session, SerialSession)
        if session.facts.counter == 0:
            raise TargetError(f"the board at {chosen.name} has no counter")
        if takes_images(file):
            images = evaluation_images(file, NUM_IMAGES)[:NUM_IMAGES]
            session.prepare(to_model_input(images, file))
            session.infer()
        else:
            for inputs in random_inputs(file.inputs, 1, NUM_IMAGES):
                session.prepare(inputs)
                session.infer()
        facts = session.facts
        unit = COUNTERS[facts.counter]
        return {"unit": unit, "counter_hz": facts.counter_hz, "counts": session.counts}
