"""Verify files against the float model on this machine, or on every board of a fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.errors import LenetEdgeError, UsageError
from lenet_edge.flows.console import Console, late_bar
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport
from lenet_edge.rule_choice import compare_on_images
from lenet_edge.selection import Pair, best_target, load_artifacts, select_pairs
from lenet_edge.support import npz
from lenet_edge.target import Logits
from lenet_edge.verify import verify as stage
from lenet_edge.verify.expected import Expected, expected_from_file
from lenet_edge.verify.verdict import DEFAULTS, read_bounds

if TYPE_CHECKING:
    from lenet_edge.data.dataset import LabelledImages
    from lenet_edge.flows.fleet_session import Choice


@dataclass(frozen=True)
class VerifySettings:
    """The settings of a verification, as the options of `lenet-edge verify` name them.

    `bounds` are by the name of a field of `Bounds`; None leaves a bound at its default.
    `reference` is a model file to compare with, None the recorded float model; `data` is a
    file or folder of images for it. `layers` compares each layer of a quantized file with its float
    sibling. `logits_file` is an .npz file for the logits of each pair, named "FILE on TARGET";
    `plots` is a folder for pictures of each pair. `stated` has the facts about the reference's
    input.

    Raises:
        UsageError: `data` without `reference`.
    """

    bounds: Mapping[str, float | None] = field(default_factory=dict)
    num_threads: int = 1
    reference: Path | None = None
    data: Path | None = None
    layers: bool = False
    logits_file: Path | None = None
    plots: Path | None = None
    stated: StatedInput = NOTHING_STATED

    def __post_init__(self) -> None:
        if self.data and not self.reference:
            raise UsageError("--data needs --reference, the file to compare with")

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
        return settings | {name: {**settings.get(name, {}), **chosen} for name in DEFAULTS}


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
    pairs, missing = select_pairs(
        choice.artifacts, choice.targets, choice.delegate, choice.options, choice.allow_fallback
    )
    reference, sibling = None, None
    if settings.reference:
        (sibling,) = load_artifacts([settings.reference], Path(), console.note, settings.stated)
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
    return BenchRun.of_this_machine(parity=tuple(reports), skipped=(*missing, *failed))


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


def verdict(runs: Sequence[BenchRun], complete: bool = True) -> str:
    """Return "pass", "fail" or "inconclusive" for all pairs of some runs together.

    Args:
        runs: the runs, each with its parity reports.
        complete: False if a board was lost, which is a failure.
    """
    reports = [report for run in runs for report in run.parity]
    failed = any(skipped.artifact for run in runs for skipped in run.skipped)
    if failed or not complete or not reports or any(r.verdict == "fail" for r in reports):
        return "fail"
    return "pass" if all(reports) else "inconclusive"


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
