"""What the report says of each machine, in the order it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_edge.report.comparison import Change
from lenet_edge.report.eligibility import Limits, us
from lenet_edge.report.equal_boards import boards_section, kind_name, outliers
from lenet_edge.report.join_runs import join
from lenet_edge.report.page_tables import (
    Section,
    changes_section,
    facts_section,
    latencies_section,
    others_section,
    parity_section,
    skipped_section,
)
from lenet_edge.report.recommend import NothingFits, Recommendation, recommend
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport


@dataclass(frozen=True)
class Machine:
    """All that is said of one machine, in the order it is read."""

    name: str
    run: BenchRun
    advice: Recommendation | NothingFits
    tiles: tuple[tuple[str, str], ...]
    doubts: tuple[str, ...]
    others: Section
    latencies: Section
    parity: Section
    skipped: Section
    facts: Section
    boards: Section | None = None
    changes: Section | None = None

    @property
    def sections(self) -> list[Section]:
        """All sections, in the order they are read."""
        first = [one for one in (self.changes, self.boards) if one]
        return [*first, self.others, self.parity, self.latencies, self.skipped, self.facts]


def describe(boards: Sequence[BenchRun], limits: Limits) -> Machine:
    """Return what there is to say of one machine, or of the equal boards of a fleet.

    Raises:
        DataError: nothing was measured at the batch size of `limits`.
    """
    run = join(boards)
    advice = recommend(run, limits)
    return Machine(
        name=kind_name(boards),
        run=run,
        advice=advice,
        tiles=tuple(_tiles(run, advice)),
        doubts=(
            *(f"{name} {why}" for name, why in outliers(boards).items()),
            *_doubts(run, advice),
        ),
        others=others_section(run, advice),
        latencies=latencies_section(run, advice),
        parity=parity_section(run.parity),
        skipped=skipped_section(run.skipped),
        facts=facts_section(run),
        boards=boards_section(boards) if any(one.board for one in boards) else None,
    )


def _tiles(run: BenchRun, advice: Recommendation | NothingFits) -> list[tuple[str, str]]:
    """Give the figures of the choice, each with what it is."""
    if isinstance(advice, NothingFits):
        return []
    one, parity = advice.measurement, advice.parity
    tiles = [
        (
            us(one.p50_s),
            f"median at batch {one.batch_size}, ±\u00a0{100 * one.half_width:.1f}\u00a0%",
        )
    ]
    best = max((m for m in run.measurements if _same(m, one)), key=lambda m: m.images_per_s)
    tiles.append((f"{one.size_bytes:,}", "bytes"))
    if parity.candidate_accuracy is not None:
        tiles.append((f"{100 * parity.candidate_accuracy:.2f} %", _against(parity)))
    else:
        tiles.append((f"{100 * parity.top1_agreement:.2f} %", "the same answer as the reference"))
    tiles.append((f"{best.images_per_s:,.0f}", f"images a second, in batches of {best.batch_size}"))
    return tiles


def _against(parity: ParityReport) -> str:
    drop = parity.accuracy_drop or 0.0
    if drop == 0:
        return "of the test images, as the float model"
    side = "under" if drop > 0 else "over"
    return f"of the test images, {abs(drop):.2f} points {side} the float model"


def _same(one: Measurement, other: Measurement) -> bool:
    def cell(m: Measurement) -> tuple[str, str, int]:
        return m.artifact, m.target, m.num_threads

    return cell(one) == cell(other) and not one.invalid


def _doubts(run: BenchRun, advice: Recommendation | NothingFits) -> list[str]:
    said = list(run.environment.warnings)
    if isinstance(advice, Recommendation):
        said += [f"of the choice itself, {one}" for one in advice.measurement.instability]
    if run.remaining:
        said.append(f"{run.remaining} processes of the plan have not run")
    if not run.paired and "boards" not in run.settings:
        said.append(
            f"joined from {run.settings['joined']} runs, not measured in turn: intervals are wider"
        )
    return said


def with_changes(
    machine: Machine, changes: Sequence[Change], lonely: Sequence[str], base: str
) -> Machine:
    """Return a machine with what became faster, slower or wrong since a base run."""
    return dataclasses.replace(machine, changes=changes_section(changes, lonely, base))
