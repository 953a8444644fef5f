"""The cells that could be shipped, and what excludes each: its parity, its samples or a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lenet_edge.errors import DataError
from lenet_edge.report.rank import latency_s
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport


@dataclass(frozen=True)
class Limits:
    """What a file may cost; None is not looked at.

    `max_accuracy_drop` is in percentage points, of what was measured on the test images.
    `max_latency_s` bounds the figure that the run is ranked by, the median unless its scenario
    says otherwise, of a whole batch. Without `batch_size` the smallest that was measured decides.
    """

    max_accuracy_drop: float | None = None
    max_latency_s: float | None = None
    max_bytes: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True, eq=False)
class JudgedCell:
    """A cell that could have been chosen, and in words why it was not.

    `missed` are the factors by which it misses the limits; infinity where none could help.
    """

    measurement: Measurement
    parity: ParityReport | None
    why_not: str = ""
    missed: tuple[float, ...] = ()

    def __str__(self) -> str:
        one = self.measurement
        return f"{one.artifact} on {one.target}, {threads(one)}"

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        cells = self.measurement.html_row()
        columns = ("file", "target", "batch", "p50 µs", "bytes")
        return {**{name: cells[name] for name in columns}, "why not": self.why_not}

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        return {**cell(self.measurement), "why_not": self.why_not}


def edge_cells(run: BenchRun, batch_size: int | None) -> list[Measurement]:
    """Return the cells of exported files, at one batch size or at all.

    Raises:
        DataError: nothing was measured at that batch size.
    """
    cells = [
        one
        for one in run.measurements
        if not one.artifact.endswith(".keras") and one.target != "null"
    ]
    sizes = {one.batch_size for one in cells}
    if cells and batch_size is not None and batch_size not in sizes:
        raise DataError(
            f"nothing was measured at batch {batch_size}, only at"
            f" {', '.join(map(str, sorted(sizes)))}; bench it with --batch-size {batch_size}"
        )
    return [one for one in cells if batch_size in (None, one.batch_size)]


def judge(one: Measurement, run: BenchRun, limits: Limits, quantile: float | None) -> JudgedCell:
    """Say what excludes a cell: its parity, its own measurement, a fallback, or the limits."""
    accepted = "pass" if any(report.passed for report in run.parity) else "inconclusive"
    parity = next(
        (r for r in run.parity
         if (r.candidate_sha256, r.target) == (one.artifact_sha256, one.target)),
        None,
    )  # fmt: skip
    if parity is None:
        return JudgedCell(one, None, "was not verified", (math.inf,))
    if parity.verdict != accepted:
        said = "fails parity" if parity.verdict == "fail" else "was verified on too few images"
        return JudgedCell(one, parity, ": ".join((said, *parity.reasons[:1])), (math.inf,))
    if one.invalid:
        return JudgedCell(one, parity, f"was not measured well: {one.invalid}", (math.inf,))
    if run.environment.emulated:
        return JudgedCell(one, parity, "was measured on an emulated processor", (math.inf,))
    if one.delegation and not one.delegation.is_complete:
        return JudgedCell(one, parity, f"is partial: {one.delegation}", (math.inf,))
    missed = list(_missed(one, parity, limits, quantile))
    words, factors = " and ".join(said for said, _ in missed), tuple(by for _, by in missed)
    return JudgedCell(one, parity, words, factors)


def _missed(
    one: Measurement, parity: ParityReport, limits: Limits, quantile: float | None
) -> Iterator[tuple[str, float]]:
    """Give the limits that a cell does not keep, in words, and by which factor."""
    taken, size, drop = latency_s(one, quantile), one.size_bytes, parity.accuracy_drop
    if limits.max_latency_s is not None and taken > limits.max_latency_s:
        words = f"takes {us(taken)}, more than the {us(limits.max_latency_s)} of --max-latency"
        yield words, taken / limits.max_latency_s
    if limits.max_bytes is not None and size > limits.max_bytes:
        words = f"is {size:,} bytes, more than the {limits.max_bytes:,} of --max-bytes"
        yield words, size / limits.max_bytes
    if limits.max_accuracy_drop is None:
        return
    if drop is None:
        yield "was verified without labels, so that its accuracy is not known", math.inf
    elif drop > limits.max_accuracy_drop:
        words = f"loses {drop:.2f} points of accuracy, more than the {limits.max_accuracy_drop:g}"
        yield f"{words} of --max-accuracy-drop", drop / max(limits.max_accuracy_drop, 0.01)


def cell(one: Measurement) -> dict[str, Any]:
    """Return what names a cell, and its median, as JSON."""
    name, target, batch_size, num_threads = one.key
    return {
        "artifact": name,
        "artifact_sha256": one.artifact_sha256,
        "size_bytes": one.size_bytes,
        "target": target,
        "batch_size": batch_size,
        "num_threads": num_threads,
        "p50_s": one.p50_s,
    }


def threads(one: Measurement) -> str:
    """Return "1 thread" or "4 threads"."""
    return f"{one.num_threads} thread{'s' if one.num_threads > 1 else ''}"


def us(seconds: float) -> str:
    """Return a latency as people read it, such as "4.7 µs" or "1.2 ms"."""
    if seconds >= 1e-3:
        return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:,.2f} s"
    return f"{seconds * 1e6:.1f} µs"
