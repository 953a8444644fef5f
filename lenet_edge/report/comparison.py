"""Two runs of one machine, cell by cell: what became faster or slower, and what became wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lenet_edge.errors import DataError
from lenet_edge.report.rank import quantile_of
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.results.stats import LatencyRatio


@dataclass(frozen=True)
class Change:
    """One cell in both runs; `ratio` is the new latency over the old."""

    base: Measurement
    new: Measurement
    ratio: LatencyRatio
    base_parity: ParityReport | None
    new_parity: ParityReport | None

    @property
    def verdict(self) -> str:
        """Whether the interval of the ratio shows it "slower", "faster", or only "equal"."""
        if self.new.invalid or self.base.invalid:
            return "invalid"
        if self.ratio.equal:
            return "equal"
        return "slower" if self.ratio.value > 1 else "faster"

    @property
    def accuracy_change(self) -> float | None:
        """Percentage points of accuracy gained; None where either run does not tell it."""
        base, new = (
            None if parity is None else parity.candidate_accuracy
            for parity in (self.base_parity, self.new_parity)
        )
        return None if base is None or new is None else 100 * (new - base)

    def regression(self, fail_above: float) -> str | None:
        """Return in words what became worse, or None.

        Args:
            fail_above: how much slower, relative, is still borne; what is not shown to be slower
                is always borne.
        """
        if self.verdict == "slower" and self.ratio.value > 1 + fail_above:
            return f"{self.ratio.value - 1:.1%} slower"
        if self.new.invalid and not self.base.invalid:
            return f"no longer valid: {self.new.invalid}"
        old, now = self.base_parity, self.new_parity
        if old is not None and now is not None and old.passed and not now.passed:
            return "no longer passes parity"
        return None

    def to_json(self, fail_above: float) -> dict[str, Any]:
        """Return what a JSON file holds."""
        name, target, batch_size, num_threads = self.base.key
        return {
            "artifact": name,
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


def compare(base: BenchRun, new: BenchRun) -> tuple[list[Change], list[str]]:
    """Return the cells that both runs measured, and those that only one of them did, in words.

    Raises:
        DataError: the runs are of different machines, or share no cell.
    """
    if base.environment.identity != new.environment.identity:
        raise DataError(
            f"the runs are of different machines ({_machine(base)}; {_machine(new)}) and cannot be"
            " compared; measure both on one"
        )
    old = {one.key: one for one in base.measurements}
    now = {one.key: one for one in new.measurements}
    shared = [key for key in old if key in now]
    if not shared:
        raise DataError("the runs share no cell; bench the same files on the same targets")
    resolution = max(run.settings.get("precision", 0.0) for run in (base, new))
    before, after = _parity(base), _parity(new)
    changes = [
        Change(
            old[key],
            now[key],
            now[key].ratio_to(old[key], resolution=resolution, quantile=quantile_of(new)),
            before.get(key[:2]),
            after.get(key[:2]),
        )
        for key in shared
    ]
    lonely = [
        f"{name} on {target}, batch {batch_size}: only in the {which}"
        for which, mine, others in (("base", old, now), ("new run", now, old))
        for name, target, batch_size, _ in mine.keys() - others.keys()
    ]
    return changes, sorted(lonely)


def _machine(run: BenchRun) -> str:
    machine = run.environment
    emulated = ", emulated" if machine.emulated else ""
    return f"{machine.machine}, {machine.architecture}, {machine.cores} cores{emulated}"


def _parity(run: BenchRun) -> dict[tuple[str, str], ParityReport]:
    return {(one.candidate, one.target): one for one in run.parity}
