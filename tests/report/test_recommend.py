"""The recommendation: only what is proven, fastest first, ties to the smaller file."""

from __future__ import annotations

import dataclasses

import pytest

from lenet_edge.errors import DataError
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.recommend import NothingFits, Recommendation, recommend
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.target import Delegation
from tests.report.builders import measurement, parity_report, process_samples


def run(measurements: list[Measurement], reports: list[ParityReport]) -> BenchRun:
    return BenchRun.of_this_machine(tuple(measurements), tuple(reports))


def chosen(advice: Recommendation | NothingFits) -> Measurement:
    assert isinstance(advice, Recommendation)
    return advice.measurement


def test_what_left_a_part_to_the_cpu_is_not_recommended() -> None:
    measured = [measurement("a.tflite", 10, 300), measurement("b.tflite", 5, 100)]
    partly = dataclasses.replace(measured[1], delegation=Delegation("GPU", 8, 3))
    reports = [parity_report("a.tflite"), parity_report("b.tflite")]
    assert chosen(recommend(run(measured, reports))).artifact == "b.tflite"
    advice = recommend(run([measured[0], partly], reports))
    assert chosen(advice).artifact == "a.tflite"


def test_too_few_images_to_be_sure() -> None:
    unsure = dataclasses.replace(parity_report("a.tflite"), verdict="inconclusive", num_samples=50)
    measured = [measurement("a.tflite", 10, 300), measurement("b.tflite", 5, 100)]
    advice = recommend(run(measured, [unsure, parity_report("b.tflite", passed=False)]))
    assert str(advice).startswith("Ship a.tflite on litert-xnnpack")
    assert str(advice).endswith("on 50 images. Too few images to be sure.")


def test_the_fastest_that_is_proven() -> None:
    advice = recommend(
        run(
            [measurement("fast.tflite", 10, 300), measurement("slow.tflite", 20, 100)],
            [parity_report("fast.tflite"), parity_report("slow.tflite")],
        )
    )
    assert str(advice) == (
        "Ship fast.tflite on litert-xnnpack with 1 thread: fastest at batch 1 (10.0 µs);"
        " 300 bytes, no accuracy lost on 10,000 images."
    )
    assert isinstance(advice, Recommendation)
    assert [(one.measurement.artifact, one.why_not) for one in advice.others] == [
        ("slow.tflite", "takes 2.00 times as long")
    ]


def test_what_failed_or_was_not_verified_is_never_shipped() -> None:
    advice = recommend(
        run(
            [
                measurement("wrong.tflite", 1, 100),
                measurement("unverified.tflite", 2, 100),
                measurement("right.tflite", 20, 100),
            ],
            [
                parity_report("wrong.tflite", passed=False, drop=5),
                parity_report("right.tflite", drop=0.05),
            ],
        )
    )
    assert chosen(advice).artifact == "right.tflite"
    assert "0.05 points of accuracy lost" in str(advice)
    assert isinstance(advice, Recommendation)
    assert {one.measurement.artifact: one.why_not for one in advice.others} == {
        "wrong.tflite": "fails parity: it loses 5.00 points of accuracy",
        "unverified.tflite": "was not verified",
    }


def test_equal_speed_goes_to_the_smaller_file_and_says_so() -> None:
    advice = recommend(
        run(
            [measurement("big.tflite", 10.0, 300), measurement("small.tflite", 10.001, 100)],
            [parity_report("big.tflite"), parity_report("small.tflite")],
        )
    )
    assert chosen(advice).artifact == "small.tflite"
    assert (
        "as fast at batch 1 (10.0 µs) as big.tflite on litert-xnnpack, 1 thread, with fewer bytes;"
    ) in str(advice)


def test_equal_speed_goes_to_fewer_threads_before_fewer_bytes() -> None:
    many = dataclasses.replace(measurement("small.tflite", 9.999, 100), num_threads=4)
    few = measurement("big.tflite", 10, 300)
    advice = recommend(
        run([many, few], [parity_report("big.tflite"), parity_report("small.tflite")])
    )
    assert chosen(advice) is few
    assert "as small.tflite on litert-xnnpack, 4 threads, with fewer threads;" in str(advice)


def test_equal_speed_of_one_file_goes_to_the_runtime_that_takes_less_memory() -> None:
    light = measurement("a.tflite", 10, 100)
    heavy = dataclasses.replace(
        measurement("a.tflite", 9.999, 100), target="openvino-cpu",
        processes=(process_samples(light.latencies_s * 0.9999, peak_rss_bytes=2),),
    )  # fmt: skip
    reports = [
        parity_report("a.tflite"),
        dataclasses.replace(parity_report("a.tflite"), target="openvino-cpu"),
    ]
    advice = recommend(run([heavy, light], reports))
    assert chosen(advice) is light
    assert "as a.tflite on openvino-cpu, 1 thread, with less memory;" in str(advice)


def test_the_smallest_batch_decides_unless_another_is_asked_for() -> None:
    found = run(
        [
            measurement("a.tflite", 10, 300, batch_size=1),
            measurement("a.tflite", 500, 300, batch_size=32),
            measurement("b.tflite", 20, 300, batch_size=1),
            measurement("b.tflite", 100, 300, batch_size=32),
        ],
        [parity_report("a.tflite"), parity_report("b.tflite")],
    )
    assert chosen(recommend(found)).artifact == "a.tflite"
    at_32 = recommend(found, Limits(batch_size=32))
    assert (chosen(at_32).artifact, chosen(at_32).batch_size) == ("b.tflite", 32)
    with pytest.raises(DataError, match="batch 8, only at 1, 32"):
        recommend(found, Limits(batch_size=8))


def test_offline_the_best_throughput_decides_whatever_its_batch() -> None:
    found = run(
        [measurement("a.tflite", 10, 300, 1), measurement("a.tflite", 100, 300, 32)],
        [parity_report("a.tflite")],
    )
    advice = recommend(dataclasses.replace(found, settings={"scenario": "offline"}))
    assert chosen(advice).batch_size == 32
    assert "fastest at batch 32 (320,000 images/s)" in str(advice)


THREE = run(
    [
        measurement("float.tflite", 10, 300),
        measurement("int8.tflite", 5, 100),
        measurement("small.tflite", 50, 50),
    ],
    [
        parity_report("float.tflite"),
        parity_report("int8.tflite", drop=0.3),
        parity_report("small.tflite", drop=0.1),
    ],
)


@pytest.mark.parametrize(
    ("limits", "file"),
    [
        (Limits(), "int8.tflite"),
        (Limits(max_accuracy_drop=0.3), "int8.tflite"),
        (Limits(max_accuracy_drop=0.2), "float.tflite"),
        (Limits(max_accuracy_drop=0.2, max_bytes=299), "small.tflite"),
        (Limits(max_bytes=100), "int8.tflite"),
        (Limits(max_bytes=99), "small.tflite"),
        (Limits(max_latency_s=51e-6, max_bytes=99), "small.tflite"),
    ],
)
def test_limits(limits: Limits, file: str) -> None:
    advice = recommend(THREE, limits)
    assert chosen(advice).artifact == file
    assert isinstance(advice, Recommendation)
    for one in advice.others:
        if one.measurement.p50_s < chosen(advice).p50_s:
            assert "more than the" in one.why_not


def test_where_nothing_fits_the_nearest_are_named_with_what_excluded_them() -> None:
    advice = recommend(THREE, Limits(max_accuracy_drop=0.05, max_latency_s=9e-6))
    assert not advice
    assert str(advice) == (
        "Nothing to ship: float.tflite on litert-xnnpack, 1 thread takes 10.0 µs, more than the"
        " 9.0 µs of --max-latency; int8.tflite on litert-xnnpack, 1 thread loses 0.30 points of"
        " accuracy, more than the 0.05 of --max-accuracy-drop."
    )


def test_an_accuracy_that_is_not_known_keeps_no_limit() -> None:
    unknown = dataclasses.replace(
        parity_report("a.tflite"), candidate_accuracy=None, accuracy_drop=None, mcnemar_p=None
    )
    found = run([measurement("a.tflite", 10, 300)], [unknown])
    assert chosen(recommend(found)).artifact == "a.tflite"
    assert "its accuracy is not known" in str(recommend(found, Limits(max_accuracy_drop=5)))


def test_nothing_proven_nothing_shipped() -> None:
    cell = measurement("a.tflite", 10, 300)
    for reports, says in (
        ([], "nothing was verified; add the results of: lenet-edge verify"),
        (
            [parity_report("a.tflite", passed=False)],
            "a.tflite on litert-xnnpack, 1 thread fails parity",
        ),
    ):
        advice = recommend(run([cell], reports))
        assert not advice
        assert says in str(advice)
    assert "nothing was timed" in str(recommend(run([], [parity_report("a.tflite")])))


def test_a_checkpoint_is_no_edge_file() -> None:
    assert not recommend(run([measurement("a.keras", 1, 1)], [parity_report("a.keras")]))


def test_what_was_not_measured_well_is_not_shipped() -> None:
    throttled = dataclasses.replace(measurement("a.tflite", 10, 300), invalid="throttled")
    assert "was not measured well: throttled" in str(
        recommend(run([throttled], [parity_report("a.tflite")]))
    )
