"""Recommendation: parity, speed, ties, limits, and the reasons against other cells."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lenet_edge.errors import DataError
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.recommend import NothingFits, Recommendation, recommend
from lenet_edge.report.terminal.blocks import advice_line
from lenet_edge.results.result_file import (
    BenchRun,
    InstructionCount,
    Measurement,
    ParityReport,
)
from lenet_edge.target import Delegation
from tests.report.builders import measurement, parity_report, process_samples


def make_run(measurements: list[Measurement], reports: list[ParityReport]) -> BenchRun:
    return BenchRun.of_this_machine(tuple(measurements), tuple(reports))


def chosen(advice: Recommendation | NothingFits) -> Measurement:
    assert isinstance(advice, Recommendation)
    return advice.measurement


def test_a_partly_delegated_file_is_not_recommended() -> None:
    measured = [measurement("a.tflite", 10, 300), measurement("b.tflite", 5, 100)]
    partial = dataclasses.replace(measured[1], delegation=Delegation("GPU", 8, 3))
    reports = [parity_report("a.tflite"), parity_report("b.tflite")]
    assert chosen(recommend(make_run(measured, reports))).artifact == "b.tflite"
    advice = recommend(make_run([measured[0], partial], reports))
    assert chosen(advice).artifact == "a.tflite"
    same_cpu = dataclasses.replace(measured[1], delegation=Delegation("XNNPACK", 5, 4))
    advice = recommend(make_run([measured[0], same_cpu], reports))
    assert chosen(advice).artifact == "b.tflite"


@pytest.mark.parametrize(
    ("fields", "quality"),
    [
        ({"accuracy_drop": 0.02}, "loses 0.02 points of accuracy on 10,000 images"),
        ({"accuracy_drop": None}, "agrees with the reference on 100.00 % of 10,000 images"),
        (
            {"accuracy_drop": None, "top1_agreement": None, "max_abs_error": 0.003},
            "differs from the reference by at most 0.0030 on 10,000 images",
        ),
    ],
)
def test_the_quality_is_that_of_the_outputs(fields: dict[str, Any], quality: str) -> None:
    report = dataclasses.replace(parity_report("a.tflite"), **fields)
    advice = recommend(make_run([measurement("a.tflite", 10, 300)], [report]))
    assert quality in str(advice)


def test_inconclusive_pairs_are_accepted_if_nothing_passed() -> None:
    inconclusive = dataclasses.replace(
        parity_report("a.tflite"), verdict="inconclusive", num_samples=50
    )
    measured = [measurement("a.tflite", 10, 300), measurement("b.tflite", 5, 100)]
    advice = recommend(make_run(measured, [inconclusive, parity_report("b.tflite", passed=False)]))
    assert str(advice).startswith(
        "No file is proven right; the best is a.tflite on litert-xnnpack with 1 thread. At batch 1"
    )
    assert advice_line(advice).style == "bold yellow"
    assert str(advice).endswith("on 50 images. There are too few images to be sure.")


def test_the_check_of_a_bench_proves_nothing() -> None:
    checked = dataclasses.replace(
        parity_report("a.tflite"), verdict="inconclusive", num_samples=256
    )
    advice = recommend(make_run([measurement("a.tflite", 10, 300)], [checked]))
    assert str(advice).endswith(
        "on 256 images. Nothing is proven: bench checks only 256 images, and lenet-edge verify all."
    )
    assert advice.verdict == "inconclusive"


def test_the_fastest_verified_file_is_recommended() -> None:
    advice = recommend(
        make_run(
            [measurement("fast.tflite", 10, 300), measurement("slow.tflite", 20, 100)],
            [parity_report("fast.tflite"), parity_report("slow.tflite")],
        )
    )
    assert str(advice) == (
        "Ship fast.tflite on litert-xnnpack with 1 thread. At batch 1 it is the fastest that fits,"
        " of 2 measured (10.0 µs). It has 300 bytes and loses no accuracy on 10,000 images."
    )
    assert isinstance(advice, Recommendation)
    assert [(cell.measurement.artifact, cell.why_not) for cell in advice.others] == [
        ("slow.tflite", "takes 2.00 times as long")
    ]


def test_failed_and_unverified_files_are_never_recommended() -> None:
    advice = recommend(
        make_run(
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
    assert "loses 0.05 points of accuracy" in str(advice)
    assert isinstance(advice, Recommendation)
    assert {cell.measurement.artifact: cell.why_not for cell in advice.others} == {
        "wrong.tflite": "failed parity: it loses 5.00 points of accuracy",
        "unverified.tflite": "was not verified",
    }


def test_of_tied_files_the_smaller_is_recommended_with_the_reason() -> None:
    advice = recommend(
        make_run(
            [measurement("big.tflite", 10.0, 300), measurement("small.tflite", 10.001, 100)],
            [parity_report("big.tflite"), parity_report("small.tflite")],
        )
    )
    assert chosen(advice).artifact == "small.tflite"
    assert (
        "At batch 1 (10.0 µs) it is as fast as big.tflite on litert-xnnpack with 1 thread,"
        " and it is smaller."
    ) in str(advice)


def test_of_c_files_the_built_size_counts() -> None:
    old = measurement("lenet.c", 10.0, 400)  # an earlier version has measured the source
    built = dataclasses.replace(old, size_bytes=60, built_for="x86_64")
    other = measurement("other.tflite", 10.001, 100)
    reports = [parity_report("lenet.c"), parity_report("other.tflite")]
    advice = recommend(make_run([built, other], reports), Limits(max_bytes=60))
    assert chosen(advice) is built
    assert " It has 60 bytes as built for x86_64 and loses" in str(advice)
    advice = recommend(make_run([old, other], reports))
    assert chosen(advice) is other
    assert "1 thread, and it has a known size." in str(advice)
    assert "has an unknown size as built" in str(
        recommend(make_run([old], reports), Limits(max_bytes=10**6))
    )


def test_flash_and_ram_of_a_microcontroller_are_limits() -> None:
    cells = [measurement(name, 10, 300) for name in ("small.c", "large.c", "x.tflite")]
    reports = [parity_report(cell.artifact) for cell in cells]
    counts = [
        InstructionCount(
            name, name, core, core, 1e6, 1, flash_bytes={"code": code, "constants": 50_000},
            ram_bytes=100, stack_bytes=stack,
        )
        for name, core, code, stack in (
            ("small.c", "cortex-m4", 2_000, 3_000), ("small.c", "cortex-m0", 4_000, 4_000),
            ("large.c", "cortex-m4", 222_144, 20_000),
        )
    ]  # fmt: skip
    run = dataclasses.replace(make_run(cells, reports), instruction_counts=tuple(counts))
    for limits, why_not in (
        (
            Limits(max_flash_bytes=262_144, max_ram_bytes=16_384),
            "takes 272,144 bytes of flash on a cortex-m4, more than the 262,144 of --max-flash and"
            " takes 20,100 bytes of RAM on a cortex-m4, more than the 16,384 of --max-ram",
        ),
        (Limits(max_flash_bytes=54_000), "takes 272,144 bytes of flash on a cortex-m4, more than"),
        (Limits(max_ram_bytes=4_100), "takes 20,100 bytes of RAM on a cortex-m4, more than"),
    ):
        advice = recommend(run, limits)
        assert chosen(advice).artifact == "small.c"
        assert isinstance(advice, Recommendation)
        reasons = {cell.measurement.artifact: cell.why_not for cell in advice.others}
        assert reasons["large.c"].startswith(why_not)
        assert reasons["x.tflite"].startswith("has no known need of ")
    advice = recommend(run, Limits(max_flash_bytes=53_999, max_ram_bytes=4_099))
    assert not advice
    assert "small.c on litert-xnnpack with 1 thread takes 54,000 bytes of flash on a" in str(advice)


def test_without_latencies_files_that_exceed_the_memory_are_refused() -> None:
    count = InstructionCount(
        "a.c", "a.c", "cortex-m4", "cortex-m4", 1e6, 1, flash_bytes={"code": 9_000}, ram_bytes=100
    )
    run = dataclasses.replace(make_run([], []), instruction_counts=(count,))
    advice = recommend(run, Limits(max_flash_bytes=8_000))
    assert advice.verdict == "fail"
    assert str(advice) == (
        "Nothing to ship. a.c takes 9,000 bytes of flash on a cortex-m4, more than the 8,000 of"
        " --max-flash."
    )
    assert recommend(run, Limits(max_flash_bytes=9_000)).verdict == "inconclusive"
    # The memory of another verified file is not known.
    unknown = dataclasses.replace(run, parity=(parity_report("b.tflite"),))
    assert recommend(unknown, Limits(max_flash_bytes=8_000)).verdict == "inconclusive"


def test_of_tied_cells_fewer_threads_win_over_fewer_bytes() -> None:
    many = dataclasses.replace(measurement("small.tflite", 9.999, 100), num_threads=4)
    few = measurement("big.tflite", 10, 300)
    advice = recommend(
        make_run([many, few], [parity_report("big.tflite"), parity_report("small.tflite")])
    )
    assert chosen(advice) is few
    assert "as small.tflite on litert-xnnpack with 4 threads, and it needs fewer threads." in str(
        advice
    )


def test_of_tied_runtimes_the_one_with_less_memory_is_recommended() -> None:
    light = measurement("a.tflite", 10, 100)
    heavy = dataclasses.replace(
        measurement("a.tflite", 9.999, 100), target="openvino-cpu",
        processes=(process_samples(light.latencies_s * 0.9999, peak_rss_bytes=2),),
    )  # fmt: skip
    reports = [
        parity_report("a.tflite"),
        dataclasses.replace(parity_report("a.tflite"), target="openvino-cpu"),
    ]
    advice = recommend(make_run([heavy, light], reports))
    assert chosen(advice) is light
    assert "as a.tflite on openvino-cpu with 1 thread, and it takes less memory." in str(advice)


def test_the_smallest_batch_decides_unless_the_limits_name_another() -> None:
    results = make_run(
        [
            measurement("a.tflite", 10, 300, batch_size=1),
            measurement("a.tflite", 500, 300, batch_size=32),
            measurement("b.tflite", 20, 300, batch_size=1),
            measurement("b.tflite", 100, 300, batch_size=32),
        ],
        [parity_report("a.tflite"), parity_report("b.tflite")],
    )
    assert chosen(recommend(results)).artifact == "a.tflite"
    at_32 = recommend(results, Limits(batch_size=32))
    assert (chosen(at_32).artifact, chosen(at_32).batch_size) == ("b.tflite", 32)
    with pytest.raises(DataError, match="batch 8, only at 1, 32"):
        recommend(results, Limits(batch_size=8))


def test_in_the_offline_scenario_the_best_throughput_decides() -> None:
    results = make_run(
        [measurement("a.tflite", 10, 300, 1), measurement("a.tflite", 100, 300, 32)],
        [parity_report("a.tflite")],
    )
    advice = recommend(dataclasses.replace(results, settings={"scenario": "offline"}))
    assert chosen(advice).batch_size == 32
    assert "At batch 32 it was the only one measured (320,000 images/s)." in str(advice)


THREE = make_run(
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
def test_limits_exclude_files(limits: Limits, file: str) -> None:
    advice = recommend(THREE, limits)
    assert chosen(advice).artifact == file
    assert isinstance(advice, Recommendation)
    for cell in advice.others:
        if cell.measurement.p50_s < chosen(advice).p50_s:
            assert "more than the" in cell.why_not


def test_if_nothing_fits_the_nearest_files_and_their_limits_are_named() -> None:
    advice = recommend(THREE, Limits(max_accuracy_drop=0.05, max_latency_s=9e-6))
    assert not advice
    assert str(advice) == (
        "Nothing to ship. float.tflite on litert-xnnpack with 1 thread takes 10.0 µs, more than the"
        " 9.0 µs of --max-latency; int8.tflite on litert-xnnpack with 1 thread loses 0.30 points of"
        " accuracy, more than the 0.05 of --max-accuracy-drop."
    )


def test_an_unknown_accuracy_keeps_no_limit() -> None:
    unknown = dataclasses.replace(
        parity_report("a.tflite"), candidate_accuracy=None, accuracy_drop=None, mcnemar_p=None
    )
    results = make_run([measurement("a.tflite", 10, 300)], [unknown])
    assert chosen(recommend(results)).artifact == "a.tflite"
    assert "its accuracy is unknown" in str(recommend(results, Limits(max_accuracy_drop=5)))


def test_nothing_is_recommended_without_a_passed_verdict() -> None:
    cell = measurement("a.tflite", 10, 300)
    for reports, reason in (
        ([], "Nothing was verified; add the results of: lenet-edge verify"),
        (
            [parity_report("a.tflite", passed=False)],
            "a.tflite on litert-xnnpack with 1 thread failed parity",
        ),
    ):
        advice = recommend(make_run([cell], reports))
        assert not advice
        assert reason in str(advice)
    assert "Nothing was timed" in str(recommend(make_run([], [parity_report("a.tflite")])))


def test_a_checkpoint_is_never_recommended() -> None:
    assert not recommend(make_run([measurement("a.keras", 1, 1)], [parity_report("a.keras")]))


def test_an_invalid_measurement_is_not_recommended() -> None:
    throttled = dataclasses.replace(measurement("a.tflite", 10, 300), invalid="throttled")
    assert "has invalid latencies: throttled" in str(
        recommend(make_run([throttled], [parity_report("a.tflite")]))
    )
