"""The conductor: every board does one call at a time, and one that goes away costs only itself."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lenet_edge import worker
from lenet_edge.errors import LenetEdgeError, WorkerError
from lenet_edge.fleet.connection import RESOURCE, Board
from lenet_edge.worker import Call, Job

if TYPE_CHECKING:
    from distributed import Client, Future

GRACE_S = 30.0  # beyond a call's own limit, at which the board should have ended it by itself
_LOOK_EVERY_S = 1.0
_POLL_S = 0.005  # what a board waits for its next call, at the most, beyond what Dask takes


@dataclass
class _Turn:
    """A board at work: what it was asked last, and by when it must have answered.

    `missed` counts the looks at the scheduler that did not find its worker.
    """

    board: Board
    work: Job
    asked: Call[Any]
    future: Future
    deadline: float
    missed: int = 0


class Conductor:
    """Drives the work of many boards, each a generator of calls.

    Args:
        client: of the scheduler that the boards' workers are at.
        lost: called with a board that went away and how that was seen. What it may do is give that
            board's share to others: every idle board is then asked for its work again.
        grace_s: how much longer than a call's own limit an answer may take.
    """

    def __init__(
        self, client: Client, lost: Callable[[Board, str], None], grace_s: float | None = None
    ) -> None:
        from distributed import as_completed

        self._client, self._lost = client, lost
        self._grace_s = GRACE_S if grace_s is None else grace_s
        self._turns: dict[str, _Turn] = {}
        self._idle: list[Board] = []
        # Dask fetches each result as it is ready; one that hangs holds up no other.
        self._answers = as_completed([], with_results=True, raise_errors=False, loop=client.loop)
        self._keys = (f"lenet-edge-{uuid.uuid4().hex}-{n}" for n in itertools.count())

    def run(
        self, boards: Sequence[Board], work_of: Callable[[Board], Job], at_once: int | None = None
    ) -> None:
        """Do every board's work, at the same time, until each is at its end or lost.

        Args:
            boards: all of them.
            work_of: gives the work of a board.
            at_once: how many may be at it together, where each of them weighs; all if left out.

        Raises:
            LenetEdgeError: the scheduler itself went away.
        """
        try:
            waiting = list(reversed(boards))
            looked = time.monotonic()
            while self._turns or waiting:
                while waiting and (at_once is None or len(self._turns) < at_once):
                    self._start(waiting.pop(), work_of)
                for future, result in self._answers.next_batch(block=False):
                    self._answered(future, result)
                if time.monotonic() - looked >= _LOOK_EVERY_S:
                    self._look(work_of)
                    looked = time.monotonic()
                if not self._answers.has_ready():
                    time.sleep(_POLL_S)
        finally:
            for turn in self._turns.values():
                turn.work.close()
            with contextlib.suppress(Exception):
                self._client.cancel([turn.future for turn in self._turns.values()], force=True)
            self._turns.clear()
            self._idle.clear()

    def _start(self, board: Board, work_of: Callable[[Board], Job]) -> None:
        work = work_of(board)
        try:
            self._ask(board, work, next(work))
        except StopIteration:
            self._idle.append(board)

    def _ask(self, board: Board, work: Job, asked: Call[Any]) -> None:
        future = self._client.submit(
            functools.partial(_reply, asked),  # in an argument Dask would look for tasks
            key=next(self._keys), workers=[board.address], resources={RESOURCE: 1}, pure=False,
        )  # fmt: skip
        deadline = time.monotonic() + asked.timeout_s + self._grace_s
        self._turns[future.key] = _Turn(board, work, asked, future, deadline)
        self._answers.add(future)

    def _answered(self, future: Future, result: Any) -> None:
        turn = self._turns.pop(future.key, None)
        if turn is None:  # of a board that was given up
            return
        if (
            future.status == "cancelled"
        ):  # by nobody here: the scheduler is gone, as a look will say
            self._turns[future.key] = turn
            return
        try:
            came = _what_came(turn.asked, future, result)
            go_on = functools.partial(turn.work.send, came)
        except LenetEdgeError as error:
            go_on = functools.partial(turn.work.throw, error)
        try:
            asked = go_on()
        except StopIteration:
            self._idle.append(turn.board)
        else:
            self._ask(turn.board, turn.work, asked)

    def _look(self, work_of: Callable[[Board], Job]) -> None:
        """Give up the boards that are gone or silent; what they leave may be for those at rest."""
        try:
            here, now = self._client.nthreads(), time.monotonic()
        except (OSError, RuntimeError, TimeoutError) as error:
            raise LenetEdgeError(
                "the scheduler went away; see its log, and go on with --resume"
            ) from error
        gone = []
        for turn in self._turns.values():
            turn.missed += turn.board.address not in here
            if turn.missed > 1:  # an answer may still have been under way
                gone.append((turn, "its worker is gone"))
            elif now > turn.deadline:
                what, limit = turn.asked.function.name, turn.asked.timeout_s
                gone.append((turn, f"it did not answer {what} within {limit:g} s"))
        for turn, reason in gone:
            del self._turns[turn.future.key]
            turn.work.close()
            turn.future.cancel()
            self._lost(turn.board, reason)
        self._idle = [board for board in self._idle if board.address in here]
        if gone:
            idle, self._idle = self._idle, []
            for board in idle:
                self._start(board, work_of)


def _reply(asked: Call[Any]) -> dict[str, Any]:
    """Do a call, on the board, and return its result or its error as plain data."""
    return worker.encode_reply(asked)


def _what_came(asked: Call[Any], future: Future, result: Any) -> Any:
    """Return what a call returned, or raise what it raised, Dask's own errors as ours."""
    if future.status == "finished":
        return worker.decode_reply(asked.function.name, result)
    cause = result[1] if isinstance(result, tuple) else result
    text = " ".join(str(cause).split()) or type(cause).__name__
    raise WorkerError(f"{asked.function.name} did not run: {text}")
