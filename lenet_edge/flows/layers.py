"""Measure the layers of the pairs of a plan, and add the errors of quantized layers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from lenet_edge import inspection, worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.layers import measure_layers
from lenet_edge.bench.plan import Cell, Plan
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.formatting import latency
from lenet_edge.results.layer_times import LayerTimes, check_layer_times, with_layer_errors
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.support.typed_json import check_types
from lenet_edge.verify.activations import PASSIVE
from lenet_edge.verify.expected import expected_from_reference
from lenet_edge.verify.layer_errors import compare_layers, find_sibling

Errors = list[tuple[str, float | None, float]]


def layer_cells(planned: Plan) -> list[Cell]:
    """Return the cell of each pair that has the smallest batch and the fewest threads."""
    cells: dict[tuple[str, str], Cell] = {}
    for cell in sorted(planned.cells, key=lambda cell: cell.key):
        if cell.pair.target.runtime != "null":
            cells.setdefault(cell.key[:2], cell)
    return list(cells.values())


def with_layer_times(
    run: BenchRun, planned: Plan, report: Callable[[str], None] = lambda line: None
) -> tuple[BenchRun, bool]:
    """Return a run with the times of the layers of each of its pairs.

    Args:
        run: the run.
        planned: its plan.
        report: called with a line of text after each pair.

    Returns:
        The run, and True if Ctrl-C stopped the measurement. A pair whose layers cannot be timed
        is in `skipped`, with the reason.
    """
    times: list[LayerTimes] = []
    skipped = list(run.skipped)
    failed = {(skip.artifact, skip.target) for skip in run.skipped}
    errors: dict[str, Errors] = {}
    stopped = False
    try:
        for cell in layer_cells(planned):
            if cell.key[:2] in failed:
                report(f"{cell}: not measured, so its layers are not either")
                continue
            file, target = cell.pair.artifact, cell.pair.target
            try:
                measured = _measure(planned, cell)
            except LenetEdgeError as error:
                skipped.append(Skipped(target.name, f"layers: {error}", file.name))
                report(f"{cell}: {error}")
                continue
            if file.sha256 not in errors:
                errors[file.sha256] = _layer_errors(file)
            times.append(with_layer_errors(measured, errors[file.sha256]))
            report(f"{cell}: {latency(measured.whole_s)}")
    except KeyboardInterrupt:
        stopped = True
    run = dataclasses.replace(run, layer_times=tuple(times), skipped=tuple(dict.fromkeys(skipped)))
    return run, stopped


def _measure(planned: Plan, cell: Cell) -> LayerTimes:
    call = measure_layers.bind(
        artifact=cell.pair.artifact.to_json(),
        target=dataclasses.asdict(cell.pair.target),
        batch_size=cell.batch_size,
        num_threads=cell.num_threads,
        inputs=planned.inputs,
    )
    facts = worker.run(call.within(planned.timeout_s), planned.python_for(cell.pair))
    times = LayerTimes.from_json(facts)
    check_types(times)
    check_layer_times(times)
    return times


def _layer_errors(file: Artifact) -> Errors:
    """Return name, ratio and reduction of each layer of a quantized file; none without a sibling.

    The sibling is the float32 file of the same checkpoint in the same folder.
    """
    if file.precision == "float32" or not has_reference(file):
        return []
    with contextlib.suppress(LenetEdgeError):
        sibling = find_sibling(file)
        names = _names_in(file, sibling)
        return [
            (names.get(layer.name, layer.name), layer.sqnr_db, layer.lost_db)
            for layer in compare_layers(file, sibling, expected_from_reference(file))
        ]
    return []


def _names_in(file: Artifact, sibling: Artifact) -> dict[str, str]:
    """Return the name in an .onnx file of each layer of its sibling, which has other names."""
    if file.format != "onnx":
        return {}
    listed = [
        [layer for layer in inspection.inspect(artifact.path) if layer.kind not in PASSIVE]
        for artifact in (file, sibling)
    ]
    own, others = listed
    if [layer.kind for layer in own] != [layer.kind for layer in others]:
        return {}
    return {other.name: layer.name for layer, other in zip(own, others, strict=True)}
