"""Verification and benchmark of a fleet with scripted boards: sharing, losses, resuming, saving."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.artifacts.reference import reference_path
from lenet_edge.bench import limit, timing
from lenet_edge.bench.plan import Plan, expand
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError, WorkerError
from lenet_edge.fleet import driver, on_board
from lenet_edge.flows import fleet, fleet_bench
from lenet_edge.flows.fleet_session import Choice
from lenet_edge.results.result_file import BenchRun, FleetRun, LostBoard, Skipped
from lenet_edge.selection import Pair
from lenet_edge.verify.verify import verify_pair
from lenet_edge.worker import Call
from tests.bench.scripted import (
    CHECKPOINT,
    PEAK,
    key_of,
    make_artifact,
    make_environment,
    measured,
)
from tests.fleet.cluster import is_latency
from tests.fleet.scripted import (
    STALL,
    Clock,
    DaskError,
    ScriptedDask,
    board_reply,
    open_session,
    parity_of,
)

ROUNDS = 2
BATCHES = (1, 8, 32)
KEYS = {(f"{name}.tflite", "litert-xnnpack", batch, 1) for name in ("x", "y") for batch in BATCHES}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """Replace time and processes; return the clock of `FleetBench`."""
    clock = Clock()
    monkeypatch.setattr(driver, "time", Clock())
    monkeypatch.setattr(fleet_bench, "time", clock)
    monkeypatch.setattr(limit, "count_macs", lambda artifacts: {"x": 1})
    monkeypatch.chdir(tmp_path)  # without bounds in a pyproject.toml
    return clock


@pytest.fixture
def choice(tmp_path: Path) -> Choice:
    return Choice([make_artifact(tmp_path, f"{name}.tflite") for name in "xy"], ("tflite",))


def make_plan(pairs: Sequence[Pair]) -> Plan:
    return Plan(expand(pairs, BATCHES), rounds=ROUNDS, timeout_s=20)


def always(name: str, call: Call[Any]) -> Any:
    return board_reply(call)


class Bench:
    """One benchmark on scripted boards, with its lines of text and the results it kept."""

    def __init__(self, dask: ScriptedDask) -> None:
        self.dask = dask
        self.lines: list[str] = []
        self.kept: list[FleetRun] = []
        self.total = 0

    def run(
        self, choice: Choice, share: bool = False, earlier: Sequence[BenchRun] = ()
    ) -> FleetRun:
        def begin(total: int) -> Any:
            self.total = total
            return self.lines.append

        session = open_session(self.dask, choice)
        return fleet.bench(session, make_plan, share, begin, self.kept.append, earlier)

    def measured_by(self, name: str) -> Counter[Any]:
        """Return how many processes of each cell a board has started."""
        return Counter(
            key_of(call) for board, call in self.dask.calls_of(timing.measure) if board == name
        )


def complete(run: BenchRun) -> set[Any]:
    return {
        measurement.key
        for measurement in run.measurements
        if len(measurement.processes) == ROUNDS and not measurement.invalid
    }


# The session


def test_each_board_gets_the_files_and_describes_itself(choice: Choice, tmp_path: Path) -> None:
    dask = ScriptedDask(always, "a", "b")
    session = open_session(dask, choice)
    assert [board.name for board in session.boards] == ["a", "b"]
    for name, call in dask.calls_of(on_board.write_files):
        files = call.arguments["files"]
        reference = reference_path(tmp_path, CHECKPOINT).name
        folders = {path.rpartition("/")[0] for path in files}
        assert {path.rpartition("/")[2] for path in files} == {"x.tflite", "y.tflite", reference}
        assert len(folders) == 1, name
    for _, call in dask.calls_of(on_board.describe_board):
        paths = [artifact["path"] for artifact in call.arguments["artifacts"]]
        assert paths == [f"/boards/files/{path}" for path in files if path.endswith(".tflite")]
        assert call.arguments["selection"] == {
            "names": ("tflite",), "delegate": None, "options": (), "allow_fallback": False,
        }  # fmt: skip
    for ready in session.boards.values():
        assert [pair.artifact.path.name for pair in ready.pairs] == ["x.tflite", "y.tflite"]


def test_a_board_that_cannot_take_the_files_is_lost(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if name == "a" and call.function is on_board.describe_board:
            raise ModelFileError("x.tflite arrived damaged; try again")
        if name == "b":
            dask.disconnect("b")
            return STALL
        return DaskError(OSError("no space")) if name == "c" else board_reply(call)

    dask = ScriptedDask(script, "a", "b", "c", "d")
    session = open_session(dask, choice)
    assert [board.name for board in session.boards] == ["d"]
    assert session.lost == [
        LostBoard("c", "fleet.on_board:write_files did not run: no space"),
        LostBoard("a", "x.tflite arrived damaged; try again"),
        LostBoard("b", "its worker disconnected"),
    ]
    # After a loss, the driver asks idle boards for their jobs again: none is set up twice.
    assert [name for name, _ in dask.calls_of(on_board.write_files)] == ["a", "b", "c", "d"]


def test_a_fleet_without_a_ready_board_is_an_error(choice: Choice) -> None:
    dask = ScriptedDask(lambda name, call: DaskError(OSError("no space")), "a")
    with pytest.raises(LenetEdgeError, match=r"no board is left; a: .* no space"):
        open_session(dask, choice)


def test_equal_boards_have_the_same_hardware(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        return board_reply(call, make_environment("a Pi 4" if name == "c" else "a Pi 5"))

    dask = ScriptedDask(script, "a", "b", "c", "d")
    session = open_session(dask, choice)
    a, b, c, d = dask.boards
    assert (session.equal_boards(a), session.equal_boards(c)) == ([b, d], [])
    session.mark_lost(b, "it burns")
    assert session.equal_boards(a) == [d]


# verify


def test_verify_reports_each_pair_of_each_board(choice: Choice) -> None:
    totals: list[int] = []
    lines: list[str] = []

    def begin(total: int) -> Any:
        totals.append(total)
        return lines.append

    def script(name: str, call: Call[Any]) -> Any:
        if call.function is verify_pair and name == "a" and "x.tflite" in str(call.arguments):
            raise WorkerError("it crashed")
        return parity_of(call, "fail") if call.function is verify_pair else board_reply(call)

    dask = ScriptedDask(script, "a", "b")
    result = fleet.verify(open_session(dask, choice), {"min_agreement": 99}, 4, begin)
    a, b = result.runs
    assert (a.board, b.board, result.lost) == ("a", "b", ())
    assert a.skipped == (Skipped("litert-xnnpack", "it crashed", "x.tflite"),)
    assert [report.candidate for report in a.parity] == ["y.tflite"]
    assert [report.candidate for report in b.parity] == ["x.tflite", "y.tflite"]
    assert {report.verdict for report in b.parity} == {"fail"}
    assert totals == [4]
    assert sorted(lines) == [f"{b}: {n}.tflite on litert-xnnpack" for b in "ab" for n in "xy"]
    for _, call in dask.calls_of(verify_pair):
        assert call.arguments["settings"] == {"min_agreement": 99}
        assert (call.arguments["num_threads"], call.arguments["num_images"]) == (4, None)
        assert (call.arguments["timeout_s"], call.timeout_s) == (300, 900)
        assert not call.isolated


def test_verify_skips_what_a_lost_board_has_not_verified(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if call.function is verify_pair and name == "a" and "y.tflite" in str(call.arguments):
            dask.disconnect("a")
            return STALL
        return board_reply(call)

    lines: list[str] = []
    dask = ScriptedDask(script, "a", "b")
    result = fleet.verify(open_session(dask, choice), {}, 1, lambda total: lines.append)
    a, b = result.runs
    assert [report.candidate for report in a.parity] == ["x.tflite"]
    reason = "a was lost: its worker disconnected"
    assert a.skipped == (Skipped("litert-xnnpack", reason, "y.tflite"),)
    assert len(b.parity) == 2
    assert result.lost == (LostBoard("a", "its worker disconnected"),)
    assert "a is lost: its worker disconnected" in lines


# bench


def test_each_board_measures_every_cell(choice: Choice) -> None:
    bench = Bench(ScriptedDask(always, "a", "b"))
    result = bench.run(choice)
    assert bench.total == 2 * len(KEYS) * ROUNDS
    assert [run.board for run in result.runs] == ["a", "b"]
    for run in result.runs:
        assert complete(run) == KEYS
        assert bench.measured_by(run.board or "") == dict.fromkeys(KEYS, ROUNDS)
        assert (run.remaining, run.macs, run.peak_macs_per_s) == (0, {"x": 1}, {1: PEAK})
        assert {report.candidate for report in run.parity} == {"x.tflite", "y.tflite"}
    assert sum(is_latency(line) for line in bench.lines) == bench.total
    assert all(line.startswith(("a: ", "b: ")) for line in bench.lines)


def test_each_pair_is_checked_once_before_its_cells(choice: Choice) -> None:
    bench = Bench(ScriptedDask(always, "a"))
    bench.run(choice)
    functions = [call.function for _, call in bench.dask.calls]
    checks = bench.dask.calls_of(verify_pair)
    assert len(checks) == 2
    assert functions.index(timing.measure) > max(
        index for index, function in enumerate(functions) if function is verify_pair
    )
    for _, call in checks:
        assert call.arguments["num_images"] == 256
        assert (call.arguments["timeout_s"], call.timeout_s) == (20, 60)


def test_a_pair_without_a_reference_is_measured_unchecked(choice: Choice, tmp_path: Path) -> None:
    reference_path(tmp_path, CHECKPOINT).unlink()
    bench = Bench(ScriptedDask(always, "a"))
    (run,) = bench.run(choice).runs
    assert (bench.dask.calls_of(verify_pair), run.parity) == ([], ())
    assert complete(run) == KEYS


def test_a_pair_that_fails_its_check_is_not_measured_there(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if call.function is verify_pair and name == "a" and "x.tflite" in str(call.arguments):
            raise WorkerError("it hung")
        return board_reply(call)

    bench = Bench(ScriptedDask(script, "a", "b"))
    a, b = bench.run(choice).runs
    assert complete(a) == {key for key in KEYS if key[0] == "y.tflite"}
    assert a.skipped == (Skipped("litert-xnnpack", "it hung", "x.tflite"),)
    assert complete(b) == KEYS
    assert set(bench.measured_by("a")) == complete(a)


def test_equal_boards_share_the_cells(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        return board_reply(call, make_environment("a Pi 4" if name == "d" else "a Pi 5"))

    bench = Bench(ScriptedDask(script, "a", "b", "c", "d"))
    runs = {run.board: run for run in bench.run(choice, share=True).runs}
    assert complete(runs["d"]) == KEYS  # no other board is equal
    shares = [complete(runs[name]) for name in "abc"]
    assert set().union(*shares) == KEYS
    assert [len(share) for share in shares] == [2, 2, 2]
    assert bench.total == 2 * len(KEYS) * ROUNDS
    for name, share in zip("abc", shares, strict=True):
        assert bench.measured_by(name) == dict.fromkeys(share, ROUNDS)


def lose_a_after(count: int) -> Any:
    """Return a script in which board a disconnects after so many measurements."""
    measurements = 0

    def script(dask: ScriptedDask, name: str, call: Call[Any]) -> Any:
        nonlocal measurements
        if name == "a" and call.function is timing.measure:
            if measurements == count:
                dask.disconnect("a")
                return STALL
            measurements += 1
        return board_reply(call)

    return script


def lossy(count: int, *names: str) -> Bench:
    script = lose_a_after(count)
    dask = ScriptedDask(lambda name, call: script(dask, name, call), *names)
    return Bench(dask)


@pytest.mark.parametrize("count", range(2 * ROUNDS + 1))
def test_an_equal_board_takes_over_the_share_of_a_lost_one(choice: Choice, count: int) -> None:
    """Board a has two of the six cells; it is lost after each possible number of processes."""
    bench = lossy(count, "a", "b", "c")
    result = bench.run(choice, share=True)
    a, b, c = result.runs
    assert complete(a) | complete(b) | complete(c) == KEYS
    by_a, by_others = bench.measured_by("a"), bench.measured_by("b") + bench.measured_by("c")
    for key in KEYS:
        assert by_others[key] == (0 if key in complete(a) else ROUNDS), (key, by_a)
    if count == 2 * ROUNDS:  # it had done everything
        assert (len(complete(a)), a.skipped, result.lost) == (2, (), ())
        return
    assert result.lost == (LostBoard("a", "its worker disconnected"),)
    for skip in a.skipped:
        assert skip.reason.startswith("a was lost (its worker disconnected); ")
        assert skip.reason.endswith((" b measures it", " c measures it"))
    for measurement in a.measurements:
        assert (measurement.invalid is None) == (measurement.key in complete(a))


def test_the_cells_of_a_lost_board_are_not_repeated_where_each_measures_all(
    choice: Choice,
) -> None:
    bench = lossy(5, "a", "b")
    a, b = bench.run(choice).runs
    assert complete(b) == KEYS
    assert bench.measured_by("b") == dict.fromkeys(KEYS, ROUNDS)
    assert len(a.measurements) == 5
    assert {skip.reason for skip in a.skipped} == {
        "a was lost (its worker disconnected); b measures it"
    }


def test_the_last_board_of_its_kind_leaves_its_cells_unmeasured(choice: Choice) -> None:
    bench = lossy(3, "a")
    result = bench.run(choice)
    (run,) = result.runs
    assert result.lost[0].board == "a"
    assert complete(run) == set()
    assert {skip.reason for skip in run.skipped} == {
        "a was lost (its worker disconnected); no equal board is there"
    }
    assert "a is lost: its worker disconnected" in bench.lines


def test_a_resumed_fleet_measures_the_rest_only(choice: Choice) -> None:
    before = lossy(len(KEYS) + 2, "a").run(choice).runs
    assert len(complete(before[0])) == 2
    bench = Bench(ScriptedDask(always, "a"))
    (run,) = bench.run(choice, earlier=before).runs
    assert complete(run) == KEYS
    assert sum(bench.measured_by("a").values()) == ROUNDS * (len(KEYS) - 2)
    assert bench.dask.calls_of(verify_pair) == []  # the earlier check counts
    assert len(run.parity) == 2
    assert not run.skipped


def test_a_resumed_share_is_divided_anew(choice: Choice) -> None:
    """The cells that a completed stay with a; b and c divide the rest with it."""
    before = lossy(ROUNDS * len(KEYS) - 3, "a").run(choice).runs
    done = complete(before[0])
    assert len(done) == 3
    bench = Bench(ScriptedDask(always, "a", "b", "c"))
    runs = bench.run(choice, share=True, earlier=before).runs
    assert set().union(*map(complete, runs)) == KEYS
    assert [len(complete(run)) for run in runs] == [4, 1, 1]
    assert done < complete(runs[0])
    assert bench.total == ROUNDS * 3


def test_the_results_of_an_absent_board_are_kept(choice: Choice) -> None:
    before = Bench(ScriptedDask(always, "a", "b")).run(choice).runs
    bench = Bench(ScriptedDask(always, "b", "c"))
    result = bench.run(choice, earlier=before)
    assert [run.board for run in result.runs] == ["b", "c", "a"]
    assert result.runs[2] == before[0]
    assert (sum(bench.measured_by("b").values()), bench.measured_by("c")) == (
        0,
        dict.fromkeys(KEYS, ROUNDS),
    )


def test_results_of_another_board_of_that_name_are_not_resumed(choice: Choice) -> None:
    before = Bench(ScriptedDask(always, "a")).run(choice).runs
    other = dataclasses.replace(before[0], environment=make_environment("a Pi 4"))
    with pytest.raises(DataError, match="from another machine"):
        Bench(ScriptedDask(always, "a")).run(choice, earlier=[other])


@pytest.mark.parametrize("end", ["scheduler", "Ctrl-C"])
def test_results_are_kept_when_the_run_ends_early(choice: Choice, end: str) -> None:
    count = 0

    def script(name: str, call: Call[Any]) -> Any:
        nonlocal count
        count += call.function is timing.measure
        if count == 6:
            if end == "Ctrl-C":
                raise KeyboardInterrupt
            dask.stop_scheduler()
        return board_reply(call)

    dask = ScriptedDask(script, "a", "b")
    bench = Bench(dask)
    with pytest.raises((LenetEdgeError, KeyboardInterrupt)):
        bench.run(choice)
    a, b = bench.kept[-1].runs
    assert len(a.measurements) + len(b.measurements) >= 4
    assert (a.skipped, b.skipped, bench.kept[-1].lost) == ((), (), ())


def test_saving_takes_a_small_share_of_the_time(choice: Choice, clock: Clock) -> None:
    class Slow(list[FleetRun]):
        def append(self, fleet: FleetRun) -> None:
            super().append(fleet)
            clock.now += 1  # one look at the clock takes 0.1 s, so twenty times this are 200 looks

    bench = Bench(ScriptedDask(always, "a"))
    bench.kept = Slow()
    (run,) = bench.run(choice).runs
    assert len(bench.kept) == 2  # after the first process, and at the end
    assert len(bench.kept[0].runs[0].measurements) == 1
    assert complete(bench.kept[-1].runs[0]) == complete(run) == KEYS


def test_fast_saving_keeps_every_process(choice: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_bench, "_SAVING_SHARE", 1e9)
    bench = Bench(ScriptedDask(always, "a"))
    bench.run(choice)
    sizes = [sum(len(m.processes) for m in kept.runs[0].measurements) for kept in bench.kept]
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(KEYS) * ROUNDS


def test_an_invalid_measurement_of_one_board_is_its_own(choice: Choice) -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if name == "a" and call.function is timing.measure:
            return measured(call, invalid="throttled")
        return board_reply(call)

    a, b = Bench(ScriptedDask(script, "a", "b")).run(choice).runs
    assert (complete(a), complete(b)) == (set(), KEYS)
    assert {measurement.invalid for measurement in a.measurements} == {"throttled"}
