"""Driver of a fleet: runs the jobs of many boards at the same time, one call per board.

A board that disconnects, stalls or sends an invalid reply ends its own job; the others continue.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lenet_edge import worker
from lenet_edge.errors import LenetEdgeError, WorkerError
from lenet_edge.fleet.connection import RESOURCE, FleetBoard
from lenet_edge.support import tagged_json
from lenet_edge.support.printable import make_printable
from lenet_edge.support.typed_json import check_types
from lenet_edge.worker import Call, Job

if TYPE_CHECKING:
    from distributed import Client, Future

GRACE_S = 30.0  # beyond a call's own limit, at which the board itself should have ended it
CHECK_EVERY_S = 1.0
MAX_REPLY_BYTES = 2**26
_MAX_TEXT = 1000  # characters of an error of a board
# Errors of a job that reads a reply of other types than it expects.
_INVALID_REPLY = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError,
    zlib.error,
)  # fmt: skip
_POLL_S = 0.005  # the longest delay that the driver adds between two calls of a board


class CompletedFutures(Protocol):
    """A queue of completed futures; the part of `distributed.as_completed` that is used."""

    def add(self, future: Future) -> None:
        """Put a future into the queue as soon as it is complete."""

    def has_ready(self) -> bool:
        """Tell whether the queue holds a future."""

    def next_batch(self, block: bool) -> Iterable[tuple[Future, Any]]:
        """Take all futures and their results out of the queue."""


def run_jobs(
    client: Client,
    boards: Sequence[FleetBoard],
    job_of: Callable[[FleetBoard], Job],
    on_lost: Callable[[FleetBoard, str], None],
    at_once: int | None = None,
) -> None:
    """Run a job on each board until every job has ended or its board is lost.

    Args:
        client: the client of the scheduler that the boards are connected to.
        boards: the boards.
        job_of: returns the job of a board.
        on_lost: called with a lost board and the reason. It may give the board's cells to other
            boards: the driver then asks `job_of` again for every idle board.
        at_once: maximum number of boards served at the same time; by default all.

    Raises:
        LenetEdgeError: the scheduler ended.
    """
    from distributed import as_completed

    # Dask fetches each result when it is ready, so that a slow transfer delays no other board.
    completed = as_completed([], with_results=True, raise_errors=False, loop=client.loop)
    FleetDriver(client, completed, job_of, on_lost).run(boards, at_once)


@dataclass
class _RunningCall:
    """A call that a board runs.

    `missed_checks` counts the checks at which the scheduler did not list the board.
    """

    board: FleetBoard
    job: Job
    call: Call[Any]
    future: Future
    deadline: float
    missed_checks: int = 0


class FleetDriver:
    """The state of `run_jobs`; the arguments are explained there."""

    def __init__(
        self,
        client: Client,
        completed: CompletedFutures,
        job_of: Callable[[FleetBoard], Job],
        on_lost: Callable[[FleetBoard, str], None],
    ) -> None:
        self._client, self._completed = client, completed
        self._job_of, self._on_lost = job_of, on_lost
        self._running: dict[str, _RunningCall] = {}  # by the key of the future
        self._idle: list[FleetBoard] = []
        self._keys = (f"lenet-edge-{uuid.uuid4().hex}-{n}" for n in itertools.count())

    def run(self, boards: Sequence[FleetBoard], at_once: int | None = None) -> None:
        """Run the jobs; see `run_jobs`."""
        waiting = list(reversed(boards))
        checked = time.monotonic()
        try:
            while self._running or waiting:
                while waiting and (at_once is None or len(self._running) < at_once):
                    self._start(waiting.pop())
                for future, result in self._completed.next_batch(block=False):
                    self._receive(future, result)
                if time.monotonic() - checked >= CHECK_EVERY_S:
                    self._check_boards()
                    checked = time.monotonic()
                if not self._completed.has_ready():
                    time.sleep(_POLL_S)
        finally:
            for running in self._running.values():
                running.job.close()
            with contextlib.suppress(Exception):
                futures = [running.future for running in self._running.values()]
                self._client.cancel(futures, force=True)
            self._running.clear()
            self._idle.clear()

    def _start(self, board: FleetBoard) -> None:
        job = self._job_of(board)
        self._continue(board, job, functools.partial(next, job))

    def _continue(self, board: FleetBoard, job: Job, next_call: Callable[[], Call[Any]]) -> None:
        """Submit the next call of a job; if the job has ended, its board is idle."""
        try:
            call = next_call()
        except StopIteration:
            self._idle.append(board)
            return
        # The call is bound by partial: in an argument, Dask would search it for tasks.
        future = self._client.submit(
            functools.partial(_run_on_board, call),
            key=next(self._keys), workers=[board.address], resources={RESOURCE: 1}, pure=False,
        )  # fmt: skip
        deadline = time.monotonic() + call.timeout_s + GRACE_S
        self._running[future.key] = _RunningCall(board, job, call, future, deadline)
        self._completed.add(future)

    def _receive(self, future: Future, result: Any) -> None:
        """Send a result into its job, or throw the call's error."""
        running = self._running.get(future.key)
        if running is None:  # its board is lost
            return
        if future.status == "cancelled":
            return  # We did not cancel this future, so the scheduler ended; `_check_boards` raises
        del self._running[future.key]
        job = running.job
        try:
            reply = _decode_result(running.call, future, result)
        except LenetEdgeError as error:
            next_call = functools.partial(job.throw, error)
        else:
            next_call = functools.partial(job.send, reply)
        try:
            self._continue(running.board, job, next_call)
        except _INVALID_REPLY as error:
            cause = make_printable(" ".join(f"{type(error).__name__}: {error}"[:200].split()))
            name = running.call.function.name
            self._on_lost(running.board, f"its reply to {name} is invalid ({cause})")
            self._start_idle_boards()

    def _check_boards(self) -> None:
        """Drop the boards that disconnected or stalled; then restart the idle boards.

        Raises:
            LenetEdgeError: the scheduler ended.
        """
        try:
            connected, now = self._client.nthreads(), time.monotonic()
        except (OSError, RuntimeError, TimeoutError) as error:
            raise LenetEdgeError(
                "the scheduler ended; read its log, then continue with --resume"
            ) from error
        lost = []
        for running in self._running.values():
            running.missed_checks += running.board.address not in connected
            if running.missed_checks > 1:  # at the first one, a result may still be on its way
                lost.append((running, "its worker disconnected"))
            elif now > running.deadline:
                name, limit_s = running.call.function.name, running.call.timeout_s
                lost.append((running, f"{name} did not return within {limit_s:g} s"))
        for running, reason in lost:
            del self._running[running.future.key]
            running.job.close()
            running.future.cancel()
            self._on_lost(running.board, reason)
        self._idle = [board for board in self._idle if board.address in connected]
        if lost:
            self._start_idle_boards()

    def _start_idle_boards(self) -> None:
        """Ask for a job of each idle board: it may get cells of a lost one."""
        idle, self._idle = self._idle, []
        for board in idle:
            self._start(board)


def _run_on_board(call: Call[Any]) -> bytes:
    """Run a call; Dask calls this function on the board."""
    return encode_reply(worker.encode_reply(call))


def encode_reply(reply: dict[str, Any]) -> bytes:
    """Return a reply as text: a pickle from a board could run code."""
    return tagged_json.dumps(reply).encode()


def _decode_result(call: Call[Any], future: Future, result: Any) -> Any:
    """Return the result of a call, or raise its error; an error of Dask is a WorkerError."""
    name = call.function.name
    if future.status == "finished":
        return worker.decode_reply(name, _decode_reply(name, result))
    cause = result[1] if isinstance(result, tuple) else result
    text = " ".join(str(cause)[:_MAX_TEXT].split()) or type(cause).__name__
    raise WorkerError(f"{name} did not run: {text}")


def _decode_reply(name: str, content: Any) -> dict[str, Any]:
    """Return the reply that `encode_reply` encoded.

    Raises:
        WorkerError: the content is something else.
    """
    try:
        if not isinstance(content, bytes) or len(content) > MAX_REPLY_BYTES:
            raise ValueError(f"it is {type(content).__name__} or longer than {MAX_REPLY_BYTES:,}")
        reply = tagged_json.loads(content)
        if not isinstance(reply, dict):
            raise ValueError(f"it is {type(reply).__name__}")
        if "result" not in reply:
            reply = {key: reply[key][:_MAX_TEXT] for key in ("kind", "error", "traceback")}
            check_types(reply, dict[str, str], "the error")
    except _INVALID_REPLY as error:
        cause = make_printable(" ".join(str(error)[:200].split()))
        raise WorkerError(f"{name} returned an invalid reply ({cause})") from error
    return reply
