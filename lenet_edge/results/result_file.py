"""What a stage found out, as plain data, and the JSON file that holds it.

    BenchRun                one run of `verify`, `bench` or both, on one machine
    ├── Environment         the machine
    ├── Measurement *       latencies of one file on one target at one batch size
    │   └── ProcessSamples *         what one process found: raw samples, costs, conditions
    ├── ParityReport *      is one file on one target still right?
    └── Skipped *           what did not run, and why

    FleetRun                   the runs of many machines in one file
    ├── BenchRun *          one for each board
    └── LostBoard *              a board that went away, and how

Schema versions: 1 (2026-11), one process a measurement; 2 (2026-11), trials, and verdicts with
their bounds; 3 (2026-11), what a delegate took in an object of its own, with its device;
4 (2026-11), a run has its board's name, and a file may hold a fleet's.
A file of an earlier version is upgraded as it is read.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import re
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lenet_edge.errors import DataError
from lenet_edge.machine.environment import Environment, read_environment
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.results.process_samples import ProcessSamples
from lenet_edge.support import typed_json
from lenet_edge.support.files import atomic_write
from lenet_edge.target import Delegation

__all__ = [
    "SCHEMA_VERSION",
    "BenchRun",
    "FleetRun",
    "LostBoard",
    "Measurement",
    "ParityReport",
    "ProcessSamples",
    "Skipped",
]  # fmt: skip

SCHEMA_VERSION = 4
_MAX_BYTES = 2**28  # of one machine
_BOARDS, _END = b',\n"boards": [\n', b"]}\n"  # of a fleet's file, around a line for each board


@dataclass(frozen=True)
class Skipped:
    """A file on a target that did not run, and the reason."""

    target: str
    reason: str
    artifact: str | None = None


@dataclass(frozen=True)
class BenchRun:
    """Everything one run found out on one machine.

    `settings` are those of the plan. `remaining` counts the processes that it still had to start
    when this was written: 0 in a run that came to its end. `macs` are the multiply-accumulates
    for one image, by the sha256 of the file; `peak_macs_per_s` are the float32 ones that this
    machine reached in a matrix product, by the number of threads. Both are empty where not known.
    `board` is what a fleet calls the machine.
    """

    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    parity: tuple[ParityReport, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    remaining: int = 0
    macs: dict[str, int] = field(default_factory=dict)
    peak_macs_per_s: dict[int, float] = field(default_factory=dict)
    git_commit: str | None = None
    board: str | None = None
    created_at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        )
    )
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def here(
        cls,
        measurements: tuple[Measurement, ...] = (),
        parity: tuple[ParityReport, ...] = (),
        skipped: tuple[Skipped, ...] = (),
        environment: Environment | None = None,
    ) -> BenchRun:
        """Return a run of this machine, at this commit; `environment` as it was at the start."""
        here = environment or read_environment()
        return cls(here, measurements, parity, skipped, git_commit=_git_commit())

    @property
    def paired(self) -> bool:
        """Whether process i of every cell ran in the same round; not where runs were joined."""
        return "joined" not in self.settings

    def to_json(self) -> dict[str, Any]:
        """Return the whole run as what JSON can hold."""
        return {
            "schema_version": self.schema_version,
            "created_at": self.created_at,
            "git_commit": self.git_commit,
            "board": self.board,
            "environment": dataclasses.asdict(self.environment),
            "settings": self.settings,
            "remaining": self.remaining,
            "macs": self.macs,
            "peak_macs_per_s": self.peak_macs_per_s,
            "measurements": [one.to_json() for one in self.measurements],
            "parity": [one.to_json() for one in self.parity],
            "skipped": [dataclasses.asdict(one) for one in self.skipped],
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> BenchRun:
        """Return the run that `to_json` wrote, here or in an earlier version."""
        if facts["schema_version"] == 1:
            facts = _upgrade_1(facts)
        if facts["schema_version"] == 2:
            facts = _upgrade_2(facts)
        if facts["schema_version"] == 3:
            facts = {**facts, "board": None}
        return cls(
            environment=Environment.from_json(facts["environment"]),
            measurements=tuple(Measurement.from_json(one) for one in facts["measurements"]),
            parity=tuple(ParityReport.from_json(one) for one in facts["parity"]),
            skipped=tuple(Skipped(**one) for one in facts["skipped"]),
            settings=facts["settings"],
            remaining=facts["remaining"],
            macs=facts.get("macs", {}),  # not in the first files of schema 2
            peak_macs_per_s={int(n): x for n, x in facts.get("peak_macs_per_s", {}).items()},
            git_commit=facts["git_commit"],
            board=facts["board"],
            created_at=facts["created_at"],
        )

    def place(self, folder: Path) -> Path:
        """Return where in a folder of results this run belongs: <machine>/<time>-<commit>.json."""
        machine = re.sub(r"[^a-z0-9]+", "-", self.environment.machine.lower()).strip("-")
        if self.environment.emulated:
            machine += "-emulated"
        time = re.sub(r"[^0-9T]", "", self.created_at[:19])
        return folder / machine / f"{time}-{self.git_commit or 'unversioned'}.json"

    def save(self, path: Path) -> None:
        """Write the run as a JSON file, atomically."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> BenchRun:
        """Read a file that `save` wrote.

        Raises:
            DataError: it is missing, damaged, of a newer schema, or holds several machines.
        """
        runs = load_runs(path)
        if len(runs) != 1:
            raise DataError(
                f"{path} holds the runs of {len(runs)} boards, and one is asked for here;"
                " lenet-edge report reads all"
            )
        return runs[0]


@dataclass(frozen=True)
class LostBoard:
    """A board that went away while it was at work, and how that was seen."""

    board: str
    reason: str


@dataclass(frozen=True)
class FleetRun:
    """What the boards of a fleet found out, each by itself."""

    runs: tuple[BenchRun, ...]
    lost: tuple[LostBoard, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return all runs as what JSON can hold."""
        return {**self._head, "boards": [run.to_json() for run in self.runs]}

    @property
    def _head(self) -> dict[str, Any]:
        lost = [dataclasses.asdict(one) for one in self.lost]
        return {"schema_version": SCHEMA_VERSION, "lost": lost}

    def save(self, path: Path) -> None:
        """Write one JSON file, atomically, a line for each board: all at once would need memory."""
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head)[:-1] + _BOARDS.decode())
            for number, run in enumerate(self.runs, 1):
                comma = "," if number < len(self.runs) else ""
                file.write(f"{json.dumps(run.to_json())}{comma}\n")
            file.write(_END.decode())


def load_runs(path: Path) -> tuple[BenchRun, ...]:
    """Read what `BenchRun.save` or `FleetRun.save` wrote: a run for each machine in it.

    Raises:
        DataError: it is missing, damaged, or of a newer schema.
    """
    try:
        with path.open("rb") as file:
            return tuple(_run(facts) for facts in _facts(file))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except _Unreadable as error:
        raise DataError(f"{path} {error}") from error
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError,
        RecursionError, zlib.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is not a result file that can be read ({error})") from error


class _Unreadable(Exception):
    """Says what is with a file, instead of what in it could not be read."""


def _facts(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of each run; read a `FleetRun.save` file line by line."""
    text = _piece(file.readline) + _piece(file.readline)
    if not text.endswith(_BOARDS):
        facts = _of_known_schema(json.loads(text + _piece(file.read)))
        yield from facts.get("boards", [facts])
        return
    _of_known_schema(json.loads(text + _END))
    while (text := _piece(file.readline)) != _END:
        yield json.loads(text.rstrip(b",\n"))  # nothing is no JSON: so where the end is missing


def _piece(read: Callable[[int], bytes]) -> bytes:
    text = read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise _Unreadable(f"has more than {_MAX_BYTES:,} bytes for one machine; no result file has")
    return text


def _of_known_schema(facts: dict[str, Any]) -> dict[str, Any]:
    if facts["schema_version"] > SCHEMA_VERSION:
        raise _Unreadable(
            f"was written by a newer lenet-edge (schema {facts['schema_version']});"
            " upgrade lenet-edge to read it"
        )
    return facts


def _run(facts: dict[str, Any]) -> BenchRun:
    run = BenchRun.from_json(facts)
    typed_json.check_types(run)
    _check_plausible(run)
    return run


def _check_plausible(run: BenchRun) -> None:
    """Make sure of what the types in a result file do not say, as far as figures rest on it.

    Raises:
        ValueError: it cannot be true.
    """
    for one in run.measurements:
        if not one.processes or min(one.batch_size, one.num_threads) < 1:
            raise ValueError(f"{one.artifact} was measured in no process, or with no image")
    for two in run.parity:
        shares = (two.reference_accuracy, two.candidate_accuracy, two.top1_agreement)
        if two.num_samples < 0 or not all(one is None or 0 <= one <= 1 for one in shares):
            raise ValueError(f"{two.candidate} is right on more images than there are")
    precision, scenario = run.settings.get("precision", 0.0), run.settings.get("scenario")
    typed_json.check_types((precision, scenario), tuple[float, str | None], "settings")


def _upgrade_1(facts: dict[str, Any]) -> dict[str, Any]:
    """Return as schema 2 what schema 1 held: one process a measurement, one bound a report."""
    of_a_trial = {f.name for f in dataclasses.fields(ProcessSamples)}
    measurements = []
    for one in facts["measurements"]:
        trial = {name: value for name, value in one.items() if name in of_a_trial}
        kept = {name: value for name, value in one.items() if name not in of_a_trial}
        measurements.append({**kept, "trials": [trial]})
    parity = [
        {
            **one,
            "verdict": "pass" if one["passed"] else "fail",
            "bounds": {"max_accuracy_drop": one["tolerance"]},
        }
        for one in facts["parity"]
    ]
    environment = {**facts["environment"], "affinity": ()}
    more = {"environment": environment, "parity": parity, "settings": {}, "remaining": 0}
    return {**facts, **more, "measurements": measurements, "schema_version": 2}


def _upgrade_2(facts: dict[str, Any]) -> dict[str, Any]:
    """Return as schema 3 what schema 2 held: a delegate's name and its nodes, each by itself."""

    def upgraded(one: dict[str, Any]) -> dict[str, Any]:
        total, taken = one.get("nodes_total"), one.get("nodes_taken")
        if total is None or taken is None:
            return {**one, "delegation": None}
        found = Delegation(one.get("delegate") or one["target"], total, taken)
        return {**one, "delegation": dataclasses.asdict(found)}

    both = {kind: [upgraded(one) for one in facts[kind]] for kind in ("measurements", "parity")}
    return {**facts, **both, "schema_version": 3}


@functools.cache
def _git_commit() -> str | None:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
