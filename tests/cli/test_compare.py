"""Tests of `compare`: it reports proven differences, and fails if a cell is slower."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.results.result_file import BenchRun, InstructionCount, Measurement
from tests.conftest import LenetEdge
from tests.report.builders import measurement, parity_report, process_samples


def timed(name: str, p50_us: float, seed: int = 0) -> Measurement:
    """Return a measurement of six processes whose medians differ by about 0.5 %."""
    random = np.random.default_rng(seed)
    medians = p50_us * 1e-6 * np.exp(random.normal(0, 0.005, 6))
    processes = tuple(process_samples(median * random.normal(1, 0.01, 500)) for median in medians)
    return dataclasses.replace(measurement(name, p50_us, 100), processes=processes)


def saved(path: Path, *measurements: Measurement, drop: float = 0.0, passed: bool = True) -> Path:
    reports = tuple(parity_report(cell.artifact, passed, drop) for cell in measurements)
    run = BenchRun.of_this_machine(measurements, reports)
    dataclasses.replace(run, settings={"precision": 0.01}).save(path)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(tmp_path / "base.json", timed("a.tflite", 10, 1), timed("b.tflite", 20, 2))


def test_no_difference(lenet_edge_here: LenetEdge, base: Path, tmp_path: Path) -> None:
    new = saved(tmp_path / "new.json", timed("a.tflite", 10, 3), timed("b.tflite", 20, 4))
    done = lenet_edge_here("compare", base, new)
    assert done.returncode == 0, done.stderr
    assert "2 equal" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_slower_and_faster(lenet_edge_here: LenetEdge, base: Path, tmp_path: Path) -> None:
    new = saved(tmp_path / "new.json", timed("a.tflite", 10.5, 3), timed("b.tflite", 15, 4))
    done = lenet_edge_here("compare", base, new, "--json", "out.json")
    assert done.returncode == 3
    assert "1 faster, 1 slower" in done.stdout
    assert "worse: a.tflite on litert-xnnpack, batch 1" in done.stdout
    slower, faster = json.loads((tmp_path / "out.json").read_text())["changes"]
    assert (slower["verdict"], faster["verdict"]) == ("slower", "faster")
    assert slower["ratio"]["low"] < 1.05 < slower["ratio"]["high"]
    assert faster["regression"] is None
    assert lenet_edge_here("compare", base, new, "--fail-above", "10%").returncode == 0


def test_a_loss_of_accuracy_is_a_regression_even_if_the_file_is_faster(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    cells = timed("a.tflite", 9, 3), timed("b.tflite", 20, 4)
    new = saved(tmp_path / "new.json", *cells, drop=0.5, passed=False)
    done = lenet_edge_here("compare", base, new)
    assert done.returncode == 3
    assert "-0.50" in done.stdout
    assert "no longer passes parity" in done.stdout


def test_cells_of_only_one_run_are_listed(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    new = saved(tmp_path / "new.json", timed("a.tflite", 10, 3), timed("c.tflite", 1, 4))
    done = lenet_edge_here("compare", base, new)
    assert done.returncode == 3  # a target that no longer works must not pass a gate
    assert "b.tflite on litert-xnnpack, batch 1: only in the base" in done.stdout
    assert "c.tflite on litert-xnnpack, batch 1: only in the new run" in done.stdout
    assert "worse: b.tflite on litert-xnnpack, batch 1: missing in the new run" in done.stdout
    assert lenet_edge_here("compare", base, base).returncode == 0


def test_missing_cells_are_a_regression_even_if_only_counts_are_shared(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    new = saved(tmp_path / "new.json", timed("c.tflite", 1, 4))
    for path in (base, new):
        dataclasses.replace(BenchRun.load(path), instruction_counts=(COUNT,)).save(path)
    done = lenet_edge_here("compare", base, new)
    assert done.returncode == 3, done.stderr
    assert "latencies are not compared: the runs share no cell" in " ".join(done.stdout.split())
    for name in ("a.tflite", "b.tflite"):
        assert f"worse: {name} on litert-xnnpack, batch 1: missing in the new run" in done.stdout


@pytest.mark.parametrize(
    "fact",
    [
        {"machine": "a Raspberry Pi"},
        {"emulated": "in qemu-aarch64"},
        {"cpu_features": ("another",)},  # a virtual machine of the same name may hide them
    ],
)
def test_runs_of_different_machines_are_an_error(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path, fact: dict[str, Any]
) -> None:
    run = BenchRun.load(base)
    other = dataclasses.replace(run, environment=dataclasses.replace(run.environment, **fact))
    other.save(tmp_path / "other.json")
    done = lenet_edge_here("compare", base, "other.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "different machines" in done.stderr


def test_runs_without_a_common_cell_are_an_error(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    new = saved(tmp_path / "new.json", timed("c.tflite", 1))
    done = lenet_edge_here("compare", base, new)
    assert "share no cell" in done.stderr
    assert lenet_edge_here("compare", base, "none.json").returncode == 1
    assert lenet_edge_here("compare", base, base, "--fail-above", "many").returncode == 2


def test_a_file_of_an_earlier_schema(lenet_edge_here: LenetEdge) -> None:
    golden = Path(__file__).parents[1] / "golden" / "schema-1.json"
    done = lenet_edge_here("compare", golden, golden)
    assert done.returncode == 0, done.stderr
    assert "2 equal" in done.stdout


def counted(path: Path, *counts: InstructionCount, machine: str | None = None) -> Path:
    run = BenchRun.of_this_machine()
    environment = dataclasses.replace(run.environment, machine=machine or "this")
    dataclasses.replace(run, environment=environment, instruction_counts=counts).save(path)
    return path


COUNT = InstructionCount(
    "a.c", "0" * 64, "cortex-m4", "cortex-m4", 1000.0, 10, "gcc 12", ("-O3",), "QEMU",
    {"conv": 600.0, "dense": 390.0}, {"code": 100, "constants": 50}, 4, 200,
)  # fmt: skip


@pytest.mark.parametrize(
    ("instructions", "bound", "status"), [(1000, "0%", 0), (1011, "1%", 3), (1009, "1%", 0),
                                          (1009, "0%", 3), (900, "0%", 0)],
)  # fmt: skip
def test_instruction_counts_gate_across_machines(
    lenet_edge_here: LenetEdge, tmp_path: Path, instructions: int, bound: str, status: int
) -> None:
    layers = {"conv": 600.0 + instructions - 1000, "dense": 390.0}
    new = dataclasses.replace(COUNT, instructions=float(instructions), layers=layers)
    old_file = counted(tmp_path / "old.json", COUNT, machine="one")
    new_file = counted(tmp_path / "new.json", new, machine="another")
    words = ("--fail-above", bound, "--json", "out.json")
    done = lenet_edge_here("compare", old_file, new_file, *words)
    assert done.returncode == status, done.stderr
    (change,) = json.loads((tmp_path / "out.json").read_text())["instruction_counts"]
    assert change["ratio"] == instructions / 1000
    assert (change["regression"] is not None) == (status == 3)
    assert ("most in conv" in done.stdout) == (status == 3)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_may_explain_a_count_is_printed(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    new = dataclasses.replace(COUNT, compiler="gcc 14", flash_bytes={"code": 120}, stack_bytes=300)
    only = dataclasses.replace(COUNT, cpu="cortex-m7", target="cortex-m7")
    done = lenet_edge_here(
        "compare", counted(tmp_path / "old.json", COUNT), counted(tmp_path / "new.json", new, only)
    )
    assert done.returncode == 0, done.stderr
    for line in ("other compilers", "flash 150 -> 120 bytes", "stack 200 -> 300 bytes",
                 "a.c on cortex-m7: counted only in the new run"):  # fmt: skip
        assert line in done.stdout
    done = lenet_edge_here("compare", "new.json", "old.json", "--fail-above", "100%")
    assert done.returncode == 3
    assert "worse: a.c on cortex-m7: missing in the new run" in done.stdout


def test_latencies_of_different_machines_are_left_out_beside_counts(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    run = dataclasses.replace(BenchRun.load(base), instruction_counts=(COUNT,))
    run.save(tmp_path / "one.json")
    environment = dataclasses.replace(run.environment, machine="a Raspberry Pi")
    dataclasses.replace(run, environment=environment).save(tmp_path / "other.json")
    done = lenet_edge_here("compare", "one.json", "other.json")
    assert done.returncode == 0, done.stderr
    assert "latencies are not compared" in done.stdout
    assert "2 equal" in lenet_edge_here("compare", "one.json", "one.json").stdout


def test_the_report_has_the_change_of_the_instructions(
    lenet_edge_here: LenetEdge, base: Path, tmp_path: Path
) -> None:
    run = BenchRun.load(base)
    for name, instructions in (("old.json", 1000.0), ("new.json", 1011.0)):
        count = dataclasses.replace(COUNT, instructions=instructions)
        dataclasses.replace(run, instruction_counts=(count,)).save(tmp_path / name)
    done = lenet_edge_here("report", "new.json", "--compare", "old.json", "--output", "r.md")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r.md").read_text()
    assert "a.c on cortex-m4: 1,000 to 1,011 instructions (+1.10%)." in page
    assert "| a.c | cortex-m4 | conv | 600 |" in page
