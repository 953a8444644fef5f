"""Comparison of two runs, cell by cell: latency and parity of one machine, and instructions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lenet_edge.errors import DataError
from lenet_edge.report.count_comparison import CountChange, compare_counts, count_cell
from lenet_edge.report.rank import ranking_quantile
from lenet_edge.results.latency_estimate import LatencyRatio
from lenet_edge.results.result_file import BenchRun, InstructionCount, Measurement, ParityReport

_Cell = TypeVar("_Cell", Measurement, InstructionCount)


@dataclass(frozen=True)
class Change:
    """One cell in a base run and a new run; `ratio` is the new latency over the base latency."""

    base: Measurement
    new: Measurement
    ratio: LatencyRatio
    base_parity: ParityReport | None
    new_parity: ParityReport | None

    @property
    def verdict(self) -> str:
        """Verdict on the latency: "slower", "faster", "equal" or "invalid"."""
        if self.new.invalid or self.base.invalid:
            return "invalid"
        if self.ratio.equal:
            return "equal"
        return "slower" if self.ratio.value > 1 else "faster"

    @property
    def accuracy_change(self) -> float | None:
        """Percentage points of accuracy gained; None if either run lacks the accuracy."""
        base, new = (
            None if parity is None else parity.candidate_accuracy
            for parity in (self.base_parity, self.new_parity)
        )
        return None if base is None or new is None else 100 * (new - base)

    def regression(self, fail_above: float) -> str | None:
        """Return the regression of the cell as a phrase, or None if it has none.

        Args:
            fail_above: relative slowdown that is still accepted. A slowdown within the
                confidence interval is always accepted.
        """
        if self.verdict == "slower" and self.ratio.value > 1 + fail_above:
            return f"{self.ratio.value - 1:.1%} slower"
        if self.new.invalid and not self.base.invalid:
            return f"no longer valid: {self.new.invalid}"
        base, new = self.base_parity, self.new_parity
        if base is not None and new is not None and base.passed and not new.passed:
            return "no longer passes parity"
        return None

    @property
    def cell(self) -> str:
        """Name of the cell; see `Measurement.cell`."""
        return self.base.cell

    def to_json(self, fail_above: float) -> dict[str, Any]:
        """Return the change as a JSON object."""
        artifact, target, batch_size, num_threads = self.base.key
        return {
            "artifact": artifact,
            "target": target,
            "batch_size": batch_size,
            "num_threads": num_threads,
            "base_p50_s": self.base.p50_s,
            "new_p50_s": self.new.p50_s,
            "ratio": dataclasses.asdict(self.ratio),
            "accuracy_change_pp": self.accuracy_change,
            "verdict": self.verdict,
            "regression": self.regression(fail_above),
        }


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs.

    Attributes:
        changes: cells whose latency both runs measured.
        counts: files whose instructions both runs counted.
        unmatched: a phrase for each cell and each count of only one of the runs.
        note: the reason why latencies were not compared; None if they were, or if there are none.
        missing: the cells and counts that the new run lacks, although it has others of that kind.
    """

    changes: list[Change]
    counts: list[CountChange]
    unmatched: list[str]
    note: str | None = None
    missing: tuple[str, ...] = ()

    def regressions(self, fail_above: float) -> list[tuple[str, str]]:
        """Return each cell with a regression, and the regression."""
        cells = [(change.cell, change.regression(fail_above)) for change in self.changes]
        cells += [(count.cell, count.regression(fail_above)) for count in self.counts]
        lost = [(cell, "missing in the new run") for cell in self.missing]
        return [*((cell, reason) for cell, reason in cells if reason), *lost]

    def has_regression(self, fail_above: float) -> bool:
        """Return whether a cell has a regression."""
        return bool(self.regressions(fail_above))

    def to_json(self, fail_above: float) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {
            "changes": [change.to_json(fail_above) for change in self.changes],
            "instruction_counts": [count.to_json(fail_above) for count in self.counts],
            "only_in_one": self.unmatched,
            "missing": list(self.missing),
            "note": self.note,
        }


def compare_runs(base: BenchRun, new: BenchRun) -> Comparison:
    """Compare the latencies and the instruction counts that both runs have.

    Latencies of different machines are left out if there are counts to compare.

    Raises:
        DataError: the runs share neither a cell nor a count.
    """
    counts, uncounted = compare_counts(base, new)
    changes: list[Change] = []
    unmatched: list[str] = []
    note = None
    if counts and not (base.measurements and new.measurements):
        if base.measurements or new.measurements:
            note = "latencies are not compared, because only one run has them"
    else:
        try:
            changes, unmatched = compare(base, new)
        except DataError as error:
            if not counts:
                raise
            note = f"latencies are not compared: {error}"
    missing = [
        count_cell(count) for count in _missing(base.instruction_counts, new.instruction_counts)
    ]
    if base.environment.identity == new.environment.identity:
        missing = [*(each.cell for each in _missing(base.measurements, new.measurements)), *missing]
    return Comparison(changes, counts, [*unmatched, *uncounted], note, tuple(missing))


def _missing(base: Iterable[_Cell], new: Iterable[_Cell]) -> list[_Cell]:
    """Return the cells or counts that the new run lacks, although it has others."""
    keys = {each.key for each in new}
    return [each for each in base if keys and each.key not in keys]


def compare(base: BenchRun, new: BenchRun) -> tuple[list[Change], list[str]]:
    """Compare the cells that both runs measured.

    Returns:
        The changes, and a phrase for each cell that only one of the runs measured.

    Raises:
        DataError: the runs come from different machines, or share no cell.
    """
    if base.environment.identity != new.environment.identity:
        raise DataError(
            f"the runs come from different machines ({_machine(base)}; {_machine(new)}), so they"
            " cannot be compared; measure both on one machine"
        )
    base_cells = {measurement.key: measurement for measurement in base.measurements}
    new_cells = {measurement.key: measurement for measurement in new.measurements}
    shared = [key for key in base_cells if key in new_cells]
    if not shared:
        raise DataError("the runs share no cell; bench the same files on the same targets")
    resolution = max(base.precision, new.precision)
    base_parity, new_parity = _parity_by_pair(base), _parity_by_pair(new)
    changes = [
        Change(
            base_cells[key],
            new_cells[key],
            new_cells[key].ratio_to(
                base_cells[key], resolution=resolution, quantile=ranking_quantile(new)
            ),
            base_parity.get(key[:2]),
            new_parity.get(key[:2]),
        )
        for key in shared
    ]
    unmatched = [
        f"{artifact} on {target}, batch {batch_size}: only in the {run}"
        for run, cells, other_cells in (
            ("base", base_cells, new_cells), ("new run", new_cells, base_cells),
        )
        for artifact, target, batch_size, _ in cells.keys() - other_cells.keys()
    ]  # fmt: skip
    return changes, sorted(unmatched)


def count_verdicts(changes: Sequence[Change]) -> str:
    """Return the number of changes of each verdict: "2 faster, 1 slower, 3 equal"."""
    verdicts = [change.verdict for change in changes]
    return ", ".join(
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in ("faster", "slower", "equal", "invalid")
        if verdict in verdicts
    )


def _machine(run: BenchRun) -> str:
    machine = run.environment
    emulated = ", emulated" if machine.emulated else ""
    return f"{machine.machine}, {machine.architecture}, {machine.cores} cores{emulated}"


def _parity_by_pair(run: BenchRun) -> dict[tuple[str, str], ParityReport]:
    return {(report.candidate, report.target): report for report in run.parity}
