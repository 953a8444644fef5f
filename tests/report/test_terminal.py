"""The tables fit 80 columns and hold what was found."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from lenet_edge.report.latency import bench_view
from lenet_edge.report.terminal import parity_view, summary_view
from lenet_edge.results.parity_report import ClassCount, Flip, LayerError
from lenet_edge.results.result_file import BenchRun, Skipped
from tests.report.builders import measurement, parity_report

VIEWS = {"parity": parity_view, "bench": bench_view, "summary": summary_view}


@pytest.fixture(scope="module")
def run() -> BenchRun:
    return BenchRun.of_this_machine(
        (
            measurement("lenet_float32.tflite", 17.44, 243_504),
            measurement("lenet_float32.tflite", 1234.5, 243_504, batch_size=128),
            measurement("lenet_int8.tflite", 25.8, 70_208),
        ),
        (
            parity_report("lenet_float32.tflite"),
            parity_report("lenet_int8.tflite", passed=False, drop=0.25),
        ),
        (Skipped("openvino-cpu", "openvino is not installed", "lenet_int8.tflite"),),
    )


def text(view: str, run: BenchRun, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(VIEWS[view](run))
    return stream.getvalue()


@pytest.mark.parametrize("view", VIEWS)
def test_80_columns_are_enough(view: str, run: BenchRun) -> None:
    narrow, wide = text(view, run), text(view, run, width=500)
    assert "…" not in narrow
    assert len(narrow.split()) == len(wide.split())
    assert max(map(len, narrow.splitlines())) <= 80


@pytest.mark.parametrize("view", VIEWS)
def test_what_was_skipped_is_said(view: str, run: BenchRun) -> None:
    said = " ".join(text(view, run).split())
    assert "skipped openvino-cpu: openvino is not installed (lenet_int8.tflite)" in said


def test_what_is_not_here_is_named_briefly(run: BenchRun) -> None:
    absent = tuple(Skipped(f"target-{number}", "no driver") for number in range(9))
    said = " ".join(text("bench", dataclasses.replace(run, skipped=absent)).split())
    names = ", ".join(one.target for one in absent[:6])
    assert f"Not here: {names} and 3 more; lenet-edge targets says why" in said
    said = " ".join(text("bench", dataclasses.replace(run, skipped=absent[:2])).split())
    assert "Not here: target-0, target-1; lenet-edge targets says why" in said


def test_figures(run: BenchRun) -> None:
    assert "17.4" in text("bench", run)
    assert "1,234" in text("bench", run)
    assert "FAIL" in text("parity", run)


def test_a_row_without_a_measurement_says_so(run: BenchRun) -> None:
    row = next(line for line in text("summary", run).splitlines() if " 25.8 " in line)
    assert " – " in row  # int8 was not measured at batch 128


def test_the_summary_ends_in_advice_and_warns_of_the_failure(run: BenchRun) -> None:
    said = " ".join(text("summary", run).split())
    assert "Do not use lenet_int8.tflite on litert-xnnpack: it loses 0.25 points" in said
    assert "Ship lenet_float32.tflite on litert-xnnpack" in said


def test_parity_says_the_verdict_its_reason_and_its_diagnosis() -> None:
    layer = LayerError("dense1", "Gemm", 5.5, 33.5, 2.0, 0.25, (0, 1), (0, 8), "it clips")
    failed = dataclasses.replace(
        parity_report("lenet_int8.tflite", passed=False, drop=0.25),
        diagnosis="wrong input, not a wrong file",
        per_class=(ClassCount("a", 10, 9, 5), ClassCount("b", 10, 9, 9)),
        confusion=((5, 5), (1, 9)),
        flips=(Flip(3, 1, 1, -1, 0.9, None), Flip(4, None, 1, 2, 0.9, 0.6)),
        layers=(layer,),
        mcnemar_p=None,
    )
    unsure = dataclasses.replace(failed, verdict="inconclusive", reasons=("7 images are too few",))
    for report, words in ((failed, "Do not use"), (unsure, "Inconclusive")):
        shown = text("parity", BenchRun.of_this_machine(parity=(report,)))
        assert max(map(len, shown.splitlines())) <= 80
        said = " ".join(shown.split())
        assert f"{words}" in said
        assert report.reasons[0] in said
        assert "wrong input, not a wrong file" in said
        assert "worst first: a 50.0%, b 90.0%" in said
        assert "a for b 5" in said
        assert "dense1: it clips." in said
