"""The boards that take part in a run: each has the files, has said what it is, and may be lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import on_board
from lenet_edge.fleet.connection import Board, boards_of, check_versions
from lenet_edge.fleet.on_board import pack, place_of
from lenet_edge.fleet.scheduler import Conductor
from lenet_edge.machine.environment import Environment
from lenet_edge.results.result_file import LostBoard, ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.target import Target
from lenet_edge.verify.verify import verify_pair
from lenet_edge.worker import Call, Job

if TYPE_CHECKING:
    from distributed import Client

_SETUP_S = 120.0
_AT_ONCE = 32  # boards that take the files: each has the scheduler hold them once more
_LONGER = 3  # than a process that verifies: where it finds a file wrong, it looks for the cause
Report = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What every board is asked to run: these files, on what `select` makes of the rest there."""

    artifacts: Sequence[Artifact]
    targets: tuple[str, ...] = ()
    delegate: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    allow_fallback: bool = False

    def arguments(self, folder: str) -> dict[str, Any]:
        """Return what a board is asked, which has the files in this folder of its own."""
        files = [{**one.to_json(), "path": f"{folder}/{place_of(one)}"} for one in self.artifacts]
        how = {
            "names": self.targets,
            "delegate": self.delegate,
            "options": self.options,
            "allow_fallback": self.allow_fallback,
        }
        return {"artifacts": files, "how": how}


@dataclass(frozen=True)
class Station:
    """A board that has said what it is, and what it can run and what not."""

    board: Board
    environment: Environment
    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...]


class FleetSession:
    """The boards of one run, by what they are; some may be lost on the way.

    Raises:
        LenetEdgeError: there is no board, none that could take the files, or one whose packages
            are not those of this machine.
    """

    def __init__(self, client: Client, choice: Choice) -> None:
        self._client = client
        self.lost: list[LostBoard] = []
        self.stations: dict[Board, Station] = {}
        boards = boards_of(client)
        check_versions(client, boards)
        parcel = pack(choice.artifacts)
        self.work(boards, lambda board: self._introduce(board, choice, parcel), self.lose, _AT_ONCE)
        self.stations = {board: self.stations[board] for board in boards if board in self.stations}
        if not self.stations:
            raise LenetEdgeError(f"no board is left; {self.lost[-1].board}: {self.lost[-1].reason}")

    def _introduce(self, board: Board, choice: Choice, parcel: dict[str, bytes]) -> Job:
        try:
            folder = yield from on_board.unpack.bind(parcel).within(_SETUP_S)
            facts = yield from on_board.look.bind(**choice.arguments(folder)).within(_SETUP_S)
        except LenetEdgeError as error:
            self.lose(board, str(error))
            return
        self.stations[board] = Station(
            board,
            Environment.from_json(facts["environment"]),
            tuple(Pair(Artifact.from_json(a), Target.from_json(t)) for a, t in facts["pairs"]),
            tuple(Skipped(**one) for one in facts["skipped"]),
        )

    def work(
        self,
        boards: Sequence[Board],
        work_of: Callable[[Board], Job],
        lost: Callable[[Board, str], None],
        at_once: int | None = None,
    ) -> None:
        """Let every board do its work, all at the same time; see `Conductor`."""
        Conductor(self._client, lost).run(boards, work_of, at_once)

    def lose(self, board: Board, reason: str) -> None:
        """Note that a board is gone, and how that was seen."""
        self.lost.append(LostBoard(board.name, reason))

    def equals(self, board: Board) -> list[Board]:
        """Return the other boards of the same kind that are still there."""
        identity, gone = self.stations[board].environment.identity, {one.board for one in self.lost}
        return [
            other
            for other, station in self.stations.items()
            if other != board
            and station.environment.identity == identity
            and other.name not in gone
        ]


def prove(
    pair: Pair, timeout_s: float = 300.0, **how: Any
) -> Generator[Call[Any], Any, tuple[list[ParityReport], list[Skipped]]]:
    """Let a board verify a file on a target; `how` goes to `verify`."""
    artifact, target = pair.artifact.to_json(), dataclasses.asdict(pair.target)
    call = verify_pair.bind(artifact, target, timeout_s=timeout_s, **how)
    try:
        found = yield from call.within(_LONGER * timeout_s)
    except LenetEdgeError as error:
        return [], [Skipped(pair.target.name, str(error), pair.artifact.name)]
    return (
        [ParityReport.from_json(one) for one in found["parity"]],
        [Skipped(**one) for one in found["skipped"]],
    )
