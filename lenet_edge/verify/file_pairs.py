"""Comparison of model files output by output: any number of inputs and outputs, of any type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.head import Head, resolve_head
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError, LenetEdgeError, UsageError
from lenet_edge.formats import format_of
from lenet_edge.inspection import inspect_graph
from lenet_edge.model_inputs import random_inputs, read_inputs, split_inputs
from lenet_edge.results.parity_report import Bounds, LayerError, OutputReport
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.selection import Pair, best_target
from lenet_edge.support import npz
from lenet_edge.support.files import sha256_of
from lenet_edge.support.printable import make_printable
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Delegation
from lenet_edge.verify.inference import read_calls, record_outputs, write_calls
from lenet_edge.verify.layer_errors import compare_layers_of_calls
from lenet_edge.verify.output_errors import OutputErrors
from lenet_edge.verify.tensor_pairs import (
    AS_IS,
    TensorPair,
    choices,
    layouts,
    names_of,
    pair_inputs,
    pair_tensors,
    rearrange,
)
from lenet_edge.verify.verdict import OUTPUTS, bounds_for_output, judge_output

RANDOM_CALLS = 20
_LAYOUT_CALLS = 3  # that settle a layout
_FLOAT_BYTES, _HALF_BYTES = 3.5, 1.75  # of a parameter, at least, with some of another type

_IDLE = (
    "the reference computes the same for all inputs, so that equal outputs show nothing; give other"
    " inputs with --data"
)

Array = npt.NDArray[Any]
Values = Mapping[str, Array]  # of the inputs of one call


@dataclass(frozen=True)
class Recording:
    """The outputs of a file for a number of calls.

    Attributes:
        path: the .npz file with the outputs, dequantized.
        specs: the outputs, as the session describes them.
        delegation: nodes that a delegate or device took.
    """

    path: Path
    specs: tuple[TensorSpec, ...]
    delegation: Delegation | None

    def __iter__(self) -> Iterator[list[Array]]:
        """Yield the outputs of each call, in the order of `specs`."""
        yield from read_calls(self.path)


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
            ranges = {} if data else _ranges(reference, file, links)
            key = (batch, repr(sorted(ranges.items())))
            if key not in expected:
                calls = _calls(reference, data, batch, ranges)
                own = Pair(reference, target)
                path = folder / f"reference-{len(expected)}"
                try:
                    expected[key] = calls, _record(own, calls, path, num_threads, timeout_s)
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
            precision = precisions[file.sha256]
            if actual.delegation and actual.delegation.precision == "float16":
                precision = "float16" if precision == "float32" else precision
            outputs, output_varies = _compare_outputs(
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
                _report(
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


def _ranges(
    reference: Artifact, candidate: Artifact, links: Sequence[TensorPair]
) -> dict[str, tuple[float, float]]:
    """Return the range of random values for each input of floats, by its name.

    It is that of the known preprocessing, else that of a quantized input, else 0 to 1.
    """
    ranges = {}
    for link in links:
        own, other = reference.inputs[link.reference], candidate.inputs[link.candidate]
        if np.dtype(own.dtype).kind != "f":
            continue
        rules = [file.preprocessing for file in (reference, candidate)]
        rule = next((rule for rule in rules if not rule.is_assumed), None)
        if rule is not None and len(links) == 1 and own.image_shape:
            ranges[own.name] = rule.input_range
        elif other.scale is not None:
            ends, zero = np.iinfo(other.dtype), other.zero_point or 0
            low, high = ((end - zero) * other.scale for end in (ends.min, ends.max))
            ranges[own.name] = float(low), float(high)
        else:
            ranges[own.name] = 0.0, 1.0
    return ranges


def _calls(
    reference: Artifact, data: Path | None, batch: int, ranges: Mapping[str, tuple[float, float]]
) -> list[Values]:
    """Return the inputs of each call of the reference."""
    if data is not None and _has_images(data, reference):
        shape, rule = reference.inputs[0].image_shape or (), reference.preprocessing
        images = load_images(data, shape, reference.labels, preprocessing=rule).images
        values = {reference.inputs[0].name: to_model_input(images, reference)}
        return list(split_inputs(values, reference.inputs, batch, data))
    if data is not None:
        return list(read_inputs(data, reference.inputs, batch))
    return [
        {
            name: _scale(values, *ranges[name]) if name in ranges else values
            for name, values in call.items()
        }
        for call in random_inputs(reference.inputs, batch, RANDOM_CALLS)
    ]


def _has_images(data: Path, reference: Artifact) -> bool:
    """Return True if data holds images as `export --calibration` takes them, not input values."""
    spec = reference.inputs[0] if len(reference.inputs) == 1 else None
    if spec is None or spec.image_shape is None or np.dtype(spec.dtype).kind != "f":
        return False
    if data.suffix != ".npz":
        return True
    with suppress(OSError, ValueError):  # `read_inputs` reports the fault
        names = npz.read_arrays(data)
        return "images" in names and spec.name not in names
    return False


def _scale(values: Array, low: float, high: float) -> Array:
    return np.asarray(values * (high - low) + low, values.dtype)


def _record(
    pair: Pair, calls: Sequence[Values], path: Path, num_threads: int, timeout_s: float
) -> Recording:
    """Run a file on the inputs of some calls in a worker."""
    inputs, output = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    write_calls(inputs, [[call[spec.name] for spec in pair.artifact.inputs] for call in calls])
    facts = worker.run(
        record_outputs.bind(
            pair.artifact.to_json(), asdict(pair.target), num_threads, inputs, output
        ).within(timeout_s)
    )
    inputs.unlink()
    specs = tuple(TensorSpec(**spec) for spec in facts["outputs"])
    return Recording(output, specs, Delegation.from_json(facts["delegation"]))


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
            key=lambda way: _distance(
                reference,
                pair.artifact,
                wanted,
                _record(
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
    return _record(pair, arranged, path, num_threads, timeout_s), notes, arranged


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


def _distance(
    reference: Artifact, candidate: Artifact, wanted: Recording, actual: Recording
) -> float:
    """Return the part of the reference's signal that the outputs of some calls miss."""
    signal = noise = 0.0
    for errors, _, _ in _errors(reference, candidate, wanted, actual):
        if errors is not None:
            signal, noise = signal + errors.signal, noise + errors.noise
    return noise / max(signal, 1e-30)


def _errors(
    reference: Artifact, candidate: Artifact, wanted: Recording, actual: Recording
) -> Iterator[tuple[OutputErrors | None, TensorPair, str]]:
    """Yield the errors of each pair of outputs, with its layout; None if the shapes differ."""
    first, first_actual = next(iter(wanted), []), next(iter(actual), [])
    links = pair_tensors(
        _output_names(reference, wanted),
        _output_names(candidate, actual),
        [array.shape for array in first],
        [array.shape for array in first_actual],
    )
    for link in links:
        expected, found = first[link.reference], first_actual[link.candidate]
        ways = layouts(found.shape, expected.shape)
        if reference.format == candidate.format:
            ways = ways[:1]
        way = min(ways, key=partial(_difference, found, expected), default=None)
        spec = wanted.specs[link.reference]
        is_integer = spec.scale is None and np.dtype(spec.dtype).kind in "iub"
        errors = OutputErrors(is_integer=is_integer)
        for own, other in zip(wanted, actual, strict=False):  # a test of layouts has fewer calls
            left, right = own[link.reference], other[link.candidate]
            if way is None or way not in layouts(right.shape, left.shape):
                yield None, link, AS_IS
                break
            errors.add(left, rearrange(right, way, left.shape))
        else:
            yield errors, link, way or AS_IS


def _difference(array: Array, expected: Array, way: str) -> float:
    turned = rearrange(array, way, expected.shape).astype(np.float64)
    return float(np.abs(np.nan_to_num(turned) - np.nan_to_num(expected.astype(np.float64))).sum())


def _output_names(artifact: Artifact, recording: Recording) -> list[set[str]]:
    names = names_of(artifact, "outputs")
    own = [{spec.name} for spec in recording.specs]
    return names if len(names) == len(own) else own


def _compare_outputs(
    reference: Artifact,
    candidate: Artifact,
    wanted: Recording,
    actual: Recording,
    precision: str,
    settings: Mapping[str, Any],
    is_random: bool,
) -> tuple[list[OutputReport], list[bool]]:
    """Compare the outputs of a candidate with those of the reference, and judge each.

    Returns:
        The reports, and whether each output of the reference differs between the calls.
    """
    reports, paired, varies = [], set(), []
    for errors, link, way in _errors(reference, candidate, wanted, actual):
        paired.add(link.reference)
        name = actual.specs[link.candidate].name
        reference_name = wanted.specs[link.reference].name
        names = dict.fromkeys((reference_name, name))
        bounds, chosen = bounds_for_output(precision, settings, names)
        reasons: tuple[str, ...] = ("its shape differs from that of the reference",)
        verdict = "fail"
        if errors is not None:
            errors.has_scores = len(wanted.specs) == 1 and _has_scores(reference, wanted)
            verdict, reasons = judge_output(errors, bounds, chosen, is_random)
        found = errors or OutputErrors()
        varies.append(errors is None or errors.varies)
        agreement = found.agreement
        reports.append(
            OutputReport(
                name=name,
                reference_name=reference_name,
                paired_by=link.rule,
                layout=way,
                num_values=found.count,
                max_abs_error=found.worst,
                mean_abs_error=found.mean,
                snr_db=found.snr_db,
                cosine=found.cosine,
                top1_agreement=None if agreement is None else agreement[0] / max(1, agreement[1]),
                non_finite=found.non_finite,
                bounds=bounds,
                verdict=verdict,
                reasons=reasons,
            )
        )
    for number, spec in enumerate(wanted.specs):
        if number not in paired:
            bounds, _ = bounds_for_output(precision, settings, (spec.name,))
            reasons = ("the candidate has no output for it",)
            reports.append(
                OutputReport("", spec.name, "", "", 0, 0.0, 0.0, None, None, None, 0, bounds,
                             "fail", reasons)
            )  # fmt: skip
    return reports, varies


def _has_scores(reference: Artifact, wanted: Recording) -> bool:
    """Return True if the only output of a reference holds a score for each class."""
    rows = [output.reshape(-1, output.shape[-1]) for (output,) in wanted if output.ndim == 2]
    if not rows or not np.isfinite(values := np.concatenate(rows).astype(np.float32)).all():
        return False
    stated = reference.stated_head
    return stated is not None and resolve_head(stated, values) in (Head.LOGITS, Head.SOFTMAX)


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


def _report(
    pair: Pair,
    reference: Artifact,
    outputs: Sequence[OutputReport],
    delegation: Delegation | None,
    notes: Sequence[str],
    num_samples: int,
    inputs: str,
    layers: tuple[LayerError, ...],
    is_idle: bool,
) -> ParityReport:
    """Return the report of a pair; its figures are those of the worst output.

    It is inconclusive if no output of the reference depends on the inputs.
    """
    failed = [output for output in outputs if output.verdict == "fail"]
    ratios = [output.snr_db for output in outputs if output.snr_db is not None]
    shares = [output.top1_agreement for output in outputs if output.top1_agreement is not None]
    is_random = inputs == "random"
    by_rule = {
        rule: [make_printable(o.reference_name) for o in outputs if o.paired_by == rule]
        for rule in ("name", "shape", "order")
    }
    turned = [
        f"output {make_printable(output.name)}: {output.layout}"
        for output in outputs
        if output.layout
    ]
    used = {rule: names for rule, names in by_rule.items() if names}
    rules = "; ".join(f"{', '.join(names)} by {rule}" for rule, names in used.items())
    paired = (
        f"outputs paired by {next(iter(used))}" if len(used) == 1 else f"outputs paired: {rules}"
    )
    return ParityReport(
        reference=reference.name,
        candidate=pair.artifact.name,
        candidate_sha256=pair.artifact.sha256,
        target=pair.target.name,
        num_samples=num_samples,
        reference_accuracy=None,
        candidate_accuracy=None,
        accuracy_drop=None,
        # The predictions for random inputs say nothing about those for real ones.
        top1_agreement=min(shares) if shares and not is_random else None,
        flips=(),
        mcnemar_p=None,
        max_abs_error=max((output.max_abs_error for output in outputs), default=0.0),
        mean_abs_error=max((output.mean_abs_error for output in outputs), default=0.0),
        non_finite=sum(output.non_finite for output in outputs),
        verdict="fail" if failed or not outputs else "inconclusive" if is_idle else "pass",
        reasons=(
            *(
                f"output {make_printable(output.name or output.reference_name)}: {reason}"
                for output in failed
                for reason in output.reasons
            ),
            *([_IDLE] if is_idle else []),
        ),
        bounds=outputs[0].bounds if outputs else Bounds(),
        delegation=delegation,
        head=Head.VALUES.value,
        snr_db=min(ratios, default=None),
        outputs=tuple(outputs),
        inputs=inputs,
        layers=layers,
        notes=(*notes, *([paired] if used else []), *turned),
    )
