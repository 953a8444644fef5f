"""Ratios of interleaved samples, computed and measured."""

from collections.abc import Callable

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.interleave import compare, ratios, sample
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair


def test_common_drift_cancels_in_the_ratio() -> None:
    drift = 1 + np.random.default_rng(0).random(500)
    runs = [np.stack([drift, factor * drift]) for factor in (0.4, 0.5, 0.6)]
    first, second = ratios(runs)
    assert (first.median, first.low, first.high) == (1, 1, 1)
    assert (second.median, second.low, second.high) == pytest.approx((0.5, 0.4, 0.6))
    assert second.p50_s == pytest.approx(np.median(0.5 * drift))


def test_no_target_is_faster_than_the_null_target(exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_float32.tflite")
    pairs = [Pair(artifact, get_target(name)) for name in ("litert-reference", "null")]
    first, second = compare(pairs, rounds=60, num_processes=2)
    assert first.median == 1
    assert second.high < 1
    assert second.low <= second.median <= second.high


def test_every_round_yields_a_sample(exported: Callable[[str], Artifact]) -> None:
    path = exported("lenet_float32.tflite").path
    seconds = sample([(path, "null")] * 2, batch_size=3, num_threads=1, rounds=7, seed=0)
    assert np.shape(seconds) == (2, 7)
    assert np.min(seconds) > 0
