"""Session of one run on a fleet: the boards that have the files, with what each can run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import driver, on_board
from lenet_edge.fleet.connection import FleetBoard, check_versions, connected_boards
from lenet_edge.machine.environment import Environment
from lenet_edge.results.result_file import LostBoard, ParityReport, Skipped, check_report
from lenet_edge.selection import Pair
from lenet_edge.support.typed_json import check_types
from lenet_edge.target import Target
from lenet_edge.verify.verify import verify_pair
from lenet_edge.worker import Call, Job

if TYPE_CHECKING:
    from distributed import Client

_SETUP_S = 120.0
_AT_ONCE = 32  # boards that receive files at the same time; the scheduler holds a copy for each
_DIAGNOSIS_FACTOR = 3  # on the time limit: after a failed verification the board also diagnoses it
Report = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """The artifacts to run, and the arguments of `select_pairs` that choose their targets."""

    artifacts: Sequence[Artifact]
    targets: tuple[str, ...] = ()
    delegate: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    allow_fallback: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that the user named, or else the delegate."""
        return self.targets or tuple(filter(None, [self.delegate]))


@dataclass(frozen=True)
class ReadyBoard:
    """A board that has the files: its environment, the pairs that it can run, and the others."""

    environment: Environment
    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...]


class RunJobs(Protocol):
    """A driver of jobs: `fleet.driver.run_jobs` with its client."""

    def __call__(
        self,
        boards: Sequence[FleetBoard],
        job_of: Callable[[FleetBoard], Job],
        on_lost: Callable[[FleetBoard, str], None],
        at_once: int | None = None,
    ) -> None:
        """Run the job of each board; see `fleet.driver.run_jobs`."""


def open_fleet(client: Client, choice: Choice) -> FleetSession:
    """Return a session with the boards that are connected to the client's scheduler.

    Raises:
        LenetEdgeError: as `FleetSession`; or a board has other package versions than this machine.
    """
    boards = connected_boards(client)
    check_versions(client, boards)
    return FleetSession(boards, functools.partial(driver.run_jobs, client), choice)


class FleetSession:
    """The boards of one run; each has received the files and described itself.

    Attributes:
        choice: the artifacts and targets.
        boards: the boards that are ready; a lost board stays among them.
        lost: the boards that were lost, in this order.
        run_jobs: runs a job on each board.

    Raises:
        LenetEdgeError: no board could receive the files.
    """

    def __init__(self, boards: Sequence[FleetBoard], run_jobs: RunJobs, choice: Choice) -> None:
        self.choice, self.run_jobs = choice, run_jobs
        self.boards: dict[FleetBoard, ReadyBoard] = {}
        self.lost: list[LostBoard] = []
        self._new = set(boards)
        files = on_board.read_files(choice.artifacts)
        self.run_jobs(boards, lambda board: self._set_up(board, files), self.mark_lost, _AT_ONCE)
        self.boards = {board: self.boards[board] for board in boards if board in self.boards}
        if not self.boards:
            raise LenetEdgeError(f"no board is left; {self.lost[-1].board}: {self.lost[-1].reason}")

    def _set_up(self, board: FleetBoard, files: dict[str, bytes]) -> Job:
        """Send the files to a board and receive its description."""
        if board not in self._new:  # set up or lost; the driver asks again after another loss
            return
        self._new.remove(board)
        choice = self.choice
        try:
            folder = yield from on_board.write_files.bind(files).within(_SETUP_S)
            check_types(folder, str, "the folder")
            artifacts = [
                dataclasses.replace(
                    artifact, path=Path(folder, on_board.path_on_board(artifact))
                ).to_json()
                for artifact in choice.artifacts
            ]
            selection = {
                "names": choice.targets,
                "delegate": choice.delegate,
                "options": choice.options,
                "allow_fallback": choice.allow_fallback,
            }
            facts = yield from on_board.describe_board.bind(artifacts, selection).within(_SETUP_S)
        except LenetEdgeError as error:
            self.mark_lost(board, str(error))
            return
        # The facts are untrusted: a pair is one of the artifacts that were sent.
        sent = {facts["sha256"]: Artifact.from_json(facts) for facts in artifacts}
        ready = ReadyBoard(
            Environment.from_json(facts["environment"]),
            tuple(Pair(sent[a["sha256"]], Target.from_json(t)) for a, t in facts["pairs"]),
            tuple(Skipped(**fields) for fields in facts["skipped"]),
        )
        check_types(ready)
        self.boards[board] = ready

    def mark_lost(self, board: FleetBoard, reason: str) -> None:
        """Record that a board is lost, with the reason."""
        self.lost.append(LostBoard(board.name, reason))

    def equal_boards(self, board: FleetBoard) -> list[FleetBoard]:
        """Return the other boards of the same hardware that are not lost."""
        identity = self.boards[board].environment.identity
        lost = {lost.board for lost in self.lost}
        return [
            other
            for other, ready in self.boards.items()
            if other != board and ready.environment.identity == identity and other.name not in lost
        ]


def verify_on_board(
    pair: Pair,
    settings: Mapping[str, Any],
    timeout_s: float = 300.0,
    num_threads: int = 1,
    num_images: int | None = None,
) -> Generator[Call[Any], Any, tuple[list[ParityReport], list[Skipped]]]:
    """Verify a pair on the board that runs the job; see `verify.verify.verify_pair`."""
    call = verify_pair.bind(
        pair.artifact.to_json(),
        dataclasses.asdict(pair.target),
        dict(settings),
        num_threads,
        num_images,
        timeout_s,
    )
    try:
        facts = yield from call.within(_DIAGNOSIS_FACTOR * timeout_s)
    except LenetEdgeError as error:
        return [], [Skipped(pair.target.name, str(error), pair.artifact.name)]
    reports = [ParityReport.from_json(report) for report in facts["parity"]]
    skipped = [Skipped(**fields) for fields in facts["skipped"]]
    for report in reports:
        check_report(report)
        if (report.candidate_sha256, report.target) != (pair.artifact.sha256, pair.target.name):
            raise ValueError(f"nobody requested a report on {report.candidate}, {report.target}")
    for skip in skipped:
        check_types(skip)
    return reports, skipped
