"""Carry out a deployment: send, install, verify and measure on the board and on this machine."""

from __future__ import annotations

import dataclasses
import getpass
import io
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench import plan as bench_plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.deploy.bundle import file_mode
from lenet_edge.deploy.replies import MAX_CONTENT_BYTES, CommandResult, clean_text
from lenet_edge.deploy.ssh import SshConnection
from lenet_edge.doctor.finding import Finding
from lenet_edge.errors import BoardError
from lenet_edge.flows.console import Console, megabytes_bar
from lenet_edge.flows.deployment_plan import DeploymentPlan
from lenet_edge.results.parity_report import worst_verdict
from lenet_edge.results.result_file import BenchRun, ParityReport, parse_runs
from lenet_edge.runtimes import absence
from lenet_edge.support.npz import read_arrays
from lenet_edge.support.typed_json import check_types
from lenet_edge.target import Logits
from lenet_edge.verify.verify import verify


@dataclass(frozen=True)
class OutputDifference:
    """The difference between the outputs of one file on a board and on this machine.

    Attributes:
        candidate: the name of the file.
        target: the name of the target.
        outputs: number of outputs.
        differing: number of outputs that differ.
        max_abs: the largest absolute difference.
        steps: the largest difference in quantization steps; None for float outputs.
        versions: the versions of the runtime on the board and on this machine.
    """

    candidate: str
    target: str
    outputs: int
    differing: int
    max_abs: float
    steps: int | None
    versions: tuple[str, str] | None = None

    def __str__(self) -> str:
        pair = f"{self.candidate} on {self.target}"
        if not self.differing:
            return f"{pair}: all {self.outputs:,} outputs equal those of this machine, bit for bit"
        amount = f"{self.steps} quantization steps" if self.steps else f"{self.max_abs:.1g}"
        cause = (
            f"the board has version {self.versions[0]}, this machine {self.versions[1]}"
            if self.versions and self.versions[0] != self.versions[1]
            else "the kernels for another processor add in another order"
        )
        return (
            f"{pair}: {self.differing:,} of {self.outputs:,} outputs differ from those of this"
            f" machine, by at most {amount}: {cause}"
        )


@dataclass(frozen=True)
class DeploymentResult:
    """The result of a deployment.

    Attributes:
        board: parity reports and measurements of the board.
        local: those of the same files on the same targets of this machine.
        differences: the differences between the outputs.
        findings: the findings of `doctor` on the board.
        result_file: the saved result file of the board.
        command: the command to call on the board; None if a file failed.
    """

    board: BenchRun
    local: BenchRun
    differences: tuple[OutputDifference, ...]
    findings: tuple[dict[str, Any], ...]
    result_file: Path
    command: str | None

    @property
    def verdict(self) -> str:
        """The worst verdict on the board: "fail", also if a pair did not run, or "inconclusive"."""
        return _worst_verdict(self.board)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "results": self.board.to_json(),
            "here": self.local.to_json(),
            "differences": [dataclasses.asdict(difference) for difference in self.differences],
            "findings": self.findings,
            "kept": str(self.result_file),
            "command": self.command,
        }


def deploy(
    board: SshConnection,
    plan: DeploymentPlan,
    batch_sizes: tuple[int, ...],
    max_time_s: float,
    results: Path,
    console: Console,
) -> DeploymentResult:
    """Send a plan to a board, install it, run doctor, verify and bench, and put it to use.

    If a file fails, the board does not bench and keeps its current release.

    Args:
        board: the connection to the board.
        plan: the plan for this board.
        batch_sizes: the batch sizes to measure.
        max_time_s: the maximum sampling time of each cell, in seconds.
        results: the folder for the result file.
        console: the display of progress.

    Raises:
        BoardError: a step failed on the board.
    """
    board.call("lock_board", None, user=f"{_user_name()}@{socket.gethostname()}")
    _send(board, plan, console)
    console.note("Installing")
    files = plan.bundle.hashes
    executable = [name for name in files if file_mode(name) & 0o111]
    board.call("unpack_release", None, release=plan.bundle.id, files=files, executable=executable)
    packages = len(plan.wheels.wheels) - 1  # pip itself is not installed
    with console.progress_bar("Install", packages) as step:
        board.call("create_environment", None, report=step, **plan.ids, wheels=plan.wheels.hashes)

    # The board measures a file with a fixed batch at that batch.
    fixed = (pair.artifact.batch_size for pair in plan.pairs)
    batch_sizes = tuple(dict.fromkeys((*batch_sizes, *(size for size in fixed if size))))
    run, findings, board_logits = _measure_on_board(board, plan, batch_sizes, max_time_s, console)
    console.note("The same on this machine")
    with console.measuring_alone():
        local, local_logits = _measure_locally(plan, batch_sizes, max_time_s, console)
    result_file = run.default_path(results)
    run.save(result_file)
    passed = _worst_verdict(run) != "fail"
    command = board.call("activate", dict[str, str], **plan.ids)["command"] if passed else None
    differences = tuple(_differences(plan.artifacts, board_logits, local_logits, run, local))
    return DeploymentResult(run, local, differences, findings, result_file, command)


def _user_name() -> str:
    """Return the name of this user, or the number of an account without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _send(board: SshConnection, plan: DeploymentPlan, console: Console) -> None:
    """Send the files and wheels that the board does not have."""
    files, wheels = plan.bundle.hashes, plan.wheels.hashes
    reply = board.call("list_missing", tuple[str, ...], **plan.ids, files=files, wheels=wheels)
    missing = set(reply)
    if not missing:
        return
    missing_files = {
        sha256: plan.bundle.files[name] for name, sha256 in files.items() if sha256 in missing
    }
    missing_wheels = {
        wheels[path.name]: path for path in plan.wheels.wheels if wheels[path.name] in missing
    }
    size_bytes = sum(map(len, missing_files.values()))
    size_bytes += sum(path.stat().st_size for path in missing_wheels.values())
    with megabytes_bar(console, "Send", size_bytes) as count:

        def send(sha256: str, content: bytes, name: str) -> None:
            board.call(
                "store_file", None, content, on_sent=lambda sent: count(sent, name), sha256=sha256
            )

        for sha256, path in missing_wheels.items():
            send(sha256, path.read_bytes(), path.name.split("-")[0])
        for sha256, content in missing_files.items():
            send(sha256, content, "the files of the bundle")


def _measure_on_board(
    board: SshConnection,
    plan: DeploymentPlan,
    batch_sizes: tuple[int, ...],
    max_time_s: float,
    console: Console,
) -> tuple[BenchRun, tuple[dict[str, Any], ...], dict[str, Logits]]:
    """Run doctor, verify and bench on the board.

    Returns:
        The parity reports and measurements, the findings of doctor, and the logits of each pair
        by its name "FILE on TARGET".
    """

    def call(*arguments: str) -> CommandResult:
        console.note(f"On the board: lenet-edge {' '.join(arguments)}")
        done: CommandResult = board.call(
            "run_command", CommandResult, report=console.note, **plan.ids, arguments=arguments
        )
        return done

    def fetch(name: str, done: CommandResult) -> bytes:
        content: bytes | None = board.call("fetch_result", bytes | None, name=name)
        if content is None:
            cause = clean_text(done.last) or f"the command did not write {name}"
            raise BoardError(f"{board.host}: {cause}")
        return content

    def fetch_run(name: str, done: CommandResult) -> BenchRun:
        file = io.BufferedReader(io.BytesIO(fetch(name, done)))
        runs = parse_runs(file, f"{board.host}: {name}")
        if len(runs) != 1:
            raise BoardError(f"{board.host}: {name} holds the runs of {len(runs)} boards")
        return runs[0]

    done = call("doctor", "--job", "board", "--json", "doctor.json")
    findings = _read_findings(board.host, fetch("doctor.json", done))
    targets = [f"--target={target.name}" for target in plan.targets]
    # Name each file, because the commands leave out C files that are not named.
    models = [f"../releases/{plan.bundle.id}/exported/{name}" for name in plan.bundle.models]
    done = call("verify", *models, *targets, "--json", "verify.json", "--logits", "logits.npz")
    verified = fetch_run("verify.json", done)
    try:
        logits = read_arrays(io.BytesIO(fetch("logits.npz", done)), MAX_CONTENT_BYTES)
    except ValueError as error:
        raise BoardError(f"{board.host}: logits.npz is damaged ({error}); try again") from error
    run = dataclasses.replace(verified, git_commit=BenchRun.of_this_machine().git_commit)
    run = _without_unreadable(run, plan)
    if _worst_verdict(run) != "fail":
        sizes = ",".join(map(str, batch_sizes))
        options = (f"--batch-size={sizes}", f"--max-time={max_time_s:g}",
                   f"--min-time={_min_time_s(max_time_s):g}")  # fmt: skip
        done = call("bench", *models, *targets, *options, "--json", "bench.json")
        measured = fetch_run("bench.json", done)
        run = dataclasses.replace(
            measured, parity=run.parity, skipped=run.skipped, git_commit=run.git_commit
        )
    return run, findings, logits


def _read_findings(host: str, content: bytes) -> tuple[dict[str, Any], ...]:
    """Return the findings in the JSON of `doctor`.

    Raises:
        BoardError: the JSON is not that of `doctor`.
    """
    try:
        findings = tuple(Finding(**facts) for facts in json.loads(content)["findings"])
        check_types(findings, tuple[Finding, ...], "findings")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        cause = clean_text(" ".join(str(error).split()))
        raise BoardError(f"{host}: doctor.json is damaged ({cause}); try again") from error
    return tuple(map(dataclasses.asdict, findings))


def _measure_locally(
    plan: DeploymentPlan, batch_sizes: tuple[int, ...], max_time_s: float, console: Console
) -> tuple[BenchRun, dict[str, Logits]]:
    """Verify and bench the same pairs on this machine, if it has their runtimes."""
    pairs = [pair for pair in plan.pairs if absence(pair.target) is None]
    logits_of: dict[str, Logits] = {}

    def keep(report: ParityReport, expected: object, logits: Logits) -> None:
        logits_of[f"{report.candidate} on {report.target}"] = logits

    with console.progress_bar("Verify", len(pairs)) as step:
        parity, skipped = verify(pairs, on_progress=step, on_report=keep)
    skipped_names = {(pair.artifact, pair.target) for pair in skipped}
    pairs = [pair for pair in pairs if (pair.artifact.name, pair.target.name) not in skipped_names]
    cells = bench_plan.expand(pairs, batch_sizes)
    rule = StopRule(_min_time_s(max_time_s), max_time_s)
    local_plan = bench_plan.Plan(cells, stop=rule)
    with console.progress_bar("Bench", len(local_plan.steps())) as step:
        run = run_plan(local_plan, step, skipped=tuple(skipped), extend=step.extend)
    return dataclasses.replace(run, parity=tuple(parity)), logits_of


def _without_unreadable(run: BenchRun, plan: DeploymentPlan) -> BenchRun:
    """Return a run without the skipped pairs that the plan does not have.

    If a board has two runtimes, one of them may not read a file of the other.
    """
    planned = {(pair.artifact.name, pair.target.name) for pair in plan.pairs}
    skipped = (
        skip
        for skip in run.skipped
        if skip.artifact is None or (skip.artifact, skip.target) in planned
    )
    return dataclasses.replace(run, skipped=tuple(skipped))


def _worst_verdict(run: BenchRun) -> str:
    """Return the worst verdict; "fail" without a report, and if a pair did not run."""
    verdicts = {report.verdict for report in run.parity}
    if not verdicts or any(skip.artifact for skip in run.skipped):
        return "fail"
    return worst_verdict(verdicts)


def _min_time_s(max_time_s: float) -> float:
    return min(0.3, max_time_s)


def _differences(
    artifacts: Sequence[Artifact],
    board_logits: Mapping[str, Logits],
    local_logits: Mapping[str, Logits],
    board: BenchRun,
    local: BenchRun,
) -> Iterator[OutputDifference]:
    """Compare the logits of each pair that ran on the board and on this machine."""
    board_versions, local_versions = (
        {(m.artifact, m.target): m.runtime_version for m in run.measurements}
        for run in (board, local)
    )
    scales = {artifact.name: artifact.outputs[0].scale for artifact in artifacts}
    for name in board_logits.keys() & local_logits.keys():
        if board_logits[name].shape != local_logits[name].shape or not np.issubdtype(
            board_logits[name].dtype, np.floating
        ):
            raise BoardError(f"the board's logits of {name} have another shape or type")
        candidate, target = name.split(" on ")
        difference = np.abs(board_logits[name] - local_logits[name])
        largest, scale = float(difference.max()), scales[candidate]
        versions = board_versions.get((candidate, target)), local_versions.get((candidate, target))
        yield OutputDifference(
            candidate,
            target,
            difference.size,
            int(np.count_nonzero(difference)),
            largest,
            round(largest / scale) if scale else None,
            (versions[0], versions[1]) if versions[0] and versions[1] else None,
        )
