"""Latencies of one cell, pooled over several worker processes."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.formats import format_of
from lenet_edge.results.formatting import latency, microseconds, target_and_threads
from lenet_edge.results.process_samples import (
    MIN_SAMPLES_P90,
    MIN_SAMPLES_P99,
    ProcessSamples,
    instability,
)
from lenet_edge.results.stats import (
    LatencyRatio,
    Samples,
    count_outliers,
    latency_ratio,
    pooled_median_interval,
    quantile_interval,
)
from lenet_edge.support.html_table import html_table
from lenet_edge.target import Delegation


@dataclass(frozen=True)
class Measurement:
    """Latencies of one artifact on one target at one batch size and thread count.

    Every statistic is derived from the samples of all processes.

    Attributes:
        artifact: file name of the artifact.
        artifact_sha256: digest of the file.
        size_bytes: bytes to ship: the size of the file, or the machine code and constants that a C
            file was built to.
        built_for: architecture that a C file was built for; None for a file that ships as it is.
        target: name of the target.
        runtime_version: version of the runtime.
        batch_size: images per call.
        num_threads: threads of the session.
        processes: samples of each worker process. The JSON key is "trials".
        delegation: nodes that a delegate or device took; None if it is unknown.
        inputs: "test images", "random" or the name of the file with the inputs.
        state: "carried" if the model keeps a state from one call to the next, "reset" if each call
            begins with the same state; None for a model without state.
        arena_bytes: memory that a microcontroller would need for the tensors.
        energy_covers: parts of the machine whose energy the meter includes.
        invalid: reason not to use the figures; None if they are valid.
    """

    artifact: str
    artifact_sha256: str
    size_bytes: int
    target: str
    runtime_version: str
    batch_size: int
    num_threads: int
    processes: tuple[ProcessSamples, ...]
    delegation: Delegation | None = None
    inputs: str = "test images"
    arena_bytes: int | None = None
    energy_covers: str | None = None
    invalid: str | None = None
    state: str | None = None
    built_for: str | None = None

    def __repr__(self) -> str:
        on = target_and_threads(self.target, self.num_threads)
        doubt = ", invalid" if self.invalid else ""
        return (
            f"Measurement({self.artifact!r} on {on}, batch {self.batch_size}:"
            f" {latency(self.p50_s)} ± {self.half_width:.1%}{doubt})"
        )

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        return {
            "file": self.artifact,
            "target": target_and_threads(self.target, self.num_threads),
            "batch": f"{self.batch_size:,}",
            "p50 µs": microseconds(self.p50_s),
            "±": f"{self.half_width:.1%}",
            "p90 µs": microseconds(self.p90_s),
            "p99 µs": microseconds(self.p99_s),
            "images/s": f"{self.images_per_s:,.0f}",
            "bytes": self.size.replace(" bytes", ""),
            "doubts": self.invalid or "; ".join(self.instability),
        }

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Key of the cell in every run: file name, target, batch size, threads."""
        return self.artifact, self.target, self.batch_size, self.num_threads

    @property
    def has_source_size(self) -> bool:
        """True if `size_bytes` is the size of a C source, as in results of earlier versions."""
        format = format_of(Path(self.artifact))
        return self.built_for is None and format is not None and format.role == "program"

    @property
    def size(self) -> str:
        """Bytes to ship in words: "71,104 bytes", "80,120 bytes as built for x86_64"."""
        if self.has_source_size:
            return f"{self.size_bytes:,} bytes of C source"
        built = f" as built for {self.built_for}" if self.built_for else ""
        return f"{self.size_bytes:,} bytes{built}"

    @property
    def latencies_s(self) -> Samples:
        """Samples of all processes in seconds, float64 of shape (N,); joined on each access."""
        return np.concatenate(self.samples_by_process)

    @property
    def samples_by_process(self) -> list[Samples]:
        """Samples of each process in seconds, float64 of shape (N,)."""
        return [process.latencies_s for process in self.processes]

    def _median(self, name: str) -> float | None:
        """Return the median of a field over the processes; None if any process lacks it."""
        values = [getattr(process, name) for process in self.processes]
        return None if any(value is None for value in values) else float(np.median(values))

    @property
    def load_time_s(self) -> float:
        """Time to open the file and prepare the first batch: median over the processes."""
        return float(np.median([process.load_time_s for process in self.processes]))

    @property
    def first_inference_s(self) -> float:
        """Latency of the first call: median over the processes."""
        return float(np.median([process.first_inference_s for process in self.processes]))

    @property
    def prepare_s(self) -> float:
        """Median time to quantize a batch and copy it in."""
        return float(np.median([process.prepare_s for process in self.processes]))

    @property
    def readout_s(self) -> float:
        """Median time to copy the logits out and dequantize them."""
        return float(np.median([process.readout_s for process in self.processes]))

    @property
    def end_to_end_s(self) -> float:
        """Sum of the medians of preparing, inference and read-out."""
        return self.prepare_s + self.p50_s + self.readout_s

    @property
    def peak_rss_bytes(self) -> int:
        """Largest resident memory of any of the processes."""
        return max(process.peak_rss_bytes for process in self.processes)

    @functools.cached_property
    def p50_s(self) -> float:
        """Median latency of one call."""
        return float(np.median(self.latencies_s))

    def quantile_s(self, quantile: float) -> float:
        """Return a quantile of the latency, even if there are few samples."""
        return float(np.quantile(self.latencies_s, quantile))

    @property
    def mean_s(self) -> float:
        """Mean latency of one call."""
        return float(np.mean(self.latencies_s))

    @property
    def p90_s(self) -> float | None:
        """90th percentile; None below 64 samples."""
        return self._percentile(0.9, MIN_SAMPLES_P90)

    @property
    def p99_s(self) -> float | None:
        """99th percentile; None below 662 samples."""
        return self._percentile(0.99, MIN_SAMPLES_P99)

    def _percentile(self, quantile: float, min_samples: int) -> float | None:
        # A mean of several calls hides the slow calls, so it has no tail to report.
        if len(self.latencies_s) < min_samples or self.calls_per_sample > 1:
            return None
        return self.quantile_s(quantile)

    @property
    def calls_per_sample(self) -> int:
        """Number of calls that one sample is the mean of; 1 if every call was timed."""
        return max(process.calls_per_sample for process in self.processes)

    @functools.cached_property
    def p50_interval_s(self) -> tuple[float, float]:
        """95 % confidence interval of the median, over calls and processes."""
        low, high = pooled_median_interval(self.samples_by_process)
        return min(low, self.p50_s), max(high, self.p50_s)

    @property
    def half_width(self) -> float:
        """Half the width of the median's interval, relative to the median."""
        low, high = self.p50_interval_s
        return (high - low) / 2 / self.p50_s if self.p50_s else 0.0

    @property
    def images_per_s(self) -> float:
        """Throughput, from the mean latency: every slow call counts."""
        return self.batch_size / self.mean_s if self.mean_s else 0.0

    @property
    def energy_j(self) -> float | None:
        """Joules per image, for the parts in `energy_covers`; None without a meter."""
        energy = self._median("energy_j")
        return None if energy is None else energy / self.batch_size

    def ratio_to(
        self,
        other: Measurement,
        paired: bool = False,
        resolution: float = 0.0,
        quantile: float | None = 0.5,
    ) -> LatencyRatio:
        """Return this latency divided by another's; see `stats.latency_ratio`."""
        return latency_ratio(
            self.samples_by_process, other.samples_by_process, paired, resolution, quantile
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields, the packed samples and the derived figures as a JSON object."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        facts["trials"] = [process.to_json() for process in facts.pop("processes")]
        facts["delegation"] = self.delegation and dataclasses.asdict(self.delegation)
        return {**facts, "derived": self.derived}

    @functools.cached_property
    def derived(self) -> dict[str, Any]:
        """Figures computed from the samples, by name."""
        samples = self.latencies_s
        p90, p99 = self.p90_s, self.p99_s
        return {
            "num_runs": len(samples),
            "num_processes": len(self.processes),
            "p50_s": self.p50_s,
            "p50_interval_s": self.p50_interval_s,
            "p90_s": p90,
            "p90_interval_s": None if p90 is None else quantile_interval(samples, 0.9),
            "p99_s": p99,
            "p99_interval_s": None if p99 is None else quantile_interval(samples, 0.99),
            "mean_s": self.mean_s,
            "stdev_s": float(np.std(samples)),
            "min_s": float(np.min(samples)),
            "outliers": count_outliers(samples),
            "images_per_s": self.images_per_s,
            "load_time_s": self.load_time_s,
            "first_inference_s": self.first_inference_s,
            "prepare_s": self.prepare_s,
            "readout_s": self.readout_s,
            "end_to_end_s": self.end_to_end_s,
            "timer_s": self._median("timer_s"),
            "null_s": self._median("null_s"),
            "peak_rss_bytes": self.peak_rss_bytes,
            "rss_growth_bytes": self._median("rss_growth_bytes"),
            "energy_j_per_image": self.energy_j,
            "instability": self.instability,
        }

    @functools.cached_property
    def instability(self) -> tuple[str, ...]:
        """Reasons to doubt the figures, each as a phrase."""
        return instability(self.processes)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Measurement:
        """Return the measurement that `to_json` wrote; compute the derived figures again."""
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        known["processes"] = tuple(map(ProcessSamples.from_json, facts["trials"]))
        known["delegation"] = Delegation.from_json(facts["delegation"])
        return cls(**known)
