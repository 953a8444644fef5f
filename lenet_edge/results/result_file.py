"""Results of `verify` and `bench` as plain data, and the JSON file that holds them.

    BenchRun                    one run of `verify`, `bench` or both, on one machine
    ├── Environment             the machine
    ├── Measurement *           latencies of one cell
    │   └── ProcessSamples *    raw samples, costs and conditions of one worker process
    ├── ParityReport *          comparison of one pair with the reference
    ├── InstructionCount *      instructions and memory of one file on an emulated processor
    ├── LayerTimes *            times of the layers of one pair
    ├── CycleCount *            cycles of one file on a board
    └── Skipped *               a pair that did not run, and the reason

    FleetRun                    the runs of many machines in one file
    ├── BenchRun *              one for each board
    └── LostBoard *             a board that disconnected

Files of earlier schema versions are upgraded while they are read; see `old_schemas`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from lenet_edge.errors import DataError
from lenet_edge.machine.environment import Environment, read_environment
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.results.enough_images import too_few_images
from lenet_edge.results.formatting import MISSING, machine_name, plural
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.results.layer_times import LayerTimes, check_layer_times
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.old_schemas import upgrade
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.results.process_samples import ProcessSamples
from lenet_edge.support import typed_json
from lenet_edge.support.command_line import current_command
from lenet_edge.support.files import atomic_write
from lenet_edge.support.html_table import html_lines, html_table
from lenet_edge.support.repository import read_revision

__all__ = [
    "SCHEMA_VERSION",
    "BenchRun",
    "FleetRun",
    "InstructionCount",
    "LostBoard",
    "Measurement",
    "ParityReport",
    "ProcessSamples",
    "Skipped",
]  # fmt: skip

SCHEMA_VERSION = 6
_MAX_NAME = 100  # characters of the name of a folder
_MAX_BYTES = 2**28  # for the JSON of one machine
# A fleet's file has one line per board between these two.
_FLEET_START, _FLEET_END = b',\n"boards": [\n', b"]}\n"


@dataclass(frozen=True)
class Skipped:
    """Artifact on a target that did not run, with the reason.

    `artifact` is None if the target could not run any artifact.
    """

    target: str
    reason: str
    artifact: str | None = None

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        return {"target": self.target, "file": self.artifact or MISSING, "reason": self.reason}

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])


@dataclass(frozen=True)
class BenchRun:
    """Results of one run on one machine.

    Attributes:
        environment: facts of the machine.
        measurements: latencies, one for each cell.
        parity: comparisons with the reference, one for each pair.
        skipped: pairs that did not run.
        instruction_counts: instructions and memory, one for each file on each processor.
        layer_times: times of the layers of each pair, if they were requested.
        cycle_counts: cycles that boards counted, one for each file on each board.
        settings: settings of the plan.
        remaining: processes of the plan that had not started; 0 in a complete run.
        macs: multiply-accumulates for one image, by the sha256 of the artifact.
        peak_macs_per_s: float32 multiply-accumulates per second that this machine reached in a
            matrix product, by thread count.
        git_commit: commit of the repository of the model files, or else of the working directory;
            None outside a repository.
        git_dirty: whether a tracked file of that repository differed from the commit.
        board: name of the machine in its fleet; None without a fleet.
        commands: command lines that wrote the results; empty in older files, and of programs.
        created_at: time of creation, ISO 8601 in UTC.
        schema_version: version of the JSON schema.
    """

    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    parity: tuple[ParityReport, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    instruction_counts: tuple[InstructionCount, ...] = ()
    layer_times: tuple[LayerTimes, ...] = ()
    cycle_counts: tuple[CycleCount, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    remaining: int = 0
    macs: dict[str, int] = field(default_factory=dict)
    peak_macs_per_s: dict[int, float] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    board: str | None = None
    commands: tuple[str, ...] = ()
    created_at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        )
    )
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of_this_machine(
        cls,
        measurements: tuple[Measurement, ...] = (),
        parity: tuple[ParityReport, ...] = (),
        skipped: tuple[Skipped, ...] = (),
        environment: Environment | None = None,
    ) -> BenchRun:
        """Return a run of this machine at the current commit.

        `environment` holds the facts at the start of the run; by default they are read now.
        """
        command = current_command()
        return cls(
            environment or read_environment(),
            measurements,
            parity,
            skipped,
            commands=(command,) if command else (),
        ).with_revision_of(Path())

    def with_revision_of(self, folder: Path) -> BenchRun:
        """Return the run at the commit of the repository that holds a folder, if there is one."""
        try:
            revision = read_revision(folder.resolve())
        except OSError:  # the current folder may be deleted
            return self
        if revision is None:
            return self
        return dataclasses.replace(self, git_commit=revision.commit, git_dirty=revision.is_dirty)

    def __repr__(self) -> str:
        failed = sum(skipped.artifact is not None for skipped in self.skipped)
        counts = [
            plural(len(self.measurements), "measurement"),
            plural(len(self.parity), "parity report"),
            *(
                [plural(len(self.instruction_counts), "instruction count")]
                if self.instruction_counts
                else []
            ),
            *([f"{failed} failed"] if failed else []),
            *([f"{self.remaining} remaining"] if self.remaining else []),
        ]
        return f"BenchRun({machine_name(self.environment)}: {', '.join(counts)})"

    def _repr_html_(self) -> str:
        parts = [html_lines([machine_name(self.environment), *self.environment.warnings])]
        if self.parity:
            parts.append(html_table([report.html_row() for report in self.parity], "Parity"))
        if self.measurements:
            parts.append(html_table([m.html_row() for m in self.measurements], "Latency"))
        parts += [
            html_table(times.html_rows(), f"Layers of {times.artifact} on {times.target}")
            for times in self.layer_times
        ]
        skipped = [skipped.html_row() for skipped in self.skipped]
        if skipped:
            parts.append(html_table(skipped, "Skipped"))
        return "".join(parts)

    @property
    def passed(self) -> bool:
        """True if there are parity reports, all of them passed, and no pair failed to run."""
        ran = not any(skipped.artifact for skipped in self.skipped)
        return ran and bool(self.parity) and all(self.parity)

    @property
    def precision(self) -> float:
        """Relative precision of the samples of a process; 0 if it is unknown."""
        precision: float = self.settings.get("precision", 0.0)
        return precision

    @property
    def paired(self) -> bool:
        """True if processes of one round ran in the same minutes. Joined runs are not paired."""
        return "joined" not in self.settings

    @property
    def failed_pairs(self) -> set[tuple[str, str]]:
        """Pairs that failed parity, each as sha256 of the artifact and name of the target."""
        return {
            (report.candidate_sha256, report.target)
            for report in self.parity
            if report.verdict == "fail"
        }

    def to_json(self) -> dict[str, Any]:
        """Return the run and the derived advice as a JSON object."""
        few = too_few_images(self.parity)
        return {
            "schema_version": self.schema_version,
            "created_at": self.created_at,
            "git_commit": self.git_commit,
            "git_dirty": self.git_dirty,
            "board": self.board,
            "commands": self.commands,
            "environment": dataclasses.asdict(self.environment),
            "settings": self.settings,
            "remaining": self.remaining,
            "macs": self.macs,
            "peak_macs_per_s": self.peak_macs_per_s,
            "measurements": [measurement.to_json() for measurement in self.measurements],
            "parity": [report.to_json() for report in self.parity],
            "instruction_counts": [count.to_json() for count in self.instruction_counts],
            "skipped": [dataclasses.asdict(skip) for skip in self.skipped],
            "layer_times": [times.to_json() for times in self.layer_times],
            "cycle_counts": [count.to_json() for count in self.cycle_counts],
            "derived": {"too_few_images": few and few.to_json()},
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> BenchRun:
        """Return the run that `to_json` wrote, in this or an earlier schema version."""
        facts = upgrade(facts)
        return cls(
            environment=Environment.from_json(facts["environment"]),
            measurements=tuple(map(Measurement.from_json, facts["measurements"])),
            parity=tuple(map(ParityReport.from_json, facts["parity"])),
            skipped=tuple(Skipped(**skip) for skip in facts["skipped"]),
            cycle_counts=tuple(map(CycleCount.from_json, facts.get("cycle_counts", ()))),
            instruction_counts=tuple(
                map(InstructionCount.from_json, facts.get("instruction_counts", ()))
            ),
            layer_times=tuple(map(LayerTimes.from_json, facts.get("layer_times", ()))),
            settings=facts["settings"],
            remaining=facts["remaining"],
            macs=facts.get("macs", {}),  # the first files of schema 2 lack it
            peak_macs_per_s={int(n): x for n, x in facts.get("peak_macs_per_s", {}).items()},
            git_commit=facts["git_commit"],
            git_dirty=facts.get("git_dirty"),
            board=facts["board"],
            commands=tuple(facts.get("commands", ())),
            created_at=facts["created_at"],
        )

    def default_path(self, folder: Path) -> Path:
        """Return the path of this run in a folder of results: <machine>/<time>-<commit>.json."""
        machine = re.sub(r"[^a-z0-9]+", "-", self.environment.machine.lower()).strip("-")
        if self.environment.emulated:
            machine += "-emulated"
        time = re.sub(r"[^0-9T]", "", self.created_at[:19])
        machine = machine[:_MAX_NAME] or "machine"  # the name may come from a board
        return folder / machine / f"{time}-{self.git_commit or 'unversioned'}.json"

    def save(self, path: Path | str) -> None:
        """Write the run as a JSON file, atomically."""
        with atomic_write(Path(path)) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> BenchRun:
        """Read a file that `save` wrote.

        Raises:
            DataError: the file is missing or damaged, has a newer schema, or holds several boards.
        """
        runs = load_runs(Path(path))
        if len(runs) != 1:
            raise DataError(
                f"{path} holds the runs of {len(runs)} boards, but this command takes one run;"
                " lenet-edge report reads all"
            )
        return runs[0]


@dataclass(frozen=True)
class LostBoard:
    """Board that disconnected during its work, with the reason."""

    board: str
    reason: str


@dataclass(frozen=True)
class FleetRun:
    """Results of a fleet: one run for each board, and the boards that disconnected."""

    runs: tuple[BenchRun, ...]
    lost: tuple[LostBoard, ...] = ()

    def __repr__(self) -> str:
        lost = f", {len(self.lost)} lost" if self.lost else ""
        return f"FleetRun({plural(len(self.runs), 'board')}{lost})"

    def _repr_html_(self) -> str:
        lost = (f"{board.board} was lost: {board.reason}" for board in self.lost)
        return "".join(run._repr_html_() for run in self.runs) + html_lines(lost)

    def to_json(self) -> dict[str, Any]:
        """Return all runs as a JSON object."""
        return {**self._head, "boards": [run.to_json() for run in self.runs]}

    @property
    def _head(self) -> dict[str, Any]:
        lost = [dataclasses.asdict(board) for board in self.lost]
        return {"schema_version": SCHEMA_VERSION, "lost": lost}

    def save(self, path: Path | str) -> None:
        """Write one JSON file, atomically, with one line per board.

        Encoding one board at a time keeps memory low for a large fleet.
        """
        with atomic_write(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._head)[:-1] + _FLEET_START.decode())
            for number, run in enumerate(self.runs, 1):
                comma = "," if number < len(self.runs) else ""
                file.write(f"{json.dumps(run.to_json())}{comma}\n")
            file.write(_FLEET_END.decode())


def load_runs(path: Path) -> tuple[BenchRun, ...]:
    """Read a file that `BenchRun.save` or `FleetRun.save` wrote; return one run per machine.

    Raises:
        DataError: the file is missing or damaged, or has a newer schema.
    """
    try:
        with path.open("rb") as file:
            return parse_runs(file, str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def parse_runs(file: BufferedReader[Any], name: str) -> tuple[BenchRun, ...]:
    """Read an open result file; `name` is its name in error messages.

    Raises:
        DataError: the file is damaged, or has a newer schema.
    """
    try:
        return tuple(map(_checked_run, _read_runs(file)))
    except _UnreadableFileError as error:
        raise DataError(f"{name} {error}") from error
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError,
        RecursionError, zlib.error,
    ) as error:  # fmt: skip
        raise DataError(
            f"{name} is not a result file, or it is damaged ({error}); write one with:"
            " lenet-edge bench --json FILE"
        ) from error


class _UnreadableFileError(Exception):
    """Reason not to read a file at all; the message continues the file's name."""


def _read_runs(file: BufferedReader[Any]) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of each run; read a `FleetRun.save` file line by line."""
    if file.peek(1)[:1] != b"{":  # a line of a file that is something else may have gigabytes
        raise ValueError("it does not start with {")
    text = _read_limited(file.readline) + _read_limited(file.readline)
    if not text.endswith(_FLEET_START):
        facts = _with_known_schema(json.loads(text + _read_limited(file.read)))
        yield from facts.get("boards", [facts])
        return
    _with_known_schema(json.loads(text + _FLEET_END))
    while (text := _read_limited(file.readline)) != _FLEET_END:
        # A file without its end yields an empty line, which is not JSON: ValueError.
        yield json.loads(text.rstrip(b",\n"))


def _read_limited(read: Callable[[int], bytes]) -> bytes:
    text = read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise _UnreadableFileError(
            f"has more than {_MAX_BYTES:,} bytes for one machine, so it is not a result file"
        )
    return text


def _with_known_schema(facts: dict[str, Any]) -> dict[str, Any]:
    if facts["schema_version"] > SCHEMA_VERSION:
        raise _UnreadableFileError(
            f"was written by a newer lenet-edge (schema {facts['schema_version']});"
            " upgrade lenet-edge to read it"
        )
    return facts


def _checked_run(facts: dict[str, Any]) -> BenchRun:
    run = BenchRun.from_json(facts)
    typed_json.check_types(run)
    _check_plausible(run)
    return run


def _check_plausible(run: BenchRun) -> None:
    """Check the values that types do not constrain and later arithmetic relies on.

    Raises:
        ValueError: a value is impossible.
    """
    for measurement in run.measurements:
        check_measurement(measurement)
    for report in run.parity:
        check_report(report)
    for times in run.layer_times:
        check_layer_times(times)
    precision, scenario = run.settings.get("precision", 0.0), run.settings.get("scenario")
    typed_json.check_types((precision, scenario), tuple[float, str | None], "settings")
    if precision < 0:
        raise ValueError(f"the precision of the samples is {precision}")


def check_measurement(measurement: Measurement) -> None:
    """Check a measurement of untrusted origin.

    Raises:
        ValueError: it has a value of a wrong type, or an impossible one.
    """
    typed_json.check_types(measurement)
    if not measurement.processes or min(measurement.batch_size, measurement.num_threads) < 1:
        raise ValueError(f"{measurement.artifact} was measured in no process, or with no image")


def check_report(report: ParityReport) -> None:
    """Check a parity report of untrusted origin.

    Raises:
        ValueError: it has a value of a wrong type, or an impossible one.
    """
    typed_json.check_types(report)
    fractions = (report.reference_accuracy, report.candidate_accuracy, report.top1_agreement)
    possible = all(fraction is None or 0 <= fraction <= 1 for fraction in fractions)
    if report.num_samples < 0 or not possible:
        raise ValueError(f"{report.candidate} is right on more images than there are")
