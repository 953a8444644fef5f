"""Inference of one artifact on one target over a set of images, inside a worker process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.classifier_io import BATCH_SIZE, check_classifier, infer_all, to_model_input
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.runtimes import open_session
from lenet_edge.target import Target, dequantize


@worker.function
def record_logits(
    artifact: dict[str, Any], target: dict[str, Any], num_threads: int, images: Path, output: Path
) -> dict[str, Any]:
    """Run an artifact on the images of one .npy file, and write the logits to another.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        num_threads: threads for one inference.
        images: the .npy file of N images, see `classifier_io.to_model_input`.
        output: the .npy file to write, float32 of shape (N, classes).

    Returns:
        "runtime_version", and "delegation": the fields of the `Delegation`, or None.

    Raises:
        LenetEdgeError: the artifact has changed, the target cannot run it, or a delegate leaves
            nodes to the CPU that it must take.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_classifier(file)
    check_unchanged(file)
    stored = np.load(images, allow_pickle=False)
    with closing(open_session(file, chosen, num_threads)) as session:
        scaled = to_model_input(stored, file, session.input_specs[0])
        batch_size = file.batch_size or min(BATCH_SIZE, len(scaled))
        logits = [infer_all(session, scaled[:batch_size], batch_size)]
        delegation = checked_delegation(session, file, chosen)  # before the other batches
        if len(scaled) > batch_size:
            logits.append(infer_all(session, scaled[batch_size:], batch_size))
        np.save(output, np.concatenate(logits))
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(delegation) if delegation else None,
        }


@worker.function
def record_outputs(
    artifact: dict[str, Any], target: dict[str, Any], num_threads: int, inputs: Path, output: Path
) -> dict[str, Any]:
    """Run an artifact on the inputs in one .npz file, and write its outputs to another.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        num_threads: threads for one inference.
        inputs: the .npz file with the values of each input, see `write_calls`.
        output: the .npz file to write, of the same form, with dequantized values.

    Returns:
        "outputs", the fields of each `TensorSpec`, and "delegation", those of the `Delegation`.

    Raises:
        LenetEdgeError: the artifact has changed, the target cannot run it, or a delegate leaves
            nodes to the CPU that it must take.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_unchanged(file)
    with closing(open_session(file, chosen, num_threads)) as session:
        specs, results = session.output_specs, []
        names = [spec.name for spec in session.input_specs]
        for arrays in read_calls(inputs):
            session.prepare(dict(zip(names, arrays, strict=True)))
            session.infer()
            values = session.outputs()
            results.append(
                [
                    values[spec.name] if spec.scale is None else dequantize(values[spec.name], spec)
                    for spec in specs
                ]
            )
        write_calls(output, results)
        delegation = checked_delegation(session, file, chosen)
        return {
            "outputs": [asdict(spec) for spec in specs],
            "delegation": asdict(delegation) if delegation else None,
        }


def write_calls(path: Path, calls: Sequence[Sequence[npt.NDArray[Any]]]) -> None:
    """Write the arrays of some calls to an .npz file; "2_0" is the first array of the third."""
    counts = np.array([len(call) for call in calls])
    arrays = {f"{n}_{i}": array for n, call in enumerate(calls) for i, array in enumerate(call)}
    np.savez(path, counts=counts, **arrays)


def read_calls(path: Path) -> Iterator[list[npt.NDArray[Any]]]:
    """Yield the arrays of each call that `write_calls` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        for call, count in enumerate(stored["counts"]):
            yield [stored[f"{call}_{number}"] for number in range(count)]
