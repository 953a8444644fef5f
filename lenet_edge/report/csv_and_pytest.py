"""Results as CSV and as the JSON of pytest-benchmark, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.results.result_file import BenchRun, Measurement
from lenet_edge.support.files import atomic_write
from lenet_edge.support.printable import make_printable

_FACTS = ("artifact", "artifact_sha256", "size_bytes", "target", "runtime_version", "batch_size",
          "num_threads", "inputs", "calls_per_sample", "invalid")  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_csv(run: BenchRun) -> str:
    """Return a header and one row for each measurement; an interval takes two columns."""
    rows = [
        {"machine": run.environment.machine, "emulated": run.environment.emulated, **_row(cell)}
        for cell in run.measurements
    ]
    return rows_to_csv(rows, "machine")


def rows_to_csv(rows: Sequence[Mapping[str, Any]], first_column: str) -> str:
    """Return a header and rows with the same columns; without rows, the first column's name.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else [first_column], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _safe_cell(value: Any) -> Any:
    """Return the value of a cell; numbers keep their sign. Source: OWASP, CSV injection."""
    if not isinstance(value, str):
        return value
    text = make_printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def _row(measurement: Measurement) -> dict[str, Any]:
    row = {name: getattr(measurement, name) for name in _FACTS}
    for name, value in measurement.derived.items():
        if "_interval" in name:
            low, high = value or (None, None)
            row[f"{name}_low"], row[f"{name}_high"] = low, high
        elif name == "instability":
            row[name] = "; ".join(value)
        else:
            row[name] = value
    return row


def to_pytest_benchmark(run: BenchRun) -> str:
    """Return the run in the format of ``pytest --benchmark-json``, version 5."""
    machine = run.environment
    facts = {
        "machine_info": {
            "node": machine.machine,
            "machine": machine.architecture,
            "system": machine.operating_system,
            "release": machine.kernel,
            "python_version": machine.python,
            "python_implementation": "CPython",
            "cpu": {"brand_raw": machine.cpu, "count": machine.cores},
        },
        "commit_info": {"id": run.git_commit, "dirty": bool(run.git_dirty), "time": run.created_at},
        "benchmarks": [_benchmark(cell) for cell in run.measurements],
        "datetime": run.created_at,
        "version": "5.0.0",
    }
    return json.dumps(facts, indent=1) + "\n"


def _benchmark(cell: Measurement) -> dict[str, Any]:
    name = f"{cell.artifact}-{cell.target}-b{cell.batch_size}-t{cell.num_threads}"
    return {
        "group": f"batch {cell.batch_size}",
        "name": name,
        "fullname": f"lenet-edge bench::{name}",
        "params": None,
        "param": None,
        "extra_info": {"artifact_sha256": cell.artifact_sha256, "invalid": cell.invalid},
        "options": {"disable_gc": True, "timer": "perf_counter_ns", "warmup": True},
        "stats": _stats(cell),
    }


def _stats(cell: Measurement) -> dict[str, Any]:
    samples = cell.latencies_s
    mean, deviation = float(samples.mean()), float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    q1, q3 = (float(value) for value in np.percentile(samples, (25, 75)))
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    by_iqr = int(np.count_nonzero((samples < low) | (samples > high)))
    by_deviation = int(np.count_nonzero(np.abs(samples - mean) > deviation))
    return {
        "min": float(samples.min()),
        "max": float(samples.max()),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(samples),
        "median": cell.p50_s,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": by_iqr,
        "stddev_outliers": by_deviation,
        "outliers": f"{by_deviation};{by_iqr}",
        "ld15iqr": float(samples[samples >= low].min()),
        "hd15iqr": float(samples[samples <= high].max()),
        "ops": 1 / mean if mean else 0.0,
        "total": float(samples.sum()) * cell.calls_per_sample,
        "iterations": cell.calls_per_sample,
    }
