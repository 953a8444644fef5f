"""Plans on several real workers: what each measures, and what becomes of one that goes away."""

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
from tests.fleet.cluster import Cluster, cluster

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
    made: Cluster,
    choice: Choice,
    share: bool,
    when: Callable[[str], None] = lambda said: None,
    **more: Any,
) -> tuple[FleetRun, list[str]]:
    """Bench on a cluster, calling `when` with each line; return what was found and all lines."""
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        when(line)

    with connect(made.address) as client:
        found = fleet.bench(
            open_fleet(client, choice), make_plan, share, lambda total: report, **more
        )
    return found, said


def whole(run: BenchRun) -> set[Any]:
    return {one.key for one in run.measurements if len(one.processes) == ROUNDS and not one.invalid}


def test_every_board_measures_all_and_it_is_one_file(
    choice: Choice, tmp_path: Path, lenet_edge: LenetEdge
) -> None:
    with cluster(tmp_path, "a", "b") as made:
        files = [one.path for one in choice.artifacts]
        verified = lenet_edge("verify", *files, "--scheduler", made.address, "--target", "tflite",
                              "--json", "verified.json")  # fmt: skip
        timed = lenet_edge("bench", *files, "--scheduler", made.address, "--target", "tflite",
                           "--batch-size", "1", "--max-time", "0.3", "--json",
                           "timed.json")  # fmt: skip
    assert (verified.returncode, timed.returncode) == (0, 0), verified.stderr + timed.stderr
    for name in ("verified.json", "timed.json"):
        runs = load_runs(tmp_path / name)
        assert [run.board for run in runs] == ["a", "b"]
        for run in runs:
            assert run.environment.packages["ai-edge-litert"]
            assert {one.candidate for one in run.parity} == {path.name for path in files}
    for run in runs:
        assert [(one.artifact, len(one.processes)) for one in run.measurements] == [
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
def test_kill_9_loses_nothing_and_repeats_nothing_needlessly(
    share: bool, choice: Choice, tmp_path: Path
) -> None:
    with cluster(tmp_path, "a", "b", "c") as made:
        done_by_a: list[str] = []

        def kill_in_the_middle(line: str) -> None:
            # The board has one process of each cell, and is at the second one of the first.
            if line.startswith("a: ") and line.endswith("us"):
                done_by_a.append(line)
                if len(done_by_a) == (3 if share else 7):
                    made.send("a", signal.SIGKILL)

        found, said = bench(made, choice, share, kill_in_the_middle)
    assert [one.board for one in found.lost] == ["a"]
    runs = {run.board: run for run in found.runs}
    kept = {name: whole(run) for name, run in runs.items()}
    assert kept["a"] < KEYS  # killed before its end
    assert kept["b"] | kept["c"] | kept["a"] == KEYS
    measured = Counter(key for keys in kept.values() for key in keys)
    if share:  # what was whole is not measured again, and what was not, once more on one board
        assert set(measured.values()) == {1}
    else:
        assert kept["b"] == kept["c"] == KEYS
    # And nobody started a process that is not in the results.
    for name in ("b", "c"):
        assert sum(line.startswith(f"{name}: lenet") for line in said) == ROUNDS * len(
            runs[name].measurements
        )
    assert all("measures it" in one.reason for one in runs["a"].skipped)
    assert {one.artifact for one in runs["a"].skipped} <= {key[0] for key in KEYS - kept["a"]}


def test_a_board_that_stalls_costs_only_itself(
    choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "GRACE_S", 2.0)
    with cluster(tmp_path, "a", "b") as made:
        stalled: list[str] = []

        def stall(line: str) -> None:
            if line.startswith("a: lenet") and line.endswith("us") and not stalled:
                stalled.append(line)
                made.send("a", signal.SIGSTOP)

        found, _ = bench(made, choice, True, stall)
    (lost,) = found.lost
    assert (lost.board, "did not return" in lost.reason) == ("a", True)
    assert set().union(*map(whole, found.runs)) == KEYS


def test_the_last_of_its_kind_is_reported(choice: Choice, tmp_path: Path) -> None:
    """And what it had measured is kept; --resume measures the rest, and nothing else."""
    done: list[str] = []
    with cluster(tmp_path, "a") as made:

        def kill(line: str) -> None:
            done.append(line)
            if sum(one.endswith("us") for one in done) == len(KEYS) + 2:
                made.send("a", signal.SIGKILL)

        found, _ = bench(made, choice, False, kill)
    assert found.lost[0].board == "a"
    (run,) = found.runs
    assert run.skipped
    assert all("no equal board is there" in one.reason for one in run.skipped)
    before = whole(run)
    found.save(tmp_path / "fleet.json")
    again = tmp_path / "again"
    again.mkdir()
    with cluster(again, "a") as made:
        found, said = bench(made, choice, False, earlier=load_runs(tmp_path / "fleet.json"))
    assert whole(found.runs[0]) == KEYS
    assert not found.lost
    measured = [line for line in said if line.endswith("us")]
    assert len(measured) == ROUNDS * len(KEYS - before)


def test_a_scheduler_that_dies_is_one_error_and_what_was_found_is_kept(
    choice: Choice, tmp_path: Path
) -> None:
    kept: list[FleetRun] = []
    with cluster(tmp_path, "a") as made:

        def kill(line: str) -> None:
            if line.endswith("us"):
                made.send("scheduler", signal.SIGKILL)

        with pytest.raises(LenetEdgeError, match="the scheduler ended"):
            bench(made, choice, False, kill, keep=kept.append)
    (run,) = kept[-1].runs
    assert len(run.measurements) == 1
    assert run.skipped == ()


def test_another_version_is_named_before_work_starts(choice: Choice, tmp_path: Path) -> None:
    other = tmp_path / "packages" / "lenet_edge-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: lenet-edge\nVersion: 9.9.9\n")
    with cluster(tmp_path, "a") as made:
        made.add("old", environment={"PYTHONPATH": str(other.parent)})
        made.wait_for(2)
        with pytest.raises(LenetEdgeError) as caught:
            bench(made, choice, False)
    text = str(caught.value)
    assert text.startswith("old has lenet-edge 9.9.9, this machine ")
    assert "on each board: pip install lenet-edge==" in text


def test_a_board_without_the_runtime_says_so(tmp_path: Path) -> None:
    files = [load_artifact(EXPORTED / "lenet_int8.onnx")]
    with cluster(tmp_path, "a") as made:
        found, _ = bench(made, Choice(files, ("onnxruntime-cann",)), False)
    (run,) = found.runs
    assert not run.measurements
    assert run.skipped[0].target == "onnxruntime-cann"


def test_damaged_files_are_noticed_on_the_board(tmp_path: Path) -> None:
    good = load_artifact(EXPORTED / "lenet_int8.tflite")
    wrong: Artifact = dataclasses.replace(good, sha256="0" * 64)
    with cluster(tmp_path, "a") as made:
        with pytest.raises(LenetEdgeError, match=r"a: lenet_int8\.tflite arrived damaged"):
            bench(made, Choice([wrong], ("litert-xnnpack",)), False)


def test_no_scheduler_and_no_board_are_one_line(tmp_path: Path, lenet_edge: LenetEdge) -> None:
    file = EXPORTED / "lenet_int8.tflite"
    nobody = lenet_edge("bench", file, "--scheduler", "tcp://127.0.0.1:9")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (1, 1), nobody.stderr
    assert "no scheduler answers at tcp://127.0.0.1:9" in nobody.stderr
    rubbish = lenet_edge("verify", file, "--scheduler", "what")
    assert (rubbish.returncode, rubbish.stderr.count("\n")) == (1, 1), rubbish.stderr
    with contextlib.closing(Cluster(tmp_path)) as made:
        empty = lenet_edge("bench", file, "--scheduler", made.address)
    assert empty.returncode == 1
    assert "it has no worker that is a board; start them with: lenet-edge fleet up" in empty.stderr
