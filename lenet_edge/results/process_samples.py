"""Samples that one worker process took of one cell, and signs that they are unstable."""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.machine.conditions import Conditions
from lenet_edge.results.formatting import microseconds, plural
from lenet_edge.results.latency_estimate import find_undisturbed
from lenet_edge.results.stats import Samples, two_modes

# Far more than --max-time permits. The limit stops a small file from unpacking to gigabytes.
_MAX_SAMPLES = 2**22
_ENCODING = "base64 of zlib of little-endian uint32 nanoseconds"

# Source: MLPerf inference rules. With fewer samples, chance decides the value of the percentile.
MIN_SAMPLES_P90 = 64
MIN_SAMPLES_P99 = 662
MIN_SAMPLES_P999 = 6636


@dataclass(frozen=True)
class ProcessSamples:
    """Samples, costs and conditions of one worker process.

    Attributes:
        latencies_s: samples of `infer` in the order of measurement, float64 of shape (N,). Each
            is the time of one call, or the mean of `calls_per_sample` calls if reading the clock
            would cost too much.
        load_time_s: time to open the model and prepare the first batch.
        first_inference_s: time of the first call.
        prepare_s: median time to quantize a batch and copy it in.
        readout_s: median time to copy the logits out and dequantize them.
        warmup_runs: number of calls before sampling.
        peak_rss_bytes: largest resident memory of the process; 0 where the system does not say.
        settled: True if the latency stopped falling during the warm-up.
        timer_s: time of two clock reads with nothing between them.
        null_s: latency of the null session's `infer`, sampled in the same way.
        rss_growth_bytes: peak resident memory minus that before the runtime was loaded.
        preempted: number of times that another process took the core.
        energy_j: joules per call, for the parts that `Measurement.energy_covers` names.
        seconds: duration of sampling.
        before: conditions of the machine before sampling.
        after: conditions of the machine after sampling.
        round: number of the round of the plan; None in files of earlier versions, which list the
            processes in the order of the rounds.
        board: name of the board, if the processes of several boards are pooled.
    """

    latencies_s: Samples
    load_time_s: float
    first_inference_s: float
    prepare_s: float
    readout_s: float
    warmup_runs: int
    peak_rss_bytes: int
    settled: bool = True
    calls_per_sample: int = 1
    timer_s: float | None = None
    null_s: float | None = None
    rss_growth_bytes: int | None = None
    preempted: int | None = None
    energy_j: float | None = None
    seconds: float | None = None
    before: Conditions = field(default_factory=Conditions)
    after: Conditions = field(default_factory=Conditions)
    round: int | None = None
    board: str | None = None

    @functools.cached_property
    def p50_s(self) -> float:
        """Median latency of one call in this process."""
        return float(np.median(self.latencies_s))

    @functools.cached_property
    def _packed(self) -> str:
        nanoseconds = np.rint(self.latencies_s * 1e9).clip(0, 2**32 - 1).astype("<u4")
        return base64.b64encode(zlib.compress(nanoseconds.tobytes(), 6)).decode()

    def to_json(self) -> dict[str, Any]:
        """Return the samples as a JSON object; the latencies are packed."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for moment in ("before", "after"):
            facts[moment] = dataclasses.asdict(facts[moment])
        return {**facts, "latencies_s": {"encoding": _ENCODING, "data": self._packed}}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ProcessSamples:
        """Return the samples that `to_json` wrote.

        Raises:
            ValueError: there are no samples, or too many.
        """
        unpack = zlib.decompressobj()
        packed = unpack.decompress(base64.b64decode(facts["latencies_s"]["data"]), 4 * _MAX_SAMPLES)
        if not packed or not unpack.eof:
            raise ValueError(f"a process has no samples, or over {_MAX_SAMPLES:,}")
        conditions: dict[str, Any] = {
            moment: Conditions(**facts[moment]) for moment in ("before", "after") if moment in facts
        }
        samples = cls(**{**facts, **conditions, "latencies_s": np.frombuffer(packed, "<u4") / 1e9})
        samples.__dict__["_packed"] = facts["latencies_s"]["data"]  # saves packing it again
        return samples

    def with_labels(self, **labels: int | str | None) -> ProcessSamples:
        """Return the same samples with another `round` or `board`."""
        labelled = copy.copy(self)  # keeps what was computed from the samples
        labelled.__dict__.update(labels)
        return labelled


def undisturbed(processes: Sequence[ProcessSamples]) -> npt.NDArray[np.bool_]:
    """Return which processes of one cell were not slow as a whole, bool of shape (N,)."""
    return find_undisturbed(
        [process.p50_s for process in processes],
        [process.board for process in processes],
        _resolution_s(processes),
    )


def disturbances(
    processes: Sequence[ProcessSamples], is_kept: npt.NDArray[np.bool_]
) -> tuple[str, ...]:
    """Return the signs that something disturbed the processes of one cell, each as a phrase.

    Args:
        processes: the processes.
        is_kept: the result of `undisturbed`.
    """
    reasons = []
    kept = [process for process, ok in zip(processes, is_kept, strict=True) if ok]
    slow = [process.p50_s for process, ok in zip(processes, is_kept, strict=True) if not ok]
    if slow:
        reasons.append(
            f"{len(slow)} of {plural(len(processes), 'process')} took {_range_us(slow)} µs, so"
            f" {'it is' if len(slow) == 1 else 'they are'} left out"
        )
    medians, resolution = [process.p50_s for process in kept], _resolution_s(processes)
    if max(medians) > 1.05 * min(medians) + resolution:
        reasons.append(f"the medians of the processes range from {_range_us(medians)} µs")
    modes = two_modes(np.concatenate([process.latencies_s for process in kept]))
    if modes and modes[1] - modes[0] > resolution:
        low, high = map(microseconds, modes)
        reasons.append(f"the latencies have two modes, at {low} and {high} µs")
    if not all(process.settled for process in processes):
        reasons.append("the latency was still falling at the end of the warm-up")
    return (*reasons, *_signs_of_the_system(processes))


def _resolution_s(processes: Sequence[ProcessSamples]) -> float:
    """Return the smallest difference that the clock can measure."""
    return max(process.timer_s or 0.0 for process in processes)


def _range_us(latencies: Sequence[float]) -> str:
    low, high = microseconds(min(latencies)), microseconds(max(latencies))
    return low if low == high else f"{low} to {high}"


def _signs_of_the_system(processes: Sequence[ProcessSamples]) -> list[str]:
    reasons = []
    stolen = sum(
        process.after.stolen_s - process.before.stolen_s
        for process in processes
        if process.after.stolen_s is not None and process.before.stolen_s is not None
    )
    seconds = sum(process.seconds or 0.0 for process in processes)
    if seconds and stolen > 0.01 * seconds:
        reasons.append(f"the hypervisor took {stolen / seconds:.0%} of the CPU time")
    preempted = sum(process.preempted or 0 for process in processes)
    if seconds and preempted > 100 * seconds:
        reasons.append(f"other processes preempted it {preempted / seconds:.0f} times a second")
    events = [
        (process.before.throttle_events, process.after.throttle_events) for process in processes
    ]
    if any(before is not None and after is not None and after > before for before, after in events):
        reasons.append("the CPU was throttled because it was too hot")
    frequencies = [
        conditions.frequency_mhz
        for process in processes
        for conditions in (process.before, process.after)
        if conditions.frequency_mhz
    ]
    if frequencies and max(frequencies) > 1.1 * min(frequencies):
        slowest, fastest = min(frequencies), max(frequencies)
        reasons.append(f"the CPU clock varied from {slowest:.0f} to {fastest:.0f} MHz")
    return reasons
