"""The samples that one process took of one cell, and how stable several of them are."""

from __future__ import annotations

import base64
import dataclasses
import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lenet_edge.machine.conditions import Conditions
from lenet_edge.results.stats import Samples, two_modes

_MAX_SAMPLES = 2**22  # far more than --max-time leaves room for; what is packed may be a bomb
_ENCODING = "base64 of zlib of little-endian uint32 nanoseconds"

# MLPerf inference rules: below these counts a percentile says more about luck than about the tail.
MIN_SAMPLES_P90 = 64
MIN_SAMPLES_P99 = 662


@dataclass(frozen=True)
class ProcessSamples:
    """What one process found.

    `latencies_s` holds the samples of `infer`, in the order they were taken; each is one call or,
    where the clock would weigh too much, the mean of `calls_per_sample`. `prepare_s` and
    `readout_s` are medians. `timer_s` is what an empty pair of clock reads took, and `null_s`
    what the null session's `infer` took when sampled as this one was. `rss_growth_bytes` is how
    far resident memory rose from before the runtime was loaded to its peak; `preempted` how often
    another process took the core; `energy_j` is joules for each call, whatever the meter covers.
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

    @property
    def p50_s(self) -> float:
        """Median latency of one call in this process."""
        return float(np.median(self.latencies_s))

    @functools.cached_property
    def _packed(self) -> str:
        nanoseconds = np.rint(self.latencies_s * 1e9).clip(0, 2**32 - 1).astype("<u4")
        return base64.b64encode(zlib.compress(nanoseconds.tobytes(), 6)).decode()

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for when in ("before", "after"):
            facts[when] = dataclasses.asdict(facts[when])
        return {**facts, "latencies_s": {"encoding": _ENCODING, "data": self._packed}}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ProcessSamples:
        """Return the ProcessSamples that `to_json` wrote."""
        unpack = zlib.decompressobj()
        packed = unpack.decompress(base64.b64decode(facts["latencies_s"]["data"]), 4 * _MAX_SAMPLES)
        if not packed or not unpack.eof:
            raise ValueError(f"a process has no samples, or over {_MAX_SAMPLES:,}")
        moments: dict[str, Any] = {
            when: Conditions(**facts[when]) for when in ("before", "after") if when in facts
        }
        found = cls(**{**facts, **moments, "latencies_s": np.frombuffer(packed, "<u4") / 1e9})
        found.__dict__["_packed"] = facts["latencies_s"]["data"]  # it is written as it was read
        return found


def instability(trials: Sequence[ProcessSamples]) -> tuple[str, ...]:
    """Return what makes the samples of these processes doubtful, in words."""
    said = []
    samples = np.concatenate([trial.latencies_s for trial in trials])
    if len(samples) < MIN_SAMPLES_P99:
        said.append(f"{len(samples)} samples, too few for p99")
    medians = [trial.p50_s for trial in trials]
    step = max(trial.timer_s or 0.0 for trial in trials)  # less than that is the clock's own
    if max(medians) > 1.05 * min(medians) + step:
        said.append(f"processes disagree: {min(medians) * 1e6:.3g} to {max(medians) * 1e6:.3g} µs")
    modes = two_modes(samples)
    if modes and modes[1] - modes[0] > step:
        said.append(f"two modes: {modes[0] * 1e6:.3g} and {modes[1] * 1e6:.3g} µs")
    if not all(trial.settled for trial in trials):
        said.append("the warm-up never settled")
    return (*said, *_disturbances(trials))


def _disturbances(trials: Sequence[ProcessSamples]) -> list[str]:
    said = []
    stolen = sum(
        trial.after.stolen_s - trial.before.stolen_s
        for trial in trials
        if trial.after.stolen_s is not None and trial.before.stolen_s is not None
    )
    seconds = sum(trial.seconds or 0.0 for trial in trials)
    if seconds and stolen > 0.01 * seconds:
        said.append(f"the hypervisor took {stolen / seconds:.0%} of the time")
    preempted = sum(trial.preempted or 0 for trial in trials)
    if seconds and preempted > 100 * seconds:
        said.append(f"preempted {preempted / seconds:.0f} times a second")
    events = [(trial.before.throttle_events, trial.after.throttle_events) for trial in trials]
    if any(b is not None and a is not None and a > b for b, a in events):
        said.append("the CPU was throttled by its temperature")
    frequencies = [
        one.frequency_mhz for t in trials for one in (t.before, t.after) if one.frequency_mhz
    ]
    if frequencies and max(frequencies) > 1.1 * min(frequencies):
        said.append(f"the clock went from {min(frequencies):.0f} to {max(frequencies):.0f} MHz")
    return said
