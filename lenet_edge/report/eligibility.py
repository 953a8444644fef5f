"""Cells that may be shipped, and the reasons that exclude the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.errors import DataError
from lenet_edge.formats import format_of
from lenet_edge.report.rank import ranking_latency_s
from lenet_edge.results.formatting import latency, plural
from lenet_edge.results.result_file import BenchRun, InstructionCount, Measurement, ParityReport


@dataclass(frozen=True)
class Limits:
    """Limits that a cell must keep to be recommended; None sets no limit.

    Attributes:
        max_accuracy_drop: in percentage points, on the test images.
        max_latency_s: of a whole batch. It applies to the figure that ranks the run: the median,
            unless the scenario selects another.
        max_bytes: bytes to ship.
        batch_size: batch size to consider; by default the smallest measured one that fits.
        max_flash_bytes, max_ram_bytes: memory of a microcontroller, where the instructions of a
            file were counted. Of several cores, the one with the largest figure decides.
    """

    max_accuracy_drop: float | None = None
    max_latency_s: float | None = None
    max_bytes: int | None = None
    batch_size: int | None = None
    max_flash_bytes: int | None = None
    max_ram_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class JudgedCell:
    """Measured cell with the reasons not to ship it.

    Attributes:
        measurement: latencies of the cell.
        parity: comparison with the reference; None if the pair was not verified.
        why_not: reasons not to choose the cell, as a phrase that continues "the file ...".
        missed_by: factors by which it misses the limits; infinity if other limits could not help.
            Empty if the cell is eligible.
    """

    measurement: Measurement
    parity: ParityReport | None
    why_not: str = ""
    missed_by: tuple[float, ...] = ()

    def __str__(self) -> str:
        return cell_name(self.measurement)

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        cells = self.measurement.html_row()
        columns = ("file", "target", "batch", "p50 µs", "bytes")
        return {**{name: cells[name] for name in columns}, "why not": self.why_not}

    def to_json(self) -> dict[str, Any]:
        """Return the cell as a JSON object."""
        return {**cell_to_json(self.measurement), "why_not": self.why_not}


def exported_cells(run: BenchRun, batch_size: int | None) -> list[Measurement]:
    """Return the measurements of exported files, at one batch size or at all.

    Checkpoints are left out because they are not edge files, and so is the null target.

    Raises:
        DataError: nothing was measured at that batch size.
    """
    cells = [measurement for measurement in run.measurements if is_exported(measurement)]
    sizes = {measurement.batch_size for measurement in cells}
    if cells and batch_size is not None and batch_size not in sizes:
        raise DataError(
            f"nothing was measured at batch {batch_size}, only at"
            f" {', '.join(map(str, sorted(sizes)))}; bench it with --batch-size {batch_size}"
        )
    return [cell for cell in cells if batch_size in (None, cell.batch_size)]


def is_exported(measurement: Measurement) -> bool:
    """Return True for an exported file on a real target: no checkpoint, not the null target."""
    return not _is_checkpoint(measurement.artifact) and measurement.target != "null"


def _is_checkpoint(artifact: str) -> bool:
    format = format_of(Path(artifact))
    return format is not None and format.role == "checkpoint"


def too_large_files(run: BenchRun, limits: Limits) -> list[str]:
    """Return each file with the memory that it exceeds; none if the memory of a file is in doubt.

    No latency is needed: a file that exceeds the memory cannot be shipped, however fast it is.
    """
    files = {report.candidate_sha256: report.candidate for report in run.parity}
    files |= {count.artifact_sha256: count.artifact for count in run.instruction_counts}
    phrases = []
    for sha256, name in files.items():
        if _is_checkpoint(name):
            continue
        missed = [
            reason
            for reason, factor in _missed_memory(_counts_of(sha256, run), limits)
            if math.isfinite(factor)
        ]
        if not missed:
            return []
        phrases.append(f"{name} {' and '.join(missed)}")
    return phrases


def judge(
    measurement: Measurement, run: BenchRun, limits: Limits, quantile: float | None
) -> JudgedCell:
    """Return a cell with the reasons that exclude it.

    A reason is its parity, an invalid measurement, an incomplete delegation, or a limit.
    """
    # If no pair could pass, because of too few images or an assumption, inconclusive pairs are
    # accepted.
    accepted = "pass" if any(report.passed for report in run.parity) else "inconclusive"
    parity = next(
        (
            report
            for report in run.parity
            if report.candidate_sha256 == measurement.artifact_sha256
            and report.target == measurement.target
        ),
        None,
    )
    if parity is None:
        reason = "was not verified"
    elif parity.verdict != accepted:
        failure = "failed parity" if parity.verdict == "fail" else "was not judged for certain"
        reason = ": ".join((failure, *parity.reasons[:1]))
    elif measurement.invalid:
        reason = f"has invalid latencies: {measurement.invalid}"
    elif run.environment.emulated:
        reason = "was measured on an emulated CPU"
    elif measurement.delegation and measurement.delegation.falls_back:
        reason = f"runs only partly on its delegate: {measurement.delegation}"
    else:
        missed = list(_missed_limits(measurement, parity, limits, quantile))
        missed += _missed_memory(_counts_of(measurement.artifact_sha256, run), limits)
        reasons = " and ".join(reason for reason, _ in missed)
        return JudgedCell(measurement, parity, reasons, tuple(factor for _, factor in missed))
    return JudgedCell(measurement, parity, reason, (math.inf,))


def _counts_of(sha256: str, run: BenchRun) -> list[InstructionCount]:
    return [count for count in run.instruction_counts if count.artifact_sha256 == sha256]


def _missed_limits(
    measurement: Measurement, parity: ParityReport, limits: Limits, quantile: float | None
) -> Iterator[tuple[str, float]]:
    """Yield each limit that a cell misses: the reason, and the factor."""
    seconds = ranking_latency_s(measurement, quantile)
    size, drop = measurement.size_bytes, parity.accuracy_drop
    if limits.max_latency_s is not None and seconds > limits.max_latency_s:
        yield (
            f"takes {latency(seconds)}, more than the {latency(limits.max_latency_s)} of"
            " --max-latency",
            seconds / limits.max_latency_s,
        )
    if limits.max_bytes is not None and measurement.has_source_size:
        yield "has an unknown size as built; bench it again", math.inf
    elif limits.max_bytes is not None and size > limits.max_bytes:
        yield (
            f"has {measurement.size}, more than the {limits.max_bytes:,} of --max-bytes",
            size / limits.max_bytes,
        )
    if limits.max_accuracy_drop is None:
        return
    if drop is None:
        yield "was verified without labels, so its accuracy is unknown", math.inf
    elif drop > limits.max_accuracy_drop:
        yield (
            f"loses {drop:.2f} points of accuracy, more than the {limits.max_accuracy_drop:g} of"
            " --max-accuracy-drop",
            drop / max(limits.max_accuracy_drop, 0.01),
        )


def _missed_memory(
    counts: Sequence[InstructionCount], limits: Limits
) -> Iterator[tuple[str, float]]:
    """Yield each limit of flash and RAM that a file misses: the reason, and the factor."""
    unknown = []
    for memory, limit, figures in (
        ("flash", limits.max_flash_bytes, [(c.flash_total_bytes, c.cpu) for c in counts]),
        ("RAM", limits.max_ram_bytes, [(c.ram_total_bytes, c.cpu) for c in counts]),
    ):
        if limit is None:
            continue
        known = [(size, core) for size, core in figures if size is not None]
        if not known:
            unknown.append(memory)
            continue
        size, core = max(known)
        if size > limit:
            yield (
                f"takes {size:,} bytes of {memory} on a {core}, more than the {limit:,} of"
                f" --max-{memory.lower()}",
                size / limit,
            )
    if unknown:
        yield (
            f"has no known need of {' and '.join(unknown)}; count a C file with bench --count"
            " cortex-m4",
            math.inf,
        )


def cell_name(measurement: Measurement) -> str:
    """Return a cell's name: "lenet_int8.tflite on litert-xnnpack with 1 thread"."""
    threads = plural(measurement.num_threads, "thread")
    return f"{measurement.artifact} on {measurement.target} with {threads}"


def cell_to_json(measurement: Measurement) -> dict[str, Any]:
    """Return a cell's key, file and median latency as a JSON object."""
    artifact, target, batch_size, num_threads = measurement.key
    return {
        "artifact": artifact,
        "artifact_sha256": measurement.artifact_sha256,
        "size_bytes": measurement.size_bytes,
        "target": target,
        "batch_size": batch_size,
        "num_threads": num_threads,
        "p50_s": measurement.p50_s,
    }
