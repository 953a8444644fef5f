"""Benchmarks on a real Dask scheduler and real workers, some of which are killed or stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench import plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import driver
from lenet_edge.fleet.connection import connect
from lenet_edge.flows import fleet
from lenet_edge.flows.fleet_session import Choice, open_fleet
from lenet_edge.results.result_file import BenchRun, FleetRun, load_runs
from lenet_edge.selection import Pair
from tests.conftest import LenetEdge
from tests.fleet.cluster import Cluster, cluster, is_latency

pytestmark = pytest.mark.slow
QUICK = StopRule(min_time_s=0, max_time_s=0.1, precision=1)
EXPORTED = Path(__file__).parents[2] / "exported"
ROUNDS = 2


@pytest.fixture(scope="module")
def choice() -> Choice:
    files = [load_artifact(EXPORTED / f"lenet_{kind}.tflite") for kind in ("float32", "int8")]
    return Choice(files, ("litert-xnnpack",))


def make_plan(pairs: Sequence[Pair]) -> plan.Plan:
    return plan.Plan(plan.expand(pairs, (1, 2, 4)), rounds=ROUNDS, stop=QUICK, timeout_s=20)


KEYS = {
    (f"lenet_{kind}.tflite", "litert-xnnpack", batch, 1)
    for kind in ("float32", "int8")
    for batch in (1, 2, 4)
}


def bench(
    boards: Cluster,
    choice: Choice,
    share: bool,
    when: Callable[[str], None] = lambda line: None,
    **more: Any,
) -> tuple[FleetRun, list[str]]:
    """Run a benchmark on a cluster; call `when` with each line, and return results and lines."""
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        when(line)

    with connect(boards.address) as client:
        result = fleet.bench(
            open_fleet(client, choice), make_plan, share, lambda total: report, **more
        )
    return result, lines


def complete(run: BenchRun) -> set[Any]:
    return {m.key for m in run.measurements if len(m.processes) == ROUNDS and not m.invalid}


def test_every_board_measures_all_cells_into_one_file(
    choice: Choice, tmp_path: Path, lenet_edge: LenetEdge
) -> None:
    with cluster(tmp_path, "a", "b") as boards:
        files = [artifact.path for artifact in choice.artifacts]
        verified = lenet_edge("verify", *files, "--scheduler", boards.address, "--target", "tflite",
                              "--json", "verified.json")  # fmt: skip
        timed = lenet_edge("bench", *files, "--scheduler", boards.address, "--target", "tflite",
                           "--batch-size", "1", "--max-time", "0.3", "--json",
                           "timed.json")  # fmt: skip
    assert (verified.returncode, timed.returncode) == (0, 0), verified.stderr + timed.stderr
    for name in ("verified.json", "timed.json"):
        runs = load_runs(tmp_path / name)
        assert [run.board for run in runs] == ["a", "b"]
        for run in runs:
            assert run.environment.packages["ai-edge-litert"]
            assert {report.candidate for report in run.parity} == {path.name for path in files}
    for run in runs:
        assert [(m.artifact, len(m.processes)) for m in run.measurements] == [
            ("lenet_float32.tflite", 3),
            ("lenet_int8.tflite", 3),
        ]
    assert "2 boards" in timed.stdout
    done = lenet_edge("report", "verified.json", "timed.json", "--output", "report.md")
    assert done.stdout.startswith("Ship lenet_"), done.stderr
    page = (tmp_path / "report.md").read_text()
    assert "| a |" in page
    assert "| b |" in page


@pytest.mark.parametrize("share", [True, False], ids=["shared", "each"])
def test_kill_9_loses_no_cell_and_repeats_no_complete_cell(
    share: bool, choice: Choice, tmp_path: Path
) -> None:
    with cluster(tmp_path, "a", "b", "c") as boards:
        done_by_a: list[str] = []

        def kill_in_the_middle(line: str) -> None:
            # The board has one process of each cell, and runs the second process of the first cell.
            if line.startswith("a: ") and is_latency(line):
                done_by_a.append(line)
                if len(done_by_a) == (3 if share else 7):
                    boards.send("a", signal.SIGKILL)

        result, lines = bench(boards, choice, share, kill_in_the_middle)
    assert [lost.board for lost in result.lost] == ["a"]
    runs = {run.board: run for run in result.runs}
    kept = {name: complete(run) for name, run in runs.items()}
    assert kept["a"] < KEYS  # killed before the end
    assert kept["b"] | kept["c"] | kept["a"] == KEYS
    measured = Counter(key for keys in kept.values() for key in keys)
    if share:  # complete cells are not repeated; the others are measured on one more board
        assert set(measured.values()) == {1}
    else:
        assert kept["b"] == kept["c"] == KEYS
    # Every process that was started is in the results.
    for name in ("b", "c"):
        assert sum(line.startswith(f"{name}: lenet") for line in lines) == ROUNDS * len(
            runs[name].measurements
        )
    assert all("measures it" in skip.reason for skip in runs["a"].skipped)
    assert {skip.artifact for skip in runs["a"].skipped} <= {key[0] for key in KEYS - kept["a"]}


def test_a_stalled_board_affects_no_other_board(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "GRACE_S", 2.0)
    with cluster(tmp_path, "a", "b") as boards:
        stalled: list[str] = []

        def stall(line: str) -> None:
            if line.startswith("a: lenet") and is_latency(line) and not stalled:
                stalled.append(line)
                boards.send("a", signal.SIGSTOP)

        result, _ = bench(boards, choice, True, stall)
    (lost,) = result.lost
    assert (lost.board, "did not return" in lost.reason) == ("a", True)
    assert set().union(*map(complete, result.runs)) == KEYS


def test_the_loss_of_the_last_board_of_its_kind(choice: Choice, tmp_path: Path) -> None:
    """Its measurements are kept; --resume measures the rest only."""
    done: list[str] = []
    with cluster(tmp_path, "a") as boards:

        def kill(line: str) -> None:
            done.append(line)
            if sum(is_latency(line) for line in done) == len(KEYS) + 2:
                boards.send("a", signal.SIGKILL)

        result, _ = bench(boards, choice, False, kill)
    assert result.lost[0].board == "a"
    (run,) = result.runs
    assert run.skipped
    assert all("no equal board is there" in skip.reason for skip in run.skipped)
    before = complete(run)
    result.save(tmp_path / "fleet.json")
    again = tmp_path / "again"
    again.mkdir()
    with cluster(again, "a") as boards:
        result, lines = bench(boards, choice, False, earlier=load_runs(tmp_path / "fleet.json"))
    assert complete(result.runs[0]) == KEYS
    assert not result.lost
    measured = [line for line in lines if is_latency(line)]
    assert len(measured) == ROUNDS * len(KEYS - before)


def test_a_killed_scheduler_is_one_error_and_the_results_are_kept(
    choice: Choice, tmp_path: Path
) -> None:
    kept: list[FleetRun] = []
    with cluster(tmp_path, "a") as boards:

        def kill(line: str) -> None:
            if is_latency(line):
                boards.send("scheduler", signal.SIGKILL)

        with pytest.raises(LenetEdgeError, match="the scheduler ended"):
            bench(boards, choice, False, kill, keep=kept.append)
    (run,) = kept[-1].runs
    assert len(run.measurements) == 1
    assert run.skipped == ()


def test_another_version_is_an_error_before_the_run(choice: Choice, tmp_path: Path) -> None:
    other = tmp_path / "packages" / "lenet_edge-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: lenet-edge\nVersion: 9.9.9\n")
    with cluster(tmp_path, "a") as boards:
        boards.add("old", environment={"PYTHONPATH": str(other.parent)})
        boards.wait_for(2)
        with pytest.raises(LenetEdgeError) as caught:
            bench(boards, choice, False)
    text = str(caught.value)
    assert text.startswith("old has lenet-edge 9.9.9, this machine ")
    assert "on each board: pip install lenet-edge==" in text


def test_a_board_without_the_runtime_reports_it(tmp_path: Path) -> None:
    files = [load_artifact(EXPORTED / "lenet_int8.onnx")]
    with cluster(tmp_path, "a") as boards:
        result, _ = bench(boards, Choice(files, ("onnxruntime-cann",)), False)
    (run,) = result.runs
    assert not run.measurements
    assert run.skipped[0].target == "onnxruntime-cann"


def test_a_board_detects_damaged_files(tmp_path: Path) -> None:
    good = load_artifact(EXPORTED / "lenet_int8.tflite")
    wrong: Artifact = dataclasses.replace(good, sha256="0" * 64)
    with cluster(tmp_path, "a") as boards:
        with pytest.raises(LenetEdgeError, match=r"a: lenet_int8\.tflite arrived damaged"):
            bench(boards, Choice([wrong], ("litert-xnnpack",)), False)


def test_a_missing_scheduler_or_board_is_one_line(tmp_path: Path, lenet_edge: LenetEdge) -> None:
    file = EXPORTED / "lenet_int8.tflite"
    absent = lenet_edge("bench", file, "--scheduler", "tcp://127.0.0.1:9")
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1), absent.stderr
    assert "no scheduler answers at tcp://127.0.0.1:9" in absent.stderr
    malformed = lenet_edge("verify", file, "--scheduler", "what")
    assert (malformed.returncode, malformed.stderr.count("\n")) == (1, 1), malformed.stderr
    with contextlib.closing(Cluster(tmp_path)) as boards:
        empty = lenet_edge("bench", file, "--scheduler", boards.address)
    assert empty.returncode == 1
    assert "it has no worker that is a board; start them with: lenet-edge fleet up" in empty.stderr
