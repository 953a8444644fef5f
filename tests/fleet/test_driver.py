"""The driver of a fleet with scripted boards: results, errors, lost boards, the scheduler's end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from lenet_edge.doctor.software import version_of
from lenet_edge.errors import LenetEdgeError, ModelFileError, WorkerError
from lenet_edge.fleet import driver
from lenet_edge.fleet.connection import FleetBoard
from lenet_edge.worker import Call, Job
from tests.fleet.scripted import STALL, Clock, DaskError, ScriptedDask


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(driver, "time", clock)
    return clock


def text_of(call: Call[Any]) -> str:
    """Return the argument of a call; these tests call one function of the package."""
    assert call.function is version_of
    text: str = call.arguments["package"]
    return text


class Jobs:
    """A job of some calls for each board, and the record of its results."""

    def __init__(self, *texts: str) -> None:
        self.results: list[tuple[str, Any]] = []
        self.lost: list[tuple[str, str]] = []
        self.active: set[str] = set()
        self.most_active = 0
        self._texts = texts
        self.remaining: dict[str, list[str]] = {}

    def job(self, board: FleetBoard) -> Job:
        self.active.add(board.name)
        self.most_active = max(self.most_active, len(self.active))
        remaining = self.remaining.setdefault(board.name, list(self._texts))
        try:
            while remaining:
                yield from self._call(board, remaining.pop(0))
        finally:
            self.active.remove(board.name)

    def _call(self, board: FleetBoard, text: str) -> Generator[Call[Any], Any, None]:
        try:
            result: Any = yield from version_of.bind(text).within(50)
        except LenetEdgeError as error:
            result = error
        self.results.append((board.name, result))

    def on_lost(self, board: FleetBoard, reason: str) -> None:
        self.lost.append((board.name, reason))

    def of(self, name: str) -> list[Any]:
        return [result for board, result in self.results if board == name]


def test_each_board_runs_its_own_job_one_call_at_a_time() -> None:
    jobs = Jobs("1", "2", "3")
    dask = ScriptedDask(lambda name, call: f"{name} {text_of(call)}", "a", "b")
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    assert jobs.of("a") == ["a 1", "a 2", "a 3"]
    assert jobs.of("b") == ["b 1", "b 2", "b 3"]
    # A board gets its next call when the last one has returned; the boards take turns.
    assert [name for name, _ in dask.calls] == ["a", "b"] * 3
    assert (jobs.lost, jobs.active) == ([], set())


def test_only_some_boards_work_at_once() -> None:
    names = [f"board-{number}" for number in range(7)]
    jobs, dask = Jobs("1", "2"), ScriptedDask(lambda name, call: name, *names)
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost, at_once=3)
    assert jobs.most_active == 3
    assert {name for name, _ in jobs.results} == set(names)
    assert len(jobs.results) == 14


def test_a_board_without_calls_and_no_board_at_all() -> None:
    jobs, dask = Jobs(), ScriptedDask(lambda name, call: name, "a")
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    dask.run_jobs([], jobs.job, jobs.on_lost)
    assert dask.calls == jobs.results == jobs.lost == []


def test_an_error_is_thrown_into_its_job() -> None:
    def script(name: str, call: Call[Any]) -> Any:
        match name, text_of(call):
            case "a", "1":
                raise ModelFileError("the file is damaged")
            case "a", "2":
                return DaskError(ValueError("cannot\nunpickle"))
            case "a", "3":
                return DaskError(KeyError())
        return "fine"

    jobs, dask = Jobs("1", "2", "3", "4"), ScriptedDask(script, "a", "b")
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    damaged, unpickled, empty, fine = jobs.of("a")
    assert (type(damaged), str(damaged)) == (ModelFileError, "the file is damaged")
    assert type(unpickled) is WorkerError
    assert str(unpickled) == "doctor.software:version_of did not run: cannot unpickle"
    assert str(empty) == "doctor.software:version_of did not run: KeyError"
    assert fine == "fine"
    assert jobs.of("b") == ["fine"] * 4


def test_a_board_that_disconnects_ends_its_job_alone() -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if (name, text_of(call)) == ("a", "2"):
            dask.disconnect("a")
            return STALL
        return text_of(call)

    jobs, dask = Jobs("1", "2", "3"), ScriptedDask(script, "a", "b")
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    assert jobs.lost == [("a", "its worker disconnected")]
    assert jobs.of("a") == ["1"]
    assert jobs.of("b") == ["1", "2", "3"]
    assert not jobs.active  # the lost board's job is closed


def test_a_board_that_one_check_misses_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result may be on its way when the worker has just disconnected, or connects anew."""
    jobs, dask = Jobs("1", "2"), ScriptedDask(lambda name, call: text_of(call), "a")
    nthreads, next_batch = dask.nthreads, dask.next_batch
    checks: list[int] = []

    def miss_once() -> dict[str, int]:
        checks.append(1)
        return {} if len(checks) == 1 else nthreads()

    monkeypatch.setattr(dask, "nthreads", miss_once)
    monkeypatch.setattr(dask, "next_batch", lambda block: next_batch(block) if checks else [])
    dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    assert checks
    assert (jobs.of("a"), jobs.lost) == (["1", "2"], [])


def test_a_board_that_stalls_is_lost_after_its_time_and_the_grace_period(clock: Clock) -> None:
    lost_at = []

    def script(name: str, call: Call[Any]) -> Any:
        return STALL if (name, text_of(call)) == ("a", "1") else text_of(call)

    jobs, dask = Jobs("1", "2"), ScriptedDask(script, "a", "b")

    def on_lost(board: FleetBoard, reason: str) -> None:
        lost_at.append(clock.now)
        jobs.on_lost(board, reason)

    dask.run_jobs(dask.boards, jobs.job, on_lost)
    assert jobs.lost == [("a", "doctor.software:version_of did not return within 50 s")]
    assert lost_at[0] > 50 + driver.GRACE_S
    assert jobs.of("b") == ["1", "2"]
    assert not jobs.active


def test_a_late_result_of_a_lost_board_is_ignored() -> None:
    def script(name: str, call: Call[Any]) -> Any:
        return STALL if name == "a" else text_of(call)

    def on_lost(board: FleetBoard, reason: str) -> None:
        jobs.on_lost(board, reason)
        dask.complete_late(board.name)
        jobs.remaining["b"].append("3")

    jobs, dask = Jobs("1", "2"), ScriptedDask(script, "a", "b")
    dask.run_jobs(dask.boards, jobs.job, on_lost)
    assert jobs.of("a") == []
    assert jobs.of("b") == ["1", "2", "3"]  # b was idle, and its job was asked for again


def test_idle_boards_get_the_work_of_a_lost_board() -> None:
    work = {"a": ["1", "2"], "b": [], "c": []}
    asked: list[str] = []
    done: list[tuple[str, str]] = []

    def job(board: FleetBoard) -> Job:
        asked.append(board.name)
        while work[board.name]:
            text = work[board.name].pop(0)
            yield from version_of.bind(text)
            done.append((board.name, text))

    def on_lost(board: FleetBoard, reason: str) -> None:
        work["b"] += ["1", "2"]

    def script(name: str, call: Call[Any]) -> Any:
        if name == "a":
            dask.disconnect("a")
            dask.disconnect("c")  # an idle board may disconnect too
            return STALL
        return text_of(call)

    dask = ScriptedDask(script, "a", "b", "c")
    dask.run_jobs(dask.boards, job, on_lost)
    assert done == [("b", "1"), ("b", "2")]
    assert asked == ["a", "b", "c", "b"]


def test_the_end_of_the_scheduler_is_one_error() -> None:
    def script(name: str, call: Call[Any]) -> Any:
        if (name, text_of(call)) == ("b", "2"):
            dask.stop_scheduler()
        return text_of(call)

    jobs, dask = Jobs("1", "2", "3"), ScriptedDask(script, "a", "b")
    with pytest.raises(LenetEdgeError, match=r"the scheduler ended; .* --resume"):
        dask.run_jobs(dask.boards, jobs.job, jobs.on_lost)
    assert (jobs.of("b"), jobs.lost, jobs.active) == (["1"], [], set())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_any_other_exception_closes_all_jobs(error: type[BaseException]) -> None:
    def job(board: FleetBoard) -> Job:
        if board.name == "b":
            yield from version_of.bind("1")
            raise error
        yield from jobs.job(board)

    jobs = Jobs("1", "2", "3")
    dask = ScriptedDask(lambda name, call: STALL if name == "a" else "fine", "a", "b")
    with pytest.raises(error):
        dask.run_jobs(dask.boards, job, jobs.on_lost)
    assert dask.cancelled == ["a"]
    assert not jobs.active
