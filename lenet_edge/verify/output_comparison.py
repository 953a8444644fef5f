"""Comparison of the recorded outputs of two files, and the report on a pair of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.head import Head, resolve_head
from lenet_edge.results.parity_report import Bounds, LayerError, OutputReport, ParityReport
from lenet_edge.selection import Pair
from lenet_edge.support.printable import make_printable
from lenet_edge.target import Delegation
from lenet_edge.verify.output_errors import OutputErrors
from lenet_edge.verify.recorded_calls import Array, Recording
from lenet_edge.verify.tensor_pairs import (
    AS_IS,
    TensorPair,
    layouts,
    names_of,
    pair_tensors,
    rearrange,
)
from lenet_edge.verify.verdict import bounds_for_output, judge_output

_IDLE = (
    "the reference computes the same for all inputs, so that equal outputs show nothing; give other"
    " inputs with --data"
)


def noise_share(
    reference: Artifact, candidate: Artifact, wanted: Recording, actual: Recording
) -> float:
    """Return the part of the reference's signal that the outputs of some calls miss."""
    signal = noise = 0.0
    for errors, _, _ in _errors_of_outputs(reference, candidate, wanted, actual):
        if errors is not None:
            signal, noise = signal + errors.signal, noise + errors.noise
    return noise / max(signal, 1e-30)


def _errors_of_outputs(
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


def compare_outputs(
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
    for errors, link, way in _errors_of_outputs(reference, candidate, wanted, actual):
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


def report_of_outputs(
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
