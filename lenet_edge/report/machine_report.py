"""Content of the report on one machine, in reading order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.report.commands import commands_of, next_command
from lenet_edge.report.comparison import Comparison
from lenet_edge.report.confusion import ConfusionMatrix, confusion_matrix
from lenet_edge.report.counts_section import counts_section
from lenet_edge.report.doubts import disturbance_line
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.equal_boards import find_outliers, machines_name
from lenet_edge.report.fits_on import fits_section
from lenet_edge.report.history import Series
from lenet_edge.report.history_section import history_section
from lenet_edge.report.join_runs import pool
from lenet_edge.report.layer_sections import layer_sections
from lenet_edge.report.page_tables import (
    PageSection,
    boards_section,
    changes_section,
    energy_section,
    facts_section,
    latencies_section,
    others_section,
    parity_section,
    skipped_section,
)
from lenet_edge.report.recommend import NothingFits, Recommendation, recommend
from lenet_edge.report.training_section import TrainingCurve, training_section
from lenet_edge.results.enough_images import too_few_images
from lenet_edge.results.formatting import error, latency
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport


@dataclass(frozen=True)
class MachineReport:
    """Report on one machine, or on the equal boards of a fleet.

    Attributes:
        name: name of the machine.
        run: its results, joined.
        advice: recommendation.
        tiles: figures of the recommended cell, each with its label.
        doubts: reasons to doubt the figures, each as a sentence without a full stop.
        curve: the training of the float model, if its history was found.
        folders: where the measured files may be, for the next commands.
    """

    name: str
    run: BenchRun
    advice: Recommendation | NothingFits
    tiles: tuple[tuple[str, str], ...]
    doubts: tuple[str, ...]
    others: PageSection
    latencies: PageSection
    parity: PageSection
    skipped: PageSection
    facts: PageSection
    layers: tuple[PageSection, ...] = ()
    boards: PageSection | None = None
    changes: PageSection | None = None
    fits: PageSection | None = None
    counts: PageSection | None = None
    history: PageSection | None = None
    energy: PageSection | None = None
    confusion: ConfusionMatrix | None = None
    curve: TrainingCurve | None = None
    folders: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation for the machine, and the advice on too few images, as JSON."""
        few = too_few_images(self.run.parity)
        return {
            "machine": self.name,
            "verdict": self.advice.verdict,
            **self.advice.to_json(),
            "too_few_images": few and few.to_json(),
        }

    @property
    def sections(self) -> list[PageSection]:
        """All sections in reading order."""
        sections = (
            self.changes, self.boards, self.others, self.parity,
            self.confusion and self.confusion.section, self.counts, self.fits, self.latencies,
            self.energy, *self.layers, self.training, self.history, self.skipped, self.facts,
        )  # fmt: skip
        return [section for section in sections if section]

    @property
    def training(self) -> PageSection | None:
        """The section on the training; None if no history was found."""
        return training_section(self.curve) if self.curve else None

    @property
    def references(self) -> set[str]:
        """Names of the float models that files were compared with, if the results have them."""
        # Exported files name their checkpoint by the start of its hash.
        return {
            report.candidate
            for report in self.run.parity
            if report.reference in (report.candidate, f"checkpoint {report.candidate_sha256[:12]}")
        }

    def commands(self, anchor: str) -> list[str]:
        """Return the recorded commands that wrote the results of a section."""
        return commands_of(self.run, anchor)

    def next_command(self, anchor: str) -> str | None:
        """Return the command that answers the next question about a section."""
        return next_command(self.run, self.advice, anchor, self.folders)


def report_on_machine(boards: Sequence[BenchRun], limits: Limits) -> MachineReport:
    """Return the report on one machine, or on the equal boards of a fleet.

    Raises:
        DataError: nothing was measured at the batch size in `limits`.
    """
    run = pool(boards)
    advice = recommend(run, limits)
    outliers = (f"{name} {reason}" for name, reason in find_outliers(boards).items())
    return MachineReport(
        name=machines_name(boards),
        run=run,
        advice=advice,
        tiles=tuple(_tiles(run, advice)) if isinstance(advice, Recommendation) else (),
        doubts=(*outliers, *_doubts(run)),
        others=others_section(run, advice),
        latencies=latencies_section(run, advice),
        layers=layer_sections(run),
        parity=parity_section(run.parity),
        skipped=skipped_section(run.skipped),
        facts=facts_section(run),
        fits=fits_section(run),
        counts=counts_section(run),
        energy=energy_section(run),
        confusion=confusion_matrix(run, advice),
        boards=boards_section(boards) if any(run.board for run in boards) else None,
    )


def _tiles(run: BenchRun, advice: Recommendation) -> list[tuple[str, str]]:
    chosen, parity = advice.measurement, advice.parity
    best = max(
        (cell for cell in run.measurements if _differs_in_batch_only(cell, chosen)),
        key=lambda cell: cell.images_per_s,
    )
    if parity.candidate_accuracy is not None:
        right = f"{100 * parity.candidate_accuracy:.2f} %", _accuracy_label(parity)
    elif parity.top1_agreement is not None:
        right = f"{100 * parity.top1_agreement:.2f} %", "agreement with the reference"
    else:
        right = error(parity.max_abs_error), "largest error of an output"
    number, _, unit = chosen.size.partition(" bytes")
    return [
        (
            latency(chosen.p50_s),
            f"median latency at batch {chosen.batch_size},"
            f" ±\u00a0{100 * chosen.half_width:.1f}\u00a0%",
        ),
        (number, f"bytes{unit}"),
        right,
        (f"{best.images_per_s:,.0f}", f"images per second at batch {best.batch_size}"),
    ]


def _accuracy_label(parity: ParityReport) -> str:
    drop = parity.accuracy_drop or 0.0
    if drop == 0:
        return "accuracy, the same as the float model"
    side = "below" if drop > 0 else "above"
    return f"accuracy, {abs(drop):.2f} points {side} the float model"


def _differs_in_batch_only(cell: Measurement, other: Measurement) -> bool:
    """Return True for a valid cell with the same file, target and thread count."""

    def file_target_threads(measurement: Measurement) -> tuple[str, str, int]:
        return measurement.artifact, measurement.target, measurement.num_threads

    return file_target_threads(cell) == file_target_threads(other) and not cell.invalid


def _doubts(run: BenchRun) -> list[str]:
    doubts = list(run.environment.lasting_warnings)
    doubts += filter(None, [disturbance_line(run)])
    if few := too_few_images(run.parity):
        doubts.append(str(few))
    if run.remaining:
        doubts.append(f"{run.remaining} processes of the plan have not run")
    if not run.paired and "boards" not in run.settings:
        doubts.append(
            f"the results of {run.settings['joined']} benches were joined, and their rounds are"
            " not paired, so the intervals are wider"
        )
    return doubts


def with_history(report: MachineReport, series: Sequence[Series]) -> MachineReport:
    """Return the report with a section on the figures of its machine over commits."""
    return dataclasses.replace(report, history=history_section(series, report.run))


def with_training(report: MachineReport, curves: Sequence[TrainingCurve]) -> MachineReport:
    """Return the report with the training of its reference, if it is one of these trainings."""
    own = [curve for curve in curves if curve.checkpoint in report.references]
    return dataclasses.replace(report, curve=own[0]) if own else report


def with_changes(report: MachineReport, comparison: Comparison, base: str) -> MachineReport:
    """Return the report with a section on the changes since a base run."""
    return dataclasses.replace(report, changes=changes_section(comparison, base))
