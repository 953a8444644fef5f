"""A stand-in for Dask: boards that reply from a script, without processes and network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import on_board
from lenet_edge.fleet.connection import RESOURCE, FleetBoard
from lenet_edge.fleet.driver import FleetDriver, encode_reply
from lenet_edge.flows.fleet_session import Choice, FleetSession
from lenet_edge.machine.environment import Environment
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.runtimes import get_target
from lenet_edge.verify.verify import verify_pair
from lenet_edge.worker import Call, Job
from tests.bench.scripted import make_environment, reply

STALL = object()  # the reply of a board that never replies
Script = Callable[[str, Call[Any]], Any]


class Clock:
    """A stand-in for the module `time`: every look at it and every sleep takes some time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1


@dataclass
class ScriptedFuture:
    """The part of Dask's future that the driver uses."""

    key: str
    board: str
    status: str = "pending"

    def cancel(self) -> None:
        self.status = "cancelled"


@dataclass
class DaskError:
    """A reply that makes Dask itself fail, with this cause."""

    cause: Exception


class ScriptedDask:
    """Dask's client and its queue of completed futures, in one object.

    Args:
        script: returns the result of a call on the board of a name. It may raise a
            LenetEdgeError, return `STALL` or a `DaskError`, and call the methods of this object.
        names: the names of the boards.
    """

    def __init__(self, script: Script, *names: str) -> None:
        self.boards = [FleetBoard(name, f"tcp://{name}") for name in names]
        self.calls: list[tuple[str, Call[Any]]] = []
        self.cancelled: list[str] = []
        self._script, self._alive = script, {board.address: 1 for board in self.boards}
        self._scheduler_runs = True
        self._futures: list[ScriptedFuture] = []
        self._submitted: dict[str, Any] = {}
        self._ready: list[tuple[ScriptedFuture, Any]] = []

    def disconnect(self, name: str) -> None:
        """Take a board off the scheduler; its results that are on their way get lost."""
        self._alive.pop(f"tcp://{name}", None)
        self._ready = [pair for pair in self._ready if pair[0].board != name]

    def complete_late(self, name: str) -> None:
        """Complete a call that stalled, after the driver has cancelled it."""
        (future,) = (future for future in self._futures if future.board == name)
        assert future.status == "cancelled"
        future.status = "finished"
        self._ready.append((future, encode_reply({"result": "late"})))

    def stop_scheduler(self) -> None:
        """End the scheduler: every future is cancelled, and no call to it succeeds."""
        self._scheduler_runs = False

    def submit(
        self, function: Any, key: str, workers: Sequence[str], resources: Any, pure: bool
    ) -> ScriptedFuture:
        assert (resources, pure) == ({RESOURCE: 1}, False)
        (address,) = workers
        name = address.removeprefix("tcp://")
        (call,) = function.args
        self.calls.append((name, call))
        future = ScriptedFuture(key, name)
        self._futures.append(future)
        try:
            result = self._script(name, call)
        except LenetEdgeError as error:
            future.status = "finished"
            result = {"kind": type(error).__name__, "error": str(error), "traceback": ""}
        else:
            if isinstance(result, DaskError):
                future.status, result = "error", (type(result.cause), result.cause, None)
            elif result is not STALL:
                future.status, result = "finished", {"result": result}
        if not self._scheduler_runs:
            future.status, result = "cancelled", None
        self._submitted[key] = result
        return future

    def add(self, future: ScriptedFuture) -> None:
        result = self._submitted.pop(future.key)
        if isinstance(result, dict):
            result = encode_reply(result)
        if result is not STALL and (f"tcp://{future.board}" in self._alive):
            self._ready.append((future, result))

    def has_ready(self) -> bool:
        return bool(self._ready)

    def next_batch(self, block: bool) -> Iterable[tuple[ScriptedFuture, Any]]:
        assert not block
        batch, self._ready = self._ready, []
        return batch

    def nthreads(self) -> dict[str, int]:
        if not self._scheduler_runs:
            raise OSError("connection refused")
        return dict(self._alive)

    def cancel(self, futures: Sequence[ScriptedFuture], force: bool) -> None:
        self.cancelled += [future.board for future in futures]

    def run_jobs(
        self,
        boards: Sequence[FleetBoard],
        job_of: Callable[[FleetBoard], Job],
        on_lost: Callable[[FleetBoard, str], None],
        at_once: int | None = None,
    ) -> None:
        """Do as `fleet.driver.run_jobs` does, with this object in place of Dask."""
        FleetDriver(self, self, job_of, on_lost).run(boards, at_once)

    def calls_of(self, function: Any) -> list[tuple[str, Call[Any]]]:
        """Return the board and the call of each call of a function, in their order."""
        return [(name, call) for name, call in self.calls if call.function is function]


def parity_of(call: Call[Any], verdict: str = "pass") -> dict[str, Any]:
    """Return the reply to a call of `verify_pair`: a report with a verdict."""
    artifact = call.arguments["artifact"]
    report = ParityReport(
        reference="checkpoint", candidate=artifact["path"].rpartition("/")[2],
        candidate_sha256=artifact["sha256"], target=call.arguments["target"]["name"],
        num_samples=256, reference_accuracy=0.99, candidate_accuracy=0.99, accuracy_drop=0.0,
        top1_agreement=1.0, flips=(), mcnemar_p=None, max_abs_error=0.0, mean_abs_error=0.0,
        non_finite=0, verdict=verdict,
    )  # fmt: skip
    return {"parity": [report.to_json()], "skipped": []}


def board_reply(
    call: Call[Any], environment: Environment | None = None, target: str = "litert-xnnpack"
) -> Any:
    """Return the reply of a board on which every call succeeds and every artifact runs."""
    if call.function is on_board.write_files:
        return "/boards/files"
    if call.function is on_board.describe_board:
        fields = dataclasses.asdict(get_target(target))
        return {
            "environment": dataclasses.asdict(environment or make_environment()),
            "pairs": [(artifact, fields) for artifact in call.arguments["artifacts"]],
            "skipped": [],
        }
    if call.function is verify_pair:
        return parity_of(call)
    return reply(call)


def open_session(dask: ScriptedDask, choice: Choice) -> FleetSession:
    return FleetSession(dask.boards, dask.run_jobs, choice)
