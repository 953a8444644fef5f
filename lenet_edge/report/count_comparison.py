"""Comparison of the instruction counts of two runs, which may come from different machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.results.result_file import BenchRun
from lenet_edge.support.printable import make_printable


@dataclass(frozen=True)
class CountChange:
    """One file on one emulated processor in a base run and a new run.

    A count has no interval: any difference is a change of the program.
    """

    base: InstructionCount
    new: InstructionCount

    @property
    def ratio(self) -> float:
        """New instructions over base instructions."""
        if self.base.instructions == self.new.instructions:
            return 1.0
        return self.new.instructions / self.base.instructions if self.base.instructions else 2.0

    @property
    def verdict(self) -> str:
        """Verdict on the instructions: "more", "fewer" or "equal"."""
        return "equal" if self.ratio == 1 else "more" if self.ratio > 1 else "fewer"

    @property
    def largest_layer(self) -> tuple[str, float] | None:
        """The layer whose instructions changed most, and their difference; None if none changed."""
        base, new = self.base.layers or {}, self.new.layers or {}
        changes = {name: new[name] - base[name] for name in base if name in new}
        changed = [(name, change) for name, change in changes.items() if change]
        return max(changed, key=lambda each: abs(each[1]), default=None)

    @property
    def compilers_differ(self) -> bool:
        """True if the two programs were made by different compilers or with different flags."""
        return (self.base.compiler, self.base.flags) != (self.new.compiler, self.new.flags)

    def regression(self, fail_above: float) -> str | None:
        """Return the regression as a phrase, or None if there is none.

        Args:
            fail_above: relative increase that is still accepted.
        """
        if self.ratio <= 1 + fail_above:
            return None
        layer = self.largest_layer
        part = f", most in {make_printable(layer[0])} ({layer[1]:+,.0f})" if layer else ""
        return f"{self.ratio - 1:.2%} more instructions{part}"

    @property
    def cell(self) -> str:
        """Name of the cell; see `count_cell`."""
        return count_cell(self.base)

    def to_json(self, fail_above: float) -> dict[str, Any]:
        """Return the change as a JSON object."""
        return {
            "artifact": self.base.artifact,
            "target": self.base.target,
            "cpu": self.base.cpu,
            "base": self.base.to_json(),
            "new": self.new.to_json(),
            "ratio": self.ratio,
            "verdict": self.verdict,
            "compilers_differ": self.compilers_differ,
            "regression": self.regression(fail_above),
        }


def count_cell(count: InstructionCount) -> str:
    """Return the name of a count's cell: "lenet_native_int8.c on cortex-m4"."""
    return make_printable(f"{count.artifact} on {count.cpu}")


def compare_counts(base: BenchRun, new: BenchRun) -> tuple[list[CountChange], list[str]]:
    """Compare the instruction counts that both runs have.

    Returns:
        The changes, and a phrase for each count that only one of the runs has.
    """
    base_counts = {count.key: count for count in base.instruction_counts}
    new_counts = {count.key: count for count in new.instruction_counts}
    changes = [
        CountChange(count, new_counts[key])
        for key, count in sorted(base_counts.items())
        if key in new_counts
    ]
    unmatched = [
        make_printable(f"{artifact} on {cpu}: counted only in the {run}")
        for run, counts, others in (
            ("base", base_counts, new_counts), ("new run", new_counts, base_counts),
        )
        for artifact, _, cpu in counts.keys() - others.keys()
    ]  # fmt: skip
    return changes, sorted(unmatched)
