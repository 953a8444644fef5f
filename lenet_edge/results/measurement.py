"""Latencies of one cell, measured by several worker processes."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.formats import format_of
from lenet_edge.results.formatting import latency, microseconds, target_and_threads
from lenet_edge.results.latency_estimate import (
    LatencyEstimate,
    LatencyRatio,
    estimate_latency,
    find_undisturbed,
    latency_ratio,
    process_latencies,
)
from lenet_edge.results.process_samples import (
    MIN_SAMPLES_P90,
    MIN_SAMPLES_P99,
    MIN_SAMPLES_P999,
    ProcessSamples,
    disturbances,
    undisturbed,
)
from lenet_edge.results.stats import Samples, count_outliers
from lenet_edge.support.html_table import html_table
from lenet_edge.target import Delegation


@dataclass(frozen=True)
class Measurement:
    """Latencies of one artifact on one target at one batch size and thread count.

    The latency, its percentiles and the throughput are estimated from the processes that were not
    disturbed as a whole; see `latency_estimate`. The other statistics are of all samples.

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
    def cell(self) -> str:
        """Name of the cell: "lenet_int8.tflite on litert-xnnpack ×4, batch 8"."""
        target = target_and_threads(self.target, self.num_threads)
        return f"{self.artifact} on {target}, batch {self.batch_size}"

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
    def undisturbed(self) -> npt.NDArray[np.bool_]:
        """True for each process that was not slow as a whole, bool of shape (N,)."""
        return undisturbed(self.processes)

    @property
    def num_disturbed(self) -> int:
        """Number of processes that were slow as a whole, and that the estimates leave out."""
        return len(self.processes) - int(self.undisturbed.sum())

    @functools.cached_property
    def _estimates(self) -> dict[float | None, LatencyEstimate]:
        return {}

    def estimate(self, quantile: float | None = 0.5) -> LatencyEstimate:
        """Return the estimate of a quantile of the latency; None selects the mean."""
        if quantile not in self._estimates:
            self._estimates[quantile] = estimate_latency(
                self.samples_by_process, self._kept(quantile), quantile
            )
        return self._estimates[quantile]

    def _kept(self, quantile: float | None) -> npt.NDArray[np.bool_]:
        """Return the processes that an estimate uses, bool of shape (N,).

        A stall of some milliseconds changes no quantile and ruins a mean. So the mean also leaves
        out the processes whose mean is behind a gap.
        """
        kept = self.undisturbed.copy()
        if quantile is None:
            means = process_latencies(self.samples_by_process, None)
            boards = [process.board for process in self.processes]
            indexes = np.flatnonzero(kept)
            kept[indexes] = find_undisturbed(
                means[indexes].tolist(), [boards[index] for index in indexes.tolist()]
            )
        return kept

    @property
    def p50_s(self) -> float:
        """Median latency of one call."""
        return self.estimate().value

    def quantile_s(self, quantile: float) -> float:
        """Return a quantile of all samples, even if there are few."""
        return float(np.quantile(self.latencies_s, quantile))

    @property
    def mean_s(self) -> float:
        """Mean latency of one call."""
        return self.estimate(None).value

    @property
    def p90_s(self) -> float | None:
        """90th percentile; None below 64 samples."""
        return self.estimate(0.9).value if self._has_tail(MIN_SAMPLES_P90) else None

    @property
    def p99_s(self) -> float | None:
        """99th percentile; None below 662 samples."""
        return self.estimate(0.99).value if self._has_tail(MIN_SAMPLES_P99) else None

    @functools.cached_property
    def p999_s(self) -> float | None:
        """99.9th percentile of the undisturbed processes' samples; None below 6,636 samples."""
        if not self._has_tail(MIN_SAMPLES_P999):
            return None
        return float(np.quantile(np.concatenate(self._undisturbed_samples), 0.999))

    @property
    def jitter_s(self) -> float | None:
        """99th percentile minus the median; None below 662 samples."""
        return None if self.p99_s is None else self.p99_s - self.p50_s

    @property
    def _undisturbed_samples(self) -> list[Samples]:
        pairs = zip(self.samples_by_process, self.undisturbed, strict=True)
        return [samples for samples, is_kept in pairs if is_kept]

    @property
    def _num_undisturbed_samples(self) -> int:
        return sum(map(len, self._undisturbed_samples))

    def _has_tail(self, min_samples: int) -> bool:
        # A mean of several calls hides the slow calls, so it has no tail to report.
        return self._num_undisturbed_samples >= min_samples and self.calls_per_sample == 1

    @property
    def calls_per_sample(self) -> int:
        """Number of calls that one sample is the mean of; 1 if every call was timed."""
        return max(process.calls_per_sample for process in self.processes)

    @property
    def p50_interval_s(self) -> tuple[float, float]:
        """95 % confidence interval of the median, over calls and processes."""
        return self.estimate().interval

    @property
    def half_width(self) -> float:
        """Half the width of the median's interval, relative to the median."""
        return self.estimate().half_width

    @property
    def images_per_s(self) -> float:
        """Throughput, from the mean latency: slow calls count, unless they stall one process."""
        return self.batch_size / self.mean_s if self.mean_s else 0.0

    @property
    def images_per_s_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the throughput."""
        mean = self.estimate(None)
        low, high = (self.batch_size / s if s else 0.0 for s in (mean.high, mean.low))
        return low, high

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
        """Return this latency divided by another's; see `latency_estimate.latency_ratio`.

        Args:
            other: the other measurement.
            paired: True if the processes of one round ran in the same minutes, so that a slow phase
                of the machine cancels.
            resolution: relative precision of the samples.
            quantile: the quantile of the latency; None for the mean.
        """
        pairs = []
        if paired:
            own, others = self._by_round(quantile), other._by_round(quantile)
            pairs = [(own[key], others[key]) for key in own if key in others]
        return latency_ratio(self.estimate(quantile), other.estimate(quantile), pairs, resolution)

    def _by_round(self, quantile: float | None) -> dict[tuple[str | None, int], float]:
        """Return the latency in each process, by board and round."""
        if quantile not in self._latencies_by_round:
            numbers: dict[str | None, int] = {}
            latencies = self._latencies_by_round[quantile] = {}
            values = process_latencies(self.samples_by_process, quantile).tolist()
            for process, value in zip(self.processes, values, strict=True):
                index = numbers[process.board] = numbers.get(process.board, 0) + 1
                latencies[process.board, process.round or index] = value
        return self._latencies_by_round[quantile]

    @functools.cached_property
    def _latencies_by_round(self) -> dict[float | None, dict[tuple[str | None, int], float]]:
        return {}

    def with_labels(self, **labels: int | str | None) -> Measurement:
        """Return the same measurement, whose processes have another `round` or `board`."""
        processes = tuple(process.with_labels(**labels) for process in self.processes)
        return dataclasses.replace(self, processes=processes)

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
            "num_disturbed_processes": self.num_disturbed,
            "p50_s": self.p50_s,
            "p50_interval_s": self.p50_interval_s,
            "p90_s": p90,
            "p90_interval_s": None if p90 is None else self.estimate(0.9).interval,
            "p99_s": p99,
            "p99_interval_s": None if p99 is None else self.estimate(0.99).interval,
            "p999_s": self.p999_s,
            "jitter_s": self.jitter_s,
            "mean_s": self.mean_s,
            "stdev_s": float(np.std(samples)),
            "min_s": float(np.min(samples)),
            "outliers": count_outliers(samples),
            "images_per_s": self.images_per_s,
            "images_per_s_interval": self.images_per_s_interval,
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
        count = self._num_undisturbed_samples
        few = (f"{count} samples, too few for p99",) if count < MIN_SAMPLES_P99 else ()
        return (*few, *self.disturbances)

    @functools.cached_property
    def disturbances(self) -> tuple[str, ...]:
        """Signs that something disturbed the processes, each as a phrase."""
        return disturbances(self.processes, self.undisturbed)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Measurement:
        """Return the measurement that `to_json` wrote; compute the derived figures again."""
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        known["processes"] = tuple(map(ProcessSamples.from_json, facts["trials"]))
        known["delegation"] = Delegation.from_json(facts["delegation"])
        return cls(**known)
