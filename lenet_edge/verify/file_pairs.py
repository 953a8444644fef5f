"""Comparison of model files output by output: any number of inputs and outputs, of any type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import DataError, LenetEdgeError, UsageError
from lenet_edge.formats import format_of
from lenet_edge.inspection import inspect_graph
from lenet_edge.results.parity_report import LayerError
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.selection import Pair, best_target
from lenet_edge.support.files import sha256_of
from lenet_edge.support.printable import make_printable
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.verify.layer_errors import compare_layers_of_calls
from lenet_edge.verify.output_comparison import compare_outputs, noise_share, report_of_outputs
from lenet_edge.verify.recorded_calls import (
    Array,
    Recording,
    Values,
    calls_of_reference,
    random_ranges,
    record,
)
from lenet_edge.verify.tensor_pairs import (
    AS_IS,
    TensorPair,
    choices,
    layouts,
    pair_inputs,
    rearrange,
)
from lenet_edge.verify.verdict import OUTPUTS, applied_precision

_LAYOUT_CALLS = 3  # that settle a layout
_FLOAT_BYTES, _HALF_BYTES = 3.5, 1.75  # of a parameter, at least, with some of another type


def needs_outputs(reference: Artifact, candidates: Sequence[Artifact]) -> bool:
    """Return True if files are no models of one image and one result for each."""
    for file in (reference, *candidates):
        if (len(file.inputs), len(file.outputs)) != (1, 1):
            return True
        (entry,), (result,) = file.inputs, file.outputs
        is_index = entry.scale is None and np.dtype(entry.dtype).kind in "iu"
        if is_index and np.dtype(entry.dtype).itemsize > 1:
            return True
        if not entry.shape or not result.shape or entry.shape[0] != result.shape[0]:
            return True
    return False


def find_parent(artifact: Artifact) -> Path | None:
    """Return the file that an artifact was exported from, by its hash; None if it is not found.

    It is in the artifact's folder, or in the folder around it.
    """
    for folder in (artifact.path.parent, artifact.path.absolute().parent.parent):
        for path in sorted(folder.iterdir()):
            if (
                format_of(path)
                and path.name != artifact.name
                and path.is_file()
                and sha256_of(path) == artifact.parent_sha256
            ):
                return path
    return None


def compare_files(
    pairs: Sequence[Pair],
    reference: Artifact,
    data: Path | None,
    settings: Mapping[str, Any],
    num_threads: int = 1,
    on_progress: Callable[[str], None] = lambda line: None,
    timeout_s: float = 300.0,
    outputs_of: dict[str, Array] | None = None,
    with_layers: bool = False,
) -> tuple[list[ParityReport], list[Skipped]]:
    """Compare each pair with a reference file output by output, each in a worker of its own.

    Args:
        pairs: the candidates with their targets.
        reference: the file to compare with, on the best target for it.
        data: images for a reference that takes one, or an .npz file with an array for each input
            of the reference; None takes random values.
        settings: bounds that override the defaults; see `verdict.bounds_for_output`.
        num_threads: threads for one inference.
        on_progress: called with a line of text after each pair.
        timeout_s: time limit of a file in seconds.
        outputs_of: a dictionary for the values of each output, "FILE on TARGET: OUTPUT".
        with_layers: whether to compare the layers of quantized files with those of the reference,
            in the first report of each.

    Returns:
        A report for each pair that ran, and the pairs that could not run with the reason.

    Raises:
        DataError: the data does not fit, or the files have other inputs or outputs.
        UsageError: a bound names an output that no file has.
        LenetEdgeError: no target on this machine can run the reference.
    """
    reports: list[ParityReport] = []
    skipped: list[Skipped] = []
    known: set[str] = set()
    compared: set[str] = set()  # files whose layers were compared
    target = best_target(reference.format)
    with temporary_folder() as folder:
        expected: dict[tuple[int | None, str], tuple[list[Values], Recording]] = {}
        precisions: dict[str, str] = {}
        for number, pair in enumerate(pairs):
            file = pair.artifact
            where = f"{file.name} on {pair.target.name}"
            links = pair_inputs(reference, file)
            batch = file.batch_size or reference.batch_size or 1
            ranges = {} if data else random_ranges(reference, file, links)
            key = (batch, repr(sorted(ranges.items())))
            if key not in expected:
                calls = calls_of_reference(reference, data, batch, ranges)
                own = Pair(reference, target)
                path = folder / f"reference-{len(expected)}"
                try:
                    expected[key] = calls, record(own, calls, path, num_threads, timeout_s)
                except LenetEdgeError as error:
                    if data is not None:
                        raise
                    raise DataError(
                        f"{reference.name} does not run on random inputs: {error}; give real ones"
                        " with --data FILE.npz"
                    ) from error
            calls, wanted = expected[key]
            try:
                actual, notes, own_calls = _run_candidate(
                    pair, reference, links, calls, wanted, folder / f"{number}", num_threads,
                    timeout_s,
                )  # fmt: skip
            except DataError:
                raise
            except LenetEdgeError as error:
                skipped.append(Skipped(pair.target.name, str(error), file.name))
                on_progress(f"{where}: {error}")
                continue
            if file.sha256 not in precisions:
                precisions[file.sha256] = precision_of(file)
            precision = applied_precision(precisions[file.sha256], actual.delegation)
            outputs, output_varies = compare_outputs(
                reference, file, wanted, actual, precision, settings, is_random=data is None
            )
            if outputs_of is not None:
                for spec, values in zip(actual.specs, zip(*actual, strict=True), strict=True):
                    if len({array.shape for array in values}) == 1:
                        outputs_of[f"{where}: {spec.name}"] = np.stack(values)
            known |= {name for output in outputs for name in (output.name, output.reference_name)}
            if data is None:
                spans = ", ".join(
                    f"{make_printable(name)} in {low:.4g} to {high:.4g}"
                    for name, (low, high) in ranges.items()
                )
                notes.insert(
                    0,
                    f"{len(calls)} random inputs{f' ({spans})' if spans else ''}: the verdict is"
                    " about numerics only; give real inputs with --data",
                )
            layers: tuple[LayerError, ...] = ()
            if with_layers and precision != "float32" and file.sha256 not in compared:
                compared.add(file.sha256)
                layers = _layers(file, reference, links, own_calls, calls)
            rows = max((len(v) for v in calls[0].values() if v.ndim), default=1) if calls else 1
            notes += [
                f"input {make_printable(spec.name)}: its integers are taken as input values,"
                " without a scale"
                for spec in reference.inputs
                if data and calls
                if np.dtype(spec.dtype).kind == "f" and calls[0][spec.name].dtype.kind in "iu"
            ]
            is_idle = len(calls) > 1 and not any(output_varies)
            reports.append(
                report_of_outputs(
                    pair, reference, outputs, actual.delegation, notes,
                    len(calls) * (rows if rows == batch else 1), data.name if data else "random",
                    layers, is_idle,
                )
            )  # fmt: skip
            on_progress(where)
    unknown = sorted(set(settings.get(OUTPUTS, {})) - known)
    if unknown and reports:
        raise UsageError(
            f"the bound for {make_printable(unknown[0])} names no output; the outputs are"
            f" {', '.join(map(make_printable, sorted(known)))}"
        )
    return reports, skipped


def _layers(
    file: Artifact,
    reference: Artifact,
    links: Sequence[TensorPair],
    calls: Sequence[Values],
    reference_calls: Sequence[Values],
) -> tuple[LayerError, ...]:
    """Return the errors of the layers of a quantized file; its inputs are those of `calls`."""
    pairs = sorted(links, key=lambda link: link.candidate)
    own = [[call[spec.name] for spec in file.inputs] for call in calls]
    names = [reference.inputs[link.reference].name for link in pairs]
    if names != [spec.name for spec in reference.inputs]:
        raise LenetEdgeError(
            f"--layers compares files with their inputs in one order, and those of {file.name} and"
            f" {reference.name} differ; leave --layers out"
        )
    expected = [[call[name] for name in names] for call in reference_calls]
    return tuple(compare_layers_of_calls(file, reference, own, expected))


def _run_candidate(
    pair: Pair,
    reference: Artifact,
    links: Sequence[TensorPair],
    calls: Sequence[Values],
    wanted: Recording,
    path: Path,
    num_threads: int,
    timeout_s: float,
) -> tuple[Recording, list[str], list[Values]]:
    """Run a candidate on the inputs of the reference, in its own names and layouts.

    Where the sizes of an input fit two layouts and the formats differ, some calls in each of them
    show which one agrees with the reference.

    Returns:
        The outputs, phrases that describe how inputs were paired and rearranged, and the inputs of
        the candidate.

    Raises:
        DataError: no layout of an input fits.
    """
    specs = [pair.artifact.inputs[link.candidate] for link in links]
    names = [reference.inputs[link.reference].name for link in links]
    ways = []
    for spec, name in zip(specs, names, strict=True):
        shape = calls[0][name].shape if calls else ()
        is_free = pair.artifact.batch_size is None and spec.shape
        free = (None, *spec.shape[1:]) if is_free else spec.shape
        ways.append(layouts(shape, free))
        if not ways[-1]:
            raise DataError(
                f"the input {make_printable(spec.name)} of {pair.artifact.name} takes shape"
                f" {_times(spec.shape)}, and {make_printable(name)} of {reference.name} has"
                f" {_times(shape)}; compare files of the same model, or give --input-shape"
            )
    several = list(choices(ways))
    chosen, is_tested = several[0], False
    if len(several) > 1 and reference.format != pair.artifact.format:
        first_calls = calls[:_LAYOUT_CALLS]
        chosen = min(
            several,
            key=lambda way: noise_share(
                reference,
                pair.artifact,
                wanted,
                record(
                    pair, _arrange(first_calls, names, specs, way), path, num_threads, timeout_s
                ),
            ),
        )
        is_tested = True
    notes = []
    for link, spec, name, way in zip(links, specs, names, chosen, strict=True):
        label = f"input {make_printable(spec.name)}"
        if link.rule != "name":
            notes.append(f"{label}: paired with {make_printable(name)} by {link.rule}")
        if way != AS_IS:
            source = ", which the outputs settled" if is_tested else ""
            notes.append(f"{label}: {way}{source}")
    arranged = _arrange(calls, names, specs, chosen)
    return record(pair, arranged, path, num_threads, timeout_s), notes, arranged


def _times(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "()"


def _arrange(
    calls: Sequence[Values], names: Sequence[str], specs: Sequence[TensorSpec], ways: Sequence[str]
) -> list[Values]:
    return [
        {
            spec.name: rearrange(call[name], way, spec.shape)
            for name, spec, way in zip(names, specs, ways, strict=True)
        }
        for call in calls
    ]


def precision_of(artifact: Artifact) -> str:
    """Return the precision of a file; of one that does not state it, that of its weights."""
    if artifact.precision != "unknown":
        return artifact.precision
    try:
        graph = inspect_graph(artifact.path)
    except LenetEdgeError:  # such as on a board without the onnx package
        return artifact.precision
    if any("Quantize" in kind or "Integer" in kind for kind in graph.operators):
        return "int8"
    if not graph.parameters or graph.parameter_bytes is None:
        return artifact.precision
    size = graph.parameter_bytes / graph.parameters
    return "float32" if size > _FLOAT_BYTES else "float16" if size > _HALF_BYTES else "int8"
