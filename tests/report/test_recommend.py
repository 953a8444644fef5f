"""The recommendation: only what is proven, fastest first, ties to the smaller file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.report.recommend import recommend
from lenet_edge.results import BenchRun, Measurement, ParityReport
from lenet_edge.trial import Trial


def measurement(artifact: str, p50_us: float, size_bytes: int, batch_size: int = 1) -> Measurement:
    # 1,000 samples 1 % around the median: an interval of about 0.06 %.
    spread = np.linspace(0.99, 1.01, 1000)
    return Measurement(
        artifact=artifact, artifact_sha256=artifact, size_bytes=size_bytes, target="litert-xnnpack",
        runtime_version="1", batch_size=batch_size, num_threads=1,
        trials=(trial(p50_us * 1e-6 * spread),),
    )  # fmt: skip


def trial(latencies_s: npt.NDArray[np.float64], **facts: Any) -> Trial:
    known = {"load_time_s": 0.01, "first_inference_s": 0.001, "prepare_s": 1e-6,
             "readout_s": 1e-6, "warmup_runs": 3, "peak_rss_bytes": 1}  # fmt: skip
    return Trial(latencies_s, **{**known, **facts})


def parity(artifact: str, passed: bool = True, drop: float = 0.0) -> ParityReport:
    return ParityReport(
        reference="checkpoint", candidate=artifact, candidate_sha256=artifact,
        target="litert-xnnpack", num_samples=10_000, reference_accuracy=0.99,
        candidate_accuracy=0.99 - drop / 100, accuracy_drop=drop, top1_agreement=1.0, flips=(),
        mcnemar_p=1.0, max_abs_error=0.0, mean_abs_error=0.0, non_finite=0,
        verdict="pass" if passed else "fail",
        reasons=() if passed else (f"it loses {drop:.2f} points of accuracy",),
    )  # fmt: skip


def run(measurements: list[Measurement], reports: list[ParityReport]) -> BenchRun:
    return BenchRun.here(tuple(measurements), tuple(reports))


def test_too_few_images_to_be_sure() -> None:
    unsure = dataclasses.replace(parity("a.tflite"), verdict="inconclusive", num_samples=50)
    measured = [measurement("a.tflite", 10, 300), measurement("b.tflite", 5, 100)]
    advice = recommend(run(measured, [unsure, parity("b.tflite", passed=False)]))
    assert str(advice).startswith("Ship a.tflite on litert-xnnpack")
    assert str(advice).endswith("on 50 images. Too few images to be sure.")


def test_the_fastest_that_is_proven() -> None:
    advice = recommend(
        run(
            [measurement("fast.tflite", 10, 300), measurement("slow.tflite", 20, 100)],
            [parity("fast.tflite"), parity("slow.tflite")],
        )
    )
    assert advice is not None
    assert str(advice) == (
        "Ship fast.tflite on litert-xnnpack: fastest at batch 1 (10.0 µs), 300 bytes,"
        " no accuracy lost on 10,000 images."
    )


def test_what_failed_or_was_not_verified_is_never_shipped() -> None:
    advice = recommend(
        run(
            [
                measurement("wrong.tflite", 1, 100),
                measurement("unverified.tflite", 2, 100),
                measurement("right.tflite", 20, 100),
            ],
            [parity("wrong.tflite", passed=False, drop=5), parity("right.tflite", drop=0.05)],
        )
    )
    assert advice is not None
    assert advice.measurement.artifact == "right.tflite"
    assert "0.05 points of accuracy lost" in str(advice)


def test_equal_speed_goes_to_the_smaller_file_and_says_so() -> None:
    advice = recommend(
        run(
            [measurement("big.tflite", 10.0, 300), measurement("small.tflite", 10.001, 100)],
            [parity("big.tflite"), parity("small.tflite")],
        )
    )
    assert advice is not None
    assert advice.measurement.artifact == "small.tflite"
    assert "as fast at batch 1 (10.0 µs) as big.tflite on litert-xnnpack, and smaller" in str(
        advice
    )


def test_the_smallest_batch_decides() -> None:
    advice = recommend(
        run(
            [
                measurement("a.tflite", 10, 300, batch_size=1),
                measurement("a.tflite", 500, 300, batch_size=32),
                measurement("b.tflite", 20, 300, batch_size=1),
                measurement("b.tflite", 100, 300, batch_size=32),
            ],
            [parity("a.tflite"), parity("b.tflite")],
        )
    )
    assert advice is not None
    assert advice.measurement.artifact == "a.tflite"


@pytest.mark.parametrize("reports", [[], [parity("a.tflite", passed=False)]])
def test_nothing_proven_nothing_shipped(reports: list[ParityReport]) -> None:
    assert recommend(run([measurement("a.tflite", 10, 300)], reports)) is None


def test_a_checkpoint_is_no_edge_file() -> None:
    assert recommend(run([measurement("a.keras", 1, 1)], [parity("a.keras")])) is None
