"""Terminal views: figures, verdicts, skipped pairs and the recommendation."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from lenet_edge.report.terminal.bench import bench_view
from lenet_edge.report.terminal.parity import parity_view
from lenet_edge.report.terminal.summary import summary_view
from lenet_edge.results.parity_report import Bounds, ClassCount, Flip, LayerError
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


def render(view: str, run: BenchRun) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(VIEWS[view](run))
    return stream.getvalue()


@pytest.mark.parametrize("view", VIEWS)
def test_skipped_pairs_are_listed(view: str, run: BenchRun) -> None:
    text = " ".join(render(view, run).split())
    assert "skipped openvino-cpu: openvino is not installed (lenet_int8.tflite)" in text


def test_unavailable_targets_are_listed_briefly(run: BenchRun) -> None:
    absent = tuple(Skipped(f"target-{number}", "no driver") for number in range(9))
    text = " ".join(render("bench", dataclasses.replace(run, skipped=absent)).split())
    names = ", ".join(skip.target for skip in absent[:6])
    assert f"Unavailable: {names} and 3 more; see lenet-edge targets" in text
    text = " ".join(render("bench", dataclasses.replace(run, skipped=absent[:2])).split())
    assert "Unavailable: target-0, target-1; see lenet-edge targets" in text


def test_figures_are_in_microseconds(run: BenchRun) -> None:
    assert "17.4" in render("bench", run)
    assert "1,234" in render("bench", run)
    assert "FAIL" in render("parity", run)


def test_one_line_counts_the_shared_ranks(run: BenchRun) -> None:
    twins = [measurement(name, 10, 1) for name in ("a.tflite", "b.tflite", "c.tflite")]
    tied = dataclasses.replace(run, measurements=(*twins, measurement("d.tflite", 50, 1)))
    text = " ".join(render("bench", tied).split())
    assert "1 rank is shared; lenet-edge report names the cells." in text
    assert "shared" not in render("bench", run)


def test_a_missing_measurement_is_a_dash(run: BenchRun) -> None:
    row = next(line for line in render("summary", run).splitlines() if " 25.8 " in line)
    assert " – " in row  # int8 was not measured at batch 128


def test_the_summary_has_a_recommendation_and_warns_of_failures(run: BenchRun) -> None:
    text = " ".join(render("summary", run).split())
    assert "Do not use lenet_int8.tflite on litert-xnnpack: it loses 0.25 points" in text
    assert "Ship lenet_float32.tflite on litert-xnnpack" in text


def test_a_bench_does_not_warn_of_the_few_images_of_its_own_check(run: BenchRun) -> None:
    reason = "256 images are too few to decide a drop of 0.1 points; give 1,000 or more"
    checked = dataclasses.replace(
        parity_report("lenet_float32.tflite"), num_samples=256, verdict="inconclusive",
        reasons=(reason,), flips=(Flip(3, 1, 1, 2, 0.9, 0.8),), bounds=Bounds(0.1),
    )  # fmt: skip
    run = dataclasses.replace(run, parity=(checked,))
    assert "Inconclusive: 256 images are too few" in " ".join(render("parity", run).split())
    assert "Inconclusive" not in render("bench", run)


def test_the_parity_view_has_the_verdict_its_reasons_and_the_diagnosis() -> None:
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
    inconclusive = dataclasses.replace(
        failed, verdict="inconclusive", reasons=("7 images are too few",)
    )
    for report, words in ((failed, "Do not use"), (inconclusive, "Inconclusive:")):
        output = render("parity", BenchRun.of_this_machine(parity=(report,)))
        assert max(map(len, output.splitlines())) <= 80
        text = " ".join(output.split())
        assert words in text
        assert report.reasons[0] in text
        assert "wrong input, not a wrong file" in text
        assert "worst first: a 50.0%, b 90.0%" in text
        assert "a → b 5" in text
        assert "dense1: it clips." in text


@pytest.mark.parametrize("view", ["bench", "summary"])
def test_a_busy_machine_is_named_beside_its_latencies(view: str, run: BenchRun) -> None:
    busy = dataclasses.replace(run.environment, load=8.0, cores=2)
    text = render(view, dataclasses.replace(run, environment=busy))
    assert "Other programs used this machine (load 8.0)" in " ".join(text.split())
