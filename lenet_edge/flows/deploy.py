"""From the desk to a board: what fits it, sent, proven and timed there, beside the same here."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import getpass
import io
import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench import plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.deploy import bundle
from lenet_edge.deploy.ssh import SshConnection
from lenet_edge.deploy.wheels import Fitting, System, fit
from lenet_edge.errors import BoardError
from lenet_edge.results.result_file import BenchRun, ParityReport
from lenet_edge.runtimes import absence, get_deployable, get_target
from lenet_edge.selection import Pair
from lenet_edge.target import Logits, Target
from lenet_edge.verify.verify import verify

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
Say = Callable[[str], None]

_DAY_S = 86_400
_SPARE_BYTES = 30_000_000  # results, bytecode, and what the system writes meanwhile


@dataclass(frozen=True)
class Deployment:
    """What goes to a board, decided from what the board says of itself.

    `facts` come from `on_board.describe_board`; `left_out` are files that the runtimes do not read.
    """

    facts: dict[str, Any]
    fitting: Fitting
    artifacts: tuple[Artifact, ...]
    bundle: bundle.Bundle
    left_out: tuple[str, ...]

    @property
    def place(self) -> dict[str, Any]:
        """The release and the environment on the board."""
        return {"release": self.bundle.id, "environment": self.fitting.id}

    @property
    def is_in_use(self) -> bool:
        """Whether the board runs exactly this already."""
        return bool(self.facts["in_use"] == self.place)

    @property
    def pairs(self) -> list[Pair]:
        """Each file on each runtime of the board that reads it."""
        targets = _targets(self.fitting)
        return [
            Pair(one, target)
            for one in self.artifacts
            for target in targets
            if one.format in target.formats
        ]


def decide(
    board: SshConnection, artifacts: Sequence[Artifact], runtimes: Sequence[str] = ()
) -> Deployment:
    """Look at a board and say what fits it; nothing is changed there.

    Args:
        board: the connection.
        artifacts: the files that may be sent.
        runtimes: names of `runtimes.deployables`; if empty, the best that has a wheel.

    Raises:
        BoardError: the board cannot run lenet-edge, and why.
    """
    facts = board.call("describe_board")
    system = _system(board.host, facts)
    fitting = fit(system, runtimes)
    if system.is_32_bit_arm and not facts["has_numpy"]:
        raise BoardError(
            f"{board.host}: 32-bit systems need Debian's NumPy; on the board:"
            " sudo apt install python3-numpy"
        )
    formats = {format for target in _targets(fitting) for format in target.formats}
    fitting_files = tuple(one for one in artifacts if one.format in formats)
    if not fitting_files:
        raise BoardError(
            f"{board.host}: none of the files runs on {' or '.join(fitting.runtimes)}, which is for"
            f" {system}; export others, or name another --runtime"
        )
    made = bundle.make(fitting_files, machine=system.machine)
    _check_room(board.host, facts, made, fitting)
    return Deployment(
        facts,
        fitting,
        fitting_files,
        made,
        tuple(one.name for one in artifacts if one not in fitting_files),
    )


def _targets(fitting: Fitting) -> list[Target]:
    """Return the target on which each runtime of a board is verified and measured."""
    return [get_target(get_deployable(name).target) for name in fitting.runtimes]


def _system(host: str, facts: dict[str, Any]) -> System:
    """Return what decides the wheels.

    Raises:
        BoardError: what is wrong with the board, before anything is written to it.
    """
    if facts["glibc"] is None:
        raise BoardError(f"{host}: {facts['system']} has no glibc, and there are no wheels for it")
    if not facts["writable"]:
        raise BoardError(
            f"{host}: {facts['home']} is read-only; mount it writable"
            " (raspi-config, Performance Options, Overlay File System)"
        )
    off_s = facts["time_s"] - time.time()
    if abs(off_s) > _DAY_S:
        raise BoardError(
            f"{host}: its clock is {abs(off_s) / _DAY_S:,.0f} days"
            f" {'ahead' if off_s > 0 else 'behind'}; set it there: sudo date -s @{time.time():.0f}"
        )
    major, minor, _ = facts["python"]
    return System(facts["machine"], (major, minor), int(facts["glibc"].split(".")[1]))


@dataclass(frozen=True)
class Difference:
    """How far the answers of a file on a board are from those of the same runtime here.

    `steps` is the largest difference in quantization steps, None where the output is float;
    `versions` are the runtime's on the board and here.
    """

    candidate: str
    target: str
    outputs: int
    differing: int
    max_abs: float
    steps: int | None
    versions: tuple[str, str] | None = None

    def __str__(self) -> str:
        where = f"{self.candidate} on {self.target}"
        if not self.differing:
            return f"{where}: all {self.outputs:,} outputs as here, bit for bit"
        by = f"{self.steps} quantization steps" if self.steps else f"{self.max_abs:.1g}"
        other = self.versions and self.versions[0] != self.versions[1]
        why = (
            f"the board has version {self.versions[0]}, this machine {self.versions[1]}"
            if self.versions and other
            else "the kernels of another processor add in another order"
        )
        return (
            f"{where}: {self.differing:,} of {self.outputs:,} outputs differ from here, by at most"
            f" {by}: {why}"
        )


@dataclass(frozen=True)
class Outcome:
    """What a deployment came to; `kept` is the result file, `command` what to call on the board.

    `here` holds the same files on the same runtimes, on this machine.
    """

    board: BenchRun
    here: BenchRun
    differences: tuple[Difference, ...]
    findings: tuple[dict[str, Any], ...]
    kept: Path
    command: str | None

    @property
    def verdict(self) -> str:
        """The worst of the board: "fail" (also where nothing ran), "inconclusive" or "pass"."""
        return _verdict(self.board.parity)

    def to_json(self) -> dict[str, Any]:
        """Return the whole as what JSON can hold."""
        return {
            "results": self.board.to_json(),
            "here": self.here.to_json(),
            "differences": [dataclasses.asdict(one) for one in self.differences],
            "findings": self.findings,
            "kept": str(self.kept),
            "command": self.command,
        }


def carry_out(
    board: SshConnection,
    what: Deployment,
    batch_sizes: tuple[int, ...],
    max_time_s: float,
    results: Path,
    progress_bar: ProgressBar,
    say: Say,
    measuring_alone: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Outcome:
    """Send, install, examine, verify and time; then the board uses what was sent.

    What fails its parity is neither timed nor put to use: the board keeps what it had.

    Raises:
        BoardError: the board cannot do it; its message says why.
    """
    board.call("lock_board", user=f"{getpass.getuser()}@{socket.gethostname()}")
    _send(board, what, progress_bar)
    say("Installing")
    files = what.bundle.hashes
    executable = [name for name in files if bundle.mode(name) & 0o111]
    board.call("unpack_release", release=what.bundle.id, files=files, executable=executable)
    board.call("create_environment", **what.place, wheels=what.fitting.hashes)

    def call(*arguments: str) -> dict[str, Any]:
        say(f"On the board: lenet-edge {' '.join(arguments)}")
        done: dict[str, Any] = board.call(
            "run_command", report=say, **what.place, arguments=arguments
        )
        return done

    def fetch(name: str, done: dict[str, Any]) -> bytes:
        content = board.call("fetch_result", name=name)
        if content is None:
            raise BoardError(f"{board.host}: {done['last'] or 'it wrote no ' + name}")
        return base64.b64decode(content)

    done = call("doctor", "--job", "board", "--json", "doctor.json")
    findings = tuple(json.loads(fetch("doctor.json", done))["findings"])
    targets = [f"--target={target.name}" for target in _targets(what.fitting)]
    # By name, because a C file is run only where it is named.
    models = [f"../releases/{what.bundle.id}/exported/{name}" for name in what.bundle.models]
    done = call("verify", *models, *targets, "--json", "verify.json", "--logits", "logits.npz")
    verified = BenchRun.from_json(json.loads(fetch("verify.json", done)))
    with np.load(io.BytesIO(fetch("logits.npz", done)), allow_pickle=False) as arrays:
        answers = dict(arrays)
    found = dataclasses.replace(verified, git_commit=BenchRun.of_this_machine().git_commit)
    good = _verdict(found.parity) != "fail"
    if good:
        sizes = ",".join(map(str, batch_sizes))
        asked = (f"--batch-size={sizes}", f"--max-time={max_time_s:g}",
                 f"--min-time={_min_time_s(max_time_s):g}")  # fmt: skip
        done = call("bench", *models, *targets, *asked, "--json", "bench.json")
        timed = BenchRun.from_json(json.loads(fetch("bench.json", done)))
        found = dataclasses.replace(
            timed, parity=found.parity, skipped=found.skipped, git_commit=found.git_commit
        )
    say("The same on this machine")
    with measuring_alone():
        here, ours = _here(what, batch_sizes, max_time_s, progress_bar)
    kept = found.default_path(results)
    found.save(kept)
    command = board.call("activate", **what.place)["command"] if good else None
    differences = tuple(_differences(what.artifacts, answers, ours, found, here))
    return Outcome(found, here, differences, findings, kept, command)


def _verdict(parity: Sequence[ParityReport]) -> str:
    """Return the worst verdict; "fail" where there is none."""
    verdicts = {one.verdict for one in parity} or {"fail"}
    return next(one for one in ("fail", "inconclusive", "pass") if one in verdicts)


def _min_time_s(max_time_s: float) -> float:
    return min(0.3, max_time_s)


def _send(board: SshConnection, what: Deployment, progress_bar: ProgressBar) -> None:
    """Send what the board does not have."""
    files, wheels = what.bundle.hashes, what.fitting.hashes
    missing = set(board.call("list_missing", **what.place, files=files, wheels=wheels))
    of_bundle = {h: what.bundle.files[name] for name, h in files.items() if h in missing}
    of_wheels = {wheels[path.name]: path for path in what.fitting.wheels}
    of_wheels = {h: path for h, path in of_wheels.items() if h in missing}
    if not missing:
        return
    with progress_bar("Send", len(of_wheels) + bool(of_bundle)) as step:
        for sha256, path in of_wheels.items():
            board.call("store_file", path.read_bytes(), sha256=sha256)
            step(f"{path.name.split('-')[0]}, {path.stat().st_size / 1e6:.1f} MB")
        for sha256, content in of_bundle.items():
            board.call("store_file", content, sha256=sha256)
        if of_bundle:
            size = sum(map(len, of_bundle.values()))
            step(f"{len(of_bundle)} files of the bundle, {size / 1e6:.1f} MB")


def _check_room(host: str, facts: dict[str, Any], made: bundle.Bundle, fitting: Fitting) -> None:
    """Make sure that all of it fits, before anything is written.

    Raises:
        BoardError: it does not.
    """
    # Each file lies there twice while it is unpacked.
    needed = _SPARE_BYTES + 2 * sum(map(len, made.files.values()))
    if fitting.id not in facts["environments"]:
        needed += sum(2 * path.stat().st_size + _unpacked(path) for path in fitting.wheels)
    if facts["in_use"] != {"release": made.id, "environment": fitting.id} and (
        needed > facts["free_bytes"]
    ):
        raise BoardError(
            f"{host}: {needed / 1e6:,.0f} MB are needed and {facts['free_bytes'] / 1e6:,.0f} MB are"
            " free; make room there"
        )


def _unpacked(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(one.file_size for one in archive.infolist())


def _here(
    what: Deployment, batch_sizes: tuple[int, ...], max_time_s: float, progress_bar: ProgressBar
) -> tuple[BenchRun, dict[str, Logits]]:
    """Verify and time the same pairs on this machine, as far as it has the runtimes."""
    pairs = [one for one in what.pairs if absence(one.target) is None]
    answers: dict[str, Logits] = {}

    def keep(report: ParityReport, expected: object, logits: Logits) -> None:
        answers[f"{report.candidate} on {report.target}"] = logits

    with progress_bar("Verify", len(pairs)) as step:
        parity, skipped = verify(pairs, report=step, on_report=keep)
    gone = {(one.artifact, one.target) for one in skipped}
    pairs = [one for one in pairs if (one.artifact.name, one.target.name) not in gone]
    planned = plan.Plan(
        plan.expand(pairs, batch_sizes), stop=StopRule(_min_time_s(max_time_s), max_time_s)
    )
    with progress_bar("Bench", len(planned.steps())) as step:
        timed = run_plan(planned, report=step, skipped=tuple(skipped))
    return dataclasses.replace(timed, parity=tuple(parity)), answers


def _differences(
    artifacts: Sequence[Artifact],
    theirs: Mapping[str, Logits],
    ours: Mapping[str, Logits],
    board: BenchRun,
    here: BenchRun,
) -> Iterator[Difference]:
    versions = [
        {(m.artifact, m.target): m.runtime_version for m in run.measurements}
        for run in (board, here)
    ]
    scales = {one.name: one.outputs[0].scale for one in artifacts}
    for name in theirs.keys() & ours.keys():
        candidate, target = name.split(" on ")
        by = np.abs(theirs[name] - ours[name])
        scale = scales[candidate]
        known = [of.get((candidate, target)) for of in versions]
        yield Difference(
            candidate,
            target,
            by.size,
            int(np.count_nonzero(by)),
            float(by.max()),
            round(float(by.max()) / scale) if scale else None,
            (known[0], known[1]) if known[0] and known[1] else None,
        )
