"""Runs of one machine are joined; runs of different machines are not."""

from __future__ import annotations

import dataclasses

from lenet_edge.report.join_runs import join_by_machine
from lenet_edge.report.rank import ranks
from lenet_edge.report.recommend import recommend
from lenet_edge.results.result_file import BenchRun, Skipped
from tests.report.builders import measurement, parity_report

BENCH = dataclasses.replace(
    BenchRun.of_this_machine((measurement("a.tflite", 10, 300), measurement("b.tflite", 20, 300))),
    created_at="2026-01-01T00:00:00+00:00",
    settings={"rounds": 3, "precision": 0.01, "scenario": None},
    peak_macs_per_s={1: 5e10},
)
VERIFY = dataclasses.replace(
    BenchRun.of_this_machine(
        parity=(parity_report("a.tflite"),), skipped=(Skipped("t", "no", "b.tflite"),)
    ),
    created_at="2026-01-02T00:00:00+00:00",
)


def test_bench_and_verify_of_one_machine_are_joined() -> None:
    (joined,) = join_by_machine([VERIFY, BENCH])
    assert (joined.measurements, joined.parity) == (BENCH.measurements, VERIFY.parity)
    assert joined.skipped == VERIFY.skipped
    assert joined.peak_macs_per_s == {1: 5e10}
    assert joined.paired  # a single bench, so its rounds are paired
    assert str(recommend(joined)).startswith("Ship a.tflite on litert-xnnpack with 1 thread")


def test_of_two_benches_the_newer_cells_count_and_nothing_is_paired() -> None:
    newer = dataclasses.replace(
        BENCH,
        measurements=(measurement("a.tflite", 30, 300),),
        created_at="2026-02-01T00:00:00+00:00",
        peak_macs_per_s={1: 4e10, 2: 8e10},
    )
    (joined,) = join_by_machine([newer, BENCH, VERIFY])
    assert {cell.artifact: round(cell.p50_s * 1e6) for cell in joined.measurements} == {
        "a.tflite": 30,
        "b.tflite": 20,
    }
    assert not joined.paired
    assert joined.settings == {"joined": 2, "scenario": None, "precision": 0.01}
    assert joined.peak_macs_per_s == {1: 5e10, 2: 8e10}
    assert {key[0]: str(rank) for key, rank in ranks(joined).items()} == {
        "b.tflite": "1",
        "a.tflite": "2",
    }


def test_different_machines_are_not_joined() -> None:
    other_machine = dataclasses.replace(BENCH.environment, machine="Raspberry Pi 5")
    other_bench = dataclasses.replace(BENCH, environment=other_machine)
    runs = join_by_machine([BENCH, other_bench, VERIFY])
    assert [len(run.measurements) for run in runs] == [2, 2]
    assert [len(run.parity) for run in runs] == [1, 0]
    assert runs[1].environment.machine == "Raspberry Pi 5"
