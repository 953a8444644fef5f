"""Verify files against the float model on this machine, or on every board of a fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.errors import LenetEdgeError, ModelFileError, UsageError
from lenet_edge.flows.console import Console, late_bar
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport, Skipped
from lenet_edge.rule_choice import compare_on_images
from lenet_edge.selection import (
    Pair,
    best_target,
    find_unused,
    is_known_absent,
    load_artifacts,
    select_pairs,
)
from lenet_edge.support import npz
from lenet_edge.target import Logits
from lenet_edge.verify import verify as stage
from lenet_edge.verify.expected import Expected, expected_from_file
from lenet_edge.verify.file_pairs import compare_files, find_parent, needs_outputs
from lenet_edge.verify.verdict import DEFAULTS, OUTPUT_BOUNDS, OUTPUTS, read_bounds

if TYPE_CHECKING:
    from lenet_edge.data.dataset import LabelledImages
    from lenet_edge.flows.fleet_session import Choice


@dataclass(frozen=True)
class VerifySettings:
    """The settings of a verification, as the options of `lenet-edge verify` name them.

    `bounds` are by the name of a field of `Bounds`; None leaves a bound at its default.
    `output_bounds` are for single outputs, by the names of the output and of the field.
    `reference` is a model file to compare with, None the recorded float model; `data` is a
    file or folder of images for it, or an .npz file with an array for each of its inputs. `layers`
    compares each layer of a quantized file with its float sibling. `logits_file` is an .npz file
    for the logits of each pair, named "FILE on TARGET"; `plots` is a folder for pictures of each
    pair. `stated` has the facts about the reference's input.
    """

    bounds: Mapping[str, float | None] = field(default_factory=dict)
    num_threads: int = 1
    reference: Path | None = None
    data: Path | None = None
    layers: bool = False
    logits_file: Path | None = None
    plots: Path | None = None
    stated: StatedInput = NOTHING_STATED
    output_bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def for_one_machine(self) -> bool:
        """True if an option is set that a fleet does not support."""
        return bool(self.reference or self.layers or self.logits_file or self.plots)

    def read_bounds(self) -> dict[str, Any]:
        """Return the bounds of ./pyproject.toml, with `bounds` in their place.

        Raises:
            LenetEdgeError: the section of pyproject.toml is malformed.
        """
        chosen = {name: value for name, value in self.bounds.items() if value is not None}
        settings = read_bounds(Path())
        outputs = {**settings.get(OUTPUTS, {})}
        for name, own in self.output_bounds.items():
            outputs[name] = {**outputs.get(name, {}), **own}
            if unknown := own.keys() - OUTPUT_BOUNDS:
                raise UsageError(
                    f"{min(unknown)} is no bound of an output; these are {', '.join(OUTPUT_BOUNDS)}"
                )
        by_precision = {name: {**settings.get(name, {}), **chosen} for name in DEFAULTS}
        return settings | by_precision | {OUTPUTS: outputs}


def verify(choice: Choice, settings: VerifySettings, console: Console) -> BenchRun:
    """Compare each file with the float model, or with another file, on this machine.

    Args:
        choice: the files and targets.
        settings: the bounds, the reference and what else to write.
        console: the display.

    Returns:
        A run with a parity report for each pair, and the pairs that did not run.

    Raises:
        LenetEdgeError: the reference is missing or does not fit, or no file fits the targets.
    """
    bounds = settings.read_bounds()
    folder = choice.artifacts[0].path.parent if choice.artifacts else Path()
    pairs, missing = select_pairs(
        choice.artifacts, choice.targets, choice.delegate, choice.options, choice.allow_fallback
    )
    reference, sibling = None, None
    by_parent = {} if settings.reference else _by_parent(pairs)
    if settings.data and not settings.reference and len(by_parent) != len(pairs):
        raise UsageError("--data needs --reference, the file to compare with")
    if settings.reference:
        (sibling,) = load_artifacts([settings.reference], Path(), console.note, settings.stated)
        if _compares_outputs(sibling, pairs, settings.data):
            sibling, pairs = settle_inputs(sibling, pairs, None, console.note)
            by_parent = dict.fromkeys(range(len(pairs)), sibling)
    by_output: list[ParityReport] = []
    if by_parent:
        by_output, failed = _verify_outputs(by_parent, pairs, settings, bounds, console)
        missing += failed
        pairs = [pair for number, pair in enumerate(pairs) if number not in by_parent]
        if not pairs:
            run = BenchRun.of_this_machine(parity=tuple(by_output), skipped=tuple(missing))
            return run.with_revision_of(folder)
    if sibling is not None:
        images = _load_images(settings.data, sibling, console.note) if settings.data else None
        sibling, pairs = settle_inputs(sibling, pairs, images, console.note)
        reference = expected_from_file(sibling, images, settings.num_threads)

    expectations: list[Expected] = []
    logits_of: dict[str, Logits] = {}

    def keep(report: ParityReport, expected: Expected, logits: Logits) -> None:
        expectations.append(expected)
        logits_of[f"{report.candidate} on {report.target}"] = logits
        if settings.plots:
            from lenet_edge.report.plots import plot_parity

            errors = logits - expected.logits
            plot_parity(report, expected.images, errors, expected.class_names, settings.plots)

    with console.progress_bar("Verify", len(pairs)) as step:
        reports, failed = stage.verify(pairs, bounds, settings.num_threads, step, reference, keep)
    if settings.layers:
        reports = _with_layers(reports, expectations, pairs, sibling)
    if settings.logits_file:
        npz.write_arrays(settings.logits_file, logits_of)
    run = BenchRun.of_this_machine(parity=(*by_output, *reports), skipped=(*missing, *failed))
    return run.with_revision_of(folder)


def _by_parent(pairs: Sequence[Pair]) -> dict[int, Artifact]:
    """Return the file that a manifest names as the origin, by the number of the pair.

    Only files without recorded predictions need it: those with several inputs or outputs. A file
    that the others were made from is its own origin.

    Raises:
        ModelFileError: the file that a manifest names is not found.
    """
    parents: dict[int, Artifact] = {}
    found: dict[str, Artifact] = {}
    origins = {pair.artifact.parent_sha256 for pair in pairs}
    for number, pair in enumerate(pairs):
        file = pair.artifact
        if not needs_outputs(file, []) or has_reference(file):
            continue
        parent = file.parent_sha256 or ""
        if parent not in found:
            path = find_parent(file) if parent else None
            if path is None and file.sha256 in origins:
                parents[number] = file
                continue
            if path is None:
                raise ModelFileError(
                    f"{file.name} has {len(file.inputs)} inputs and {len(file.outputs)} outputs,"
                    " and the file that it was made from is not beside it; name that file with"
                    " --reference FILE"
                )
            (found[parent],) = load_artifacts([path], Path())
        parents[number] = found[parent]
    return parents


def _compares_outputs(reference: Artifact, pairs: Sequence[Pair], data: Path | None) -> bool:
    """Return True if files are compared output by output, and not by their predictions."""
    if needs_outputs(reference, [pair.artifact for pair in pairs]):
        return True
    return data is None and not has_reference(reference)


def _verify_outputs(
    references: Mapping[int, Artifact],
    pairs: Sequence[Pair],
    settings: VerifySettings,
    bounds: Mapping[str, Any],
    console: Console,
) -> tuple[list[ParityReport], list[Skipped]]:
    """Compare pairs with their references output by output.

    Args:
        references: the file to compare with, by the number of the pair.
        pairs: the pairs; those without a reference are left out.
        settings: see `verify`.
        bounds: see `verify`.
        console: the display.

    Returns:
        A report for each pair that ran, and the pairs that did not run.
    """
    if settings.plots:
        raise UsageError(
            "--plots draws the predictions of models with one input and one output; leave it out"
        )
    outputs_of: dict[str, Any] = {}
    reports: list[ParityReport] = []
    skipped: list[Skipped] = []
    with console.progress_bar("Verify", len(references)) as step:
        for reference in {file.sha256: file for file in references.values()}.values():
            mine = [pairs[n] for n, file in references.items() if file.sha256 == reference.sha256]
            done, failed = compare_files(
                mine, reference, settings.data, bounds, settings.num_threads, step,
                outputs_of=outputs_of if settings.logits_file else None,
                with_layers=settings.layers,
            )  # fmt: skip
            reports += done
            skipped += failed
    if settings.logits_file:
        npz.write_arrays(settings.logits_file, outputs_of)
    return reports, skipped


def _load_images(path: Path, reference: Artifact, note: Callable[[str], None]) -> LabelledImages:
    from lenet_edge.data.labelled_images import load_images

    shape, rule = reference.inputs[0].image_shape or (), reference.preprocessing
    images = load_images(path, shape, reference.labels, preprocessing=rule)
    for remark in images.remarks:
        note(remark)
    return images


def settle_inputs(
    reference: Artifact,
    pairs: Sequence[Pair],
    images: LabelledImages | None,
    note: Callable[[str], None],
) -> tuple[Artifact, list[Pair]]:
    """Give a reference and files of the same model the preprocessing that one of them has.

    If none of them says it, the accuracy of the reference on labelled pixels tests it.

    Returns:
        The reference and the pairs, changed where pixels of 0 to 255 were only assumed.
    """
    rules = [file.preprocessing for file in (reference, *(pair.artifact for pair in pairs))]
    known = next((rule for rule in rules if not rule.is_assumed), None)
    is_pixels = images is None or images.images.dtype.kind != "f"
    if known is None and is_pixels and images is not None and images.labels is not None:
        tested = compare_on_images(reference, best_target(reference.format).name, images)
        if tested is not None:
            note(f"{reference.name}: {tested.summary}")
            known = tested.rule
    if known is None or not is_pixels:
        return reference, list(pairs)

    def settled(file: Artifact) -> Artifact:
        is_open = file.preprocessing.is_assumed
        return dataclasses.replace(file, preprocessing=known) if is_open else file

    return settled(reference), [
        dataclasses.replace(pair, artifact=settled(pair.artifact)) for pair in pairs
    ]


def verify_fleet(
    scheduler: str, choice: Choice, settings: VerifySettings, console: Console
) -> FleetRun:
    """Compare each file with its recorded float model on every board of a fleet.

    Args:
        scheduler: the address of the Dask scheduler.
        choice: the files and targets.
        settings: the bounds and the number of threads.
        console: the display.

    Raises:
        UsageError: a setting is for one machine.
        LenetEdgeError: the fleet has no board that can take the files.
    """
    if settings.for_one_machine:
        raise UsageError(
            "--reference, --layers, --logits and --plots are for one machine, and --scheduler"
            " for many"
        )
    from lenet_edge.fleet.connection import connect
    from lenet_edge.flows import fleet
    from lenet_edge.flows.fleet_session import open_fleet

    bounds = settings.read_bounds()
    with connect(scheduler) as client, late_bar(console, "Verify") as begin:
        return fleet.verify(open_fleet(client, choice), bounds, settings.num_threads, begin)


def verdict(
    runs: Sequence[BenchRun],
    choice: Choice,
    unverified: Collection[str] = (),
    complete: bool = True,
) -> str:
    """Return "pass", "fail" or "inconclusive" for all pairs of some runs together.

    A pair that did not run is a failure. But a file from elsewhere passes if one target runs it and
    another one that nobody named does not.

    Args:
        runs: the runs, each with its parity reports.
        choice: the files and targets.
        unverified: names of files that no verdict is for; see `find_unverified`.
        complete: False if a board was lost, which is a failure.
    """
    reports = [report for run in runs for report in run.parity]
    foreign = {file.name for file in choice.artifacts if file.converter == "unknown"}
    for run in runs:
        accepted = {*unverified}
        if not choice.names:
            accepted |= foreign & {report.candidate for report in run.parity}
        if any(skip.artifact and skip.artifact not in accepted for skip in run.skipped):
            return "fail"
    if not complete or not (reports or unverified) or any(r.verdict == "fail" for r in reports):
        return "fail"
    return "pass" if all(reports) else "inconclusive"


def find_unverified(run: BenchRun, choice: Choice, all_files: bool = True) -> dict[str, str]:
    """Return what was not verified on this machine, and why; see `selection.find_unused`.

    A file that did not run on a target that was named and is there has failed, and is not among
    them.
    """
    ran = {(report.candidate_sha256, report.target) for report in run.parity}
    failed = {
        skip.artifact
        for skip in run.skipped
        if choice.names and skip.artifact and not is_known_absent(skip.target)
    }
    unused = find_unused(choice.artifacts, ran, run.skipped, choice.names, all_files)
    return {name: reason for name, reason in unused.items() if name not in failed}


def _with_layers(
    reports: Sequence[ParityReport],
    expectations: Sequence[Expected],
    pairs: Sequence[Pair],
    reference: Artifact | None,
) -> list[ParityReport]:
    """Return the reports; the first one of each quantized file has the errors of its layers."""
    from lenet_edge.verify.layer_errors import compare_layers, find_sibling

    artifacts = {pair.artifact.sha256: pair.artifact for pair in pairs}
    extended, compared = [], set()
    for report, expected in zip(reports, expectations, strict=True):
        file = artifacts[report.candidate_sha256]
        quantized = file.format in ("tflite", "onnx") and file.precision != "float32"
        if quantized and file.sha256 not in compared:
            compared.add(file.sha256)
            usable = reference is not None and reference.format == file.format
            sibling = reference if reference and usable else find_sibling(file)
            layers = tuple(compare_layers(file, sibling, expected))
            report = dataclasses.replace(report, layers=layers)  # noqa: PLW2901
        extended.append(report)
    if not compared:
        raise LenetEdgeError(
            "--layers compares quantized .tflite and .onnx files with their float siblings, and"
            " none of these is one"
        )
    return extended
