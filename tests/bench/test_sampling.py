"""The warm-up of a session, its clock reads, and the rule that ends the sampling."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench import sampling, timing
from lenet_edge.bench.sampling import (
    StopRule,
    calls_per_sample,
    clock_cost_s,
    take_samples,
    warm_up,
)
from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.runtimes.null import NullSession
from lenet_edge.target import InputValues
from tests.bench.slow import SlowSession

AT_ONCE = StopRule(min_time_s=0, max_time_s=5, precision=1e9)


@pytest.fixture
def artifact(exported: Callable[[str], Artifact]) -> Artifact:
    return exported("lenet_int8.tflite")


@pytest.fixture
def batches(artifact: Artifact) -> list[InputValues]:
    return timing.make_batches(artifact, 1)


def test_sampling_continues_until_p99_is_known(
    artifact: Artifact, batches: list[InputValues]
) -> None:
    """At 0.5 ms a call, the first checks come long before 662 samples."""
    samples = take_samples(SlowSession(artifact, infer_s=0.0005), batches, 1, AT_ONCE)
    assert samples.shape[1] == 3
    assert len(samples) >= MIN_SAMPLES_P99
    assert samples[:, 1].min() >= 0.0005
    assert np.median(samples[:, [0, 2]]) < 0.0005  # prepare and logits are separate from infer


def test_the_maximum_time_always_ends_the_sampling(
    artifact: Artifact, batches: list[InputValues]
) -> None:
    never_precise = StopRule(min_time_s=0, max_time_s=0.2, precision=0)
    samples = take_samples(SlowSession(artifact, infer_s=0.005), batches, 1, never_precise)
    assert 1 <= len(samples) < MIN_SAMPLES_P99


@pytest.mark.parametrize(
    "stop",
    [
        StopRule(min_time_s=1, max_time_s=60, precision=1e9),
        StopRule(min_time_s=0, max_time_s=1, precision=-1),  # never reached
    ],
    ids=["the minimum time", "the precision"],
)
def test_sampling_does_not_end_before(
    artifact: Artifact, batches: list[InputValues], stop: StopRule
) -> None:
    started = time.perf_counter()
    take_samples(SlowSession(artifact, infer_s=0.0001), batches, 1, stop)
    assert time.perf_counter() - started >= 1


def test_several_processes_share_the_time_and_the_samples() -> None:
    rule = StopRule(min_time_s=3, max_time_s=9, precision=0.02, min_samples=662).share(3)
    assert rule == StopRule(min_time_s=1, max_time_s=3, precision=0.02, min_samples=221)


def test_the_warm_up_ends_when_the_latency_stops_falling(
    artifact: Artifact, batches: list[InputValues]
) -> None:
    session = SlowSession(artifact, infer_s=0.005, cold=2)
    warmup = warm_up(session, batches)
    assert warmup.runs == session.calls >= 5
    assert 0.005 <= warmup.infer_s < 0.05


class NeverWarmSession(NullSession):
    """A session whose latency grows by a fifth with every call."""

    calls = 0

    def infer(self) -> None:
        self.calls += 1
        time.sleep(0.001 * 1.2**self.calls)


def test_a_session_that_never_settles_is_marked(
    artifact: Artifact, batches: list[InputValues]
) -> None:
    warmup = warm_up(NeverWarmSession(artifact.inputs, artifact.outputs), batches)
    assert not warmup.settled


@pytest.mark.parametrize(
    ("infer_s", "clock_s", "calls"),
    [
        (10e-6, 0.05e-6, 1),
        (1e-6, 0.05e-6, 1),
        (0.55e-6, 0.05e-6, 10),  # 5 µs of calls for 0.05 µs of clock
        (10e-6, 1e-6, 12),
        (0.05e-6, 0.05e-6, 1000),
    ],
)
def test_the_clock_is_a_small_part_of_a_sample(infer_s: float, clock_s: float, calls: int) -> None:
    assert calls_per_sample(infer_s, clock_s) == calls
    if calls > 1:
        call_s = max(infer_s - clock_s, clock_s / 10)
        assert clock_s <= sampling.MAX_CLOCK_OF_BLOCK * calls * call_s * (1 + 1e-9)


def test_a_sample_of_a_block_is_the_mean_of_its_calls(
    artifact: Artifact, batches: list[InputValues]
) -> None:
    session = SlowSession(artifact, infer_s=0.001)
    samples = take_samples(session, batches, 7, StopRule(0, 0.1, 0))
    assert session.calls == 7 * len(samples)
    assert 0.001 <= np.median(samples[:, 1]) < 0.005


def test_the_cost_of_the_clock() -> None:
    assert 1e-9 <= clock_cost_s() < 1e-5
