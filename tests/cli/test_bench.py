"""Tests of `bench`: runtimes that fail, interrupted runs and their continuation, other formats."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lenet_edge
from lenet_edge.results.result_file import BenchRun
from tests.conftest import LenetEdge

PACKAGE = Path(lenet_edge.__file__).parent
RUNTIME = Path(__file__).parents[1] / "misbehaving_runtime.py"


@pytest.fixture
def with_misbehaving_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `lenet-edge` run a copy of the package with the misbehaving runtime."""
    copy = tmp_path / "copy" / "lenet_edge"
    (copy / "runtimes").mkdir(parents=True)
    for folder in (Path(), Path("runtimes")):
        for path in (PACKAGE / folder).iterdir():
            if path.name not in ("runtimes", "__pycache__"):
                (copy / folder / path.name).symlink_to(path)
    (copy / "runtimes" / "misbehaving.py").symlink_to(RUNTIME)
    monkeypatch.setenv("PYTHONPATH", str(copy.parent))


@pytest.mark.usefixtures("with_misbehaving_runtime")
def test_a_misbehaving_runtime_affects_only_its_own_cells(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    done = lenet_edge(
        "bench", exports / "lenet_int8.tflite", "--target", "misbehaving", "--batch-size", "1",
        "--target", "litert-xnnpack", "--min-time", "0.1", "--timeout", "10", "--rounds", "2",
        "--json", "out.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = BenchRun.load(tmp_path / "out.json")
    cells = {cell.target: cell for cell in run.measurements}
    assert set(cells) == {"litert-xnnpack", "misbehaving-babble"}
    assert all(len(cell.processes) >= 2 and not cell.invalid for cell in run.measurements)
    # The check before the measurement already skips them.
    reasons = {
        skipped.target: skipped.reason.removeprefix("verify.inference:record_logits ")
        for skipped in run.skipped
    }
    assert "was killed by SIGSEGV" in reasons["misbehaving-segfault"]
    assert reasons["misbehaving-abort"] == (
        "was killed by SIGABRT (it printed: check failed: model)"
    )
    assert reasons["misbehaving-swell"].startswith("needs more than the ")
    assert reasons["misbehaving-hang"] == "did not finish within 10 s and was stopped"
    assert set(reasons) == {
        f"misbehaving-{fault}" for fault in ("segfault", "abort", "swell", "hang")
    }
    assert run.remaining == 0
    assert "skipped misbehaving-segfault" in done.stdout


BENCH = ["bench", "--target", "litert-xnnpack", "--batch-size", "1,4", "--min-time", "0.05",
         "--max-time", "0.2", "--json", "out.json"]  # fmt: skip
BRIEFLY = ["--rounds", "1", "--min-time", "0.05", "--max-time", "0.2"]


@pytest.mark.parametrize(
    "end",
    [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
    ids=lambda end: end.name,
)
def test_an_interrupted_bench_continues(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path, end: signal.Signals
) -> None:
    file = str(exports / "lenet_int8.tflite")
    command = [sys.executable, "-m", "lenet_edge", *BENCH, file]
    out = tmp_path / "out.json"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                          stdout=subprocess.DEVNULL) as process:  # fmt: skip
        for _ in range(600):
            if out.exists() and BenchRun.load(out).remaining <= 4:
                break
            time.sleep(0.05)
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
    stopped = BenchRun.load(out)
    assert 0 < stopped.remaining < 6
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "go on with the same command and --resume" in errors.splitlines()[-1]
    done = lenet_edge(*BENCH, file, "--resume")
    assert done.returncode == 0, done.stderr
    assert "nothing left to do" in done.stderr  # a log gets few lines of progress
    run = BenchRun.load(out)
    assert run.remaining == 0
    assert all(len(cell.processes) >= 3 for cell in run.measurements)
    medians = {cell.key: [p.p50_s for p in cell.processes] for cell in run.measurements}
    for cell in stopped.measurements:
        before = [process.p50_s for process in cell.processes]
        assert medians[cell.key][: len(before)] == before


def test_resume_of_another_plan_is_an_error(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    command = [*BENCH, exports / "lenet_int8.tflite", "--rounds"]
    assert lenet_edge_here(*command, "1").returncode == 0
    before = (tmp_path / "out.json").read_bytes()
    done = lenet_edge_here(*command, "2", "--resume")
    assert (done.returncode, done.stdout) == (1, "")
    assert "of another plan" in done.stderr.splitlines()[-1]
    assert (tmp_path / "out.json").read_bytes() == before


def test_other_formats(lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path) -> None:
    done = lenet_edge_here(
        *BENCH, exports / "lenet_int8.tflite", "--rounds", "1", "--csv", "out.csv",
        "--pytest-benchmark", "pytest.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = BenchRun.load(tmp_path / "out.json")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batch_size"]) for row in rows] == [1, 4]
    for row, cell in zip(rows, run.measurements, strict=True):
        assert float(row["p50_s"]) == cell.p50_s
        assert float(row["p50_interval_s_high"]) == cell.p50_interval_s[1]
    compared = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", tmp_path / "pytest.json",
         "--columns=median,rounds", "--group-by=group"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    for cell in run.measurements:
        assert f"lenet_int8.tflite-litert-xnnpack-b{cell.batch_size}-t1" in compared.stdout
        assert str(len(cell.latencies_s)) in compared.stdout


def test_a_scenario_selects_the_batch_size_and_the_percentile(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    command = ["bench", exports / "lenet_int8.tflite", "--target", "litert", *BRIEFLY]
    for scenario, batches, metric in (("single-stream", [1], "p90"), ("multi-stream", [8], "p99")):
        done = lenet_edge_here(*command, "--scenario", scenario, "--json", "out.json")
        assert done.returncode == 0, done.stderr
        run = BenchRun.load(tmp_path / "out.json")
        assert run.settings["scenario"] == scenario
        assert [cell.batch_size for cell in run.measurements] == batches
        assert f"by {metric}, per batch size" in " ".join(done.stdout.split())


@pytest.mark.costly
def test_a_foreign_file_is_timed_with_random_inputs(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 2])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 30])
    node = helper.make_node("Flatten", ["x"], ["y"])
    graph = helper.make_graph([node], "foreign", [image], [scores])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "a.onnx")
    done = lenet_edge_here("bench", "a.onnx", "--target", "onnx", *BRIEFLY, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    (cell,) = BenchRun.load(tmp_path / "out.json").measurements
    assert (cell.inputs, cell.batch_size) == ("random", 1)
    assert "random inputs" in done.stdout


def test_the_python_of_another_venv(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    """Use a venv that sees the packages of this Python, an empty venv, and a missing path."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    (site,) = venv.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("-packages")]
    (site / "host.pth").write_text("\n".join(packages) + "\n")
    command = [*BENCH, exports / "lenet_int8.tflite", "--rounds", "1", "--python"]
    done = lenet_edge_here(*command, f"litert={venv / 'bin' / 'python'}")
    assert done.returncode == 0, done.stderr
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", empty], check=True, timeout=60)
    done = lenet_edge_here(*command, str(empty / "bin" / "python"))
    assert "No module named 'numpy'" in done.stderr
    done = lenet_edge_here(*command, "litert=/none")
    assert (done.returncode, "/none is not a Python interpreter" in done.stderr) == (2, True)
