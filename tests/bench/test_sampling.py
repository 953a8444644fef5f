"""When a session is warm, how it is clocked, and when there are enough samples."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench import sampling, timing
from lenet_edge.bench.sampling import StopRule, calls_per_sample, clock_cost_s, take, warm_up
from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.runtimes.null import NullSession
from lenet_edge.target import Images
from tests.bench.slow import SlowSession

AT_ONCE = StopRule(min_time_s=0, max_time_s=5, precision=1e9)


@pytest.fixture
def artifact(exported: Callable[[str], Artifact]) -> Artifact:
    return exported("lenet_int8.tflite")


@pytest.fixture
def batches(artifact: Artifact) -> list[Images]:
    return timing.make_batches(artifact, 1)


def test_it_goes_on_until_p99_can_be_told(artifact: Artifact, batches: list[Images]) -> None:
    """At 0.5 ms a call, the first checks come long before 662 samples."""
    samples = take(SlowSession(artifact, infer_s=0.0005), batches, 1, AT_ONCE)
    assert samples.shape[1] == 3
    assert len(samples) >= MIN_SAMPLES_P99
    assert samples[:, 1].min() >= 0.0005
    assert np.median(samples[:, [0, 2]]) < 0.0005  # prepare and logits are told apart from infer


def test_the_longest_time_ends_it_in_any_case(artifact: Artifact, batches: list[Images]) -> None:
    never_precise = StopRule(min_time_s=0, max_time_s=0.2, precision=0)
    samples = take(SlowSession(artifact, infer_s=0.005), batches, 1, never_precise)
    assert 1 <= len(samples) < MIN_SAMPLES_P99


@pytest.mark.parametrize(
    "stop",
    [
        StopRule(min_time_s=1, max_time_s=60, precision=1e9),
        StopRule(min_time_s=0, max_time_s=1, precision=-1),  # which nothing reaches
    ],
    ids=["the shortest time", "the precision"],
)
def test_it_does_not_end_before(artifact: Artifact, batches: list[Images], stop: StopRule) -> None:
    started = time.perf_counter()
    take(SlowSession(artifact, infer_s=0.0001), batches, 1, stop)
    assert time.perf_counter() - started >= 1


def test_several_processes_share_the_time_and_the_samples() -> None:
    rule = StopRule(min_time_s=3, max_time_s=9, precision=0.02, min_samples=662).share(3)
    assert rule == StopRule(min_time_s=1, max_time_s=3, precision=0.02, min_samples=221)


def test_the_warm_up_ends_when_calls_no_longer_get_faster(
    artifact: Artifact, batches: list[Images]
) -> None:
    session = SlowSession(artifact, infer_s=0.005, cold=2)
    found = warm_up(session, batches)
    assert found.runs == session.calls >= 5
    assert 0.005 <= found.infer_s < 0.05


class NeverWarmSession(NullSession):
    """A Session that gets slower with every call."""

    calls = 0

    def infer(self) -> None:
        self.calls += 1
        time.sleep(0.001 * self.calls)


def test_a_session_that_never_settles_is_told_and_left(
    artifact: Artifact, batches: list[Images]
) -> None:
    found = warm_up(NeverWarmSession(artifact.inputs, artifact.outputs), batches)
    assert not found.settled


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
    found = calls_per_sample(infer_s, clock_s)
    assert found == calls
    if calls > 1:
        call_s = max(infer_s - clock_s, clock_s / 10)
        assert clock_s <= sampling.MAX_CLOCK_OF_BLOCK * found * call_s * (1 + 1e-9)


def test_a_sample_of_a_block_is_the_mean_of_its_calls(
    artifact: Artifact, batches: list[Images]
) -> None:
    session = SlowSession(artifact, infer_s=0.001)
    samples = take(session, batches, 7, StopRule(0, 0.1, 0))
    assert session.calls == 7 * len(samples)
    assert 0.001 <= np.median(samples[:, 1]) < 0.005


def test_what_the_clock_costs() -> None:
    assert 1e-9 <= clock_cost_s() < 1e-5
