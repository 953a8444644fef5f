"""The table of exit statuses in docs/gate-your-ci.md, and the job that they drive."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import Reference
from lenet_edge.data import mnist
from lenet_edge.flows.fleet_session import Choice
from lenet_edge.flows.verify import find_unverified, verdict
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.runtimes import all_targets
from tests.conftest import LenetEdge
from tests.report.test_page import RECORDED
from tests.test_docs import ROOT, TEXTS

PAGE = TEXTS["gate-your-ci.md"]
RESULTS = RECORDED[0]
FILE = "lenet_int8.tflite"
ON_LITERT = (FILE, "--target", "litert")
PACKAGES = {t.package.split(".")[0] for t in all_targets() if "tflite" in t.formats and t.package}


def few_images(folder: Path, count: int) -> None:
    """Copy the int8 file, and compare it with the float model on its first images."""
    for name in (FILE, f"{FILE}.json"):
        shutil.copy(ROOT / "exported" / name, folder)
    (path,) = (ROOT / "exported").glob("reference-*.npz")
    whole, test = Reference.load(path), mnist.load("test")
    parts = whole.logits[:count], test.images[:count], test.labels[:count]
    Reference(whole.checkpoint_sha256, "few digits", *parts).save(folder / path.name)


def changed_results(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    facts = json.loads(RESULTS.read_text())
    change(facts)
    (folder / "changed.json").write_text(json.dumps(facts))
    return folder / "changed.json"


def without_runtimes(patch: pytest.MonkeyPatch) -> None:
    """Let this process find no package that runs .tflite files."""
    for package in PACKAGES:
        patch.setitem(sys.modules, package, None)


@dataclasses.dataclass
class RowCommands:
    """Commands that end with the statuses of the table.

    Attributes:
        run: runs lenet-edge in the folder.
        folder: an empty folder.
        patch: changes that are reverted.
    """

    run: LenetEdge
    folder: Path
    patch: pytest.MonkeyPatch

    def done(self) -> Any:
        return self.run("report", RESULTS, "--output", "report.md")

    def error(self) -> Any:
        return self.run("report", "none.json")

    def usage(self) -> Any:
        return self.run("report", "--max-latency", "soon")

    def interrupted(self) -> Any:
        os.mkfifo(self.folder / "results.json")
        command = [sys.executable, "-m", "lenet_edge", "report", "results.json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=self.folder, text=True, **pipes)  # type: ignore[call-overload]
        with (self.folder / "results.json").open("w") as writer:  # returns once it is read
            writer.write("{")
            writer.flush()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, *output)

    def missing_runtime(self, command: str) -> Any:
        few_images(self.folder, 30)
        without_runtimes(self.patch)
        done = self.run(command, FILE)
        assert "install it with: pip install ai-edge-litert" in done.stderr
        return done

    def unreadable_image(self) -> Any:
        few_images(self.folder, 30)
        (self.folder / "image.png").write_text("none")
        return self.run("predict", "image.png", "--model", FILE)

    def other_wheels(self) -> Any:
        def download(system: object, requirements: object, folder: Path, *more: object) -> None:
            folder.mkdir()
            (folder / "numpy-2-py3-none-any.whl").write_bytes(b"whole")

        self.patch.setenv("XDG_CACHE_HOME", str(self.folder))
        self.patch.setattr("lenet_edge.deploy.wheels._download", download)
        few_images(self.folder, 30)
        wheels = ("--wheels", "bookworm-amd64", "--runtime", "native")
        return self.run("bundle", ROOT / "exported" / "lenet_native_int8.c", FILE, *wheels)

    def failed_file(self) -> Any:
        few_images(self.folder, 400)
        return self.run("verify", *ON_LITERT, "--max-abs-error", "1e-9")

    def too_few_images(self) -> Any:
        few_images(self.folder, 30)
        return self.run("verify", *ON_LITERT)

    def slower(self) -> Any:
        def fail(facts: dict[str, Any]) -> None:
            for report in facts["parity"]:
                report["verdict"] = "fail"

        return self.run("compare", RESULTS, changed_results(self.folder, fail))

    def nothing_fits(self) -> Any:
        return self.run("report", RESULTS, "--max-bytes", "9", "--output", "report.md")

    def nothing_verified(self) -> Any:
        path = changed_results(self.folder, lambda facts: facts.update(parity=[]))
        return self.run("report", path, "--output", "report.md")

    def too_large(self) -> Any:
        self.patch.setenv("PATH", str(self.folder))  # without a compiler, the size is estimated
        file = ROOT / "exported" / "lenet_native_float32.c"
        return self.run("inspect", file, "--board", "microbit-v1")


# The command for each row, or the file of the test that has one.
ROWS: dict[tuple[str, str], Callable[[RowCommands], Any] | str] = {
    ("0", "all"): RowCommands.done,
    ("1", "all"): RowCommands.error,
    ("1", "verify"): lambda commands: commands.missing_runtime("verify"),
    ("1", "bench"): lambda commands: commands.missing_runtime("bench"),
    ("1", "deploy"): "tests/deploy/test_local_board.py",
    ("1", "bundle"): RowCommands.other_wheels,
    ("1", "predict"): RowCommands.unreadable_image,
    ("2", "all"): RowCommands.usage,
    ("3", "verify"): RowCommands.failed_file,
    ("3", "compare"): RowCommands.slower,
    ("3", "report"): RowCommands.nothing_fits,
    ("3", "run"): "tests/flows/test_run.py",
    ("3", "deploy"): "tests/deploy/test_local_board.py",
    ("3", "inspect"): RowCommands.too_large,
    ("3", "doctor"): "tests/test_board.py",
    ("3", "fleet up"): "tests/fleet/test_up.py",
    ("3", "fleet status"): "tests/fleet/test_up.py",
    ("4", "verify"): RowCommands.too_few_images,
    ("4", "deploy"): "tests/deploy/test_local_board.py",
    ("4", "report"): RowCommands.nothing_verified,
    ("4", "run"): "tests/flows/test_run.py",
    ("130", "all"): RowCommands.interrupted,
}


def rows() -> list[tuple[str, str]]:
    table = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    return [
        (status, command.strip("` "))
        for status, commands in table
        for command in commands.split(",")
    ]


def test_each_row_of_the_table_has_a_test() -> None:
    assert sorted(rows()) == sorted(ROWS)
    for (status, _), test in ROWS.items():
        if isinstance(test, str):
            assert re.search(rf"returncode == {status}\b", (ROOT / test).read_text()), test


@pytest.mark.parametrize("row", [row for row, test in ROWS.items() if callable(test)])
def test_a_row_of_the_table(
    row: tuple[str, str],
    lenet_edge_here: LenetEdge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_command = ROWS[row]
    assert callable(run_command)
    done = run_command(RowCommands(lenet_edge_here, tmp_path, monkeypatch))
    assert done.returncode == int(row[0]), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if row[0] in "12" and row[1] != "predict":
        assert sum(line.startswith("Error: ") for line in done.stderr.splitlines()) == 1


def test_a_file_that_was_left_out_is_named_after_the_results_of_the_others(
    lenet_edge_here: LenetEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_images(tmp_path, 400)
    other = "lenet_int8.onnx"
    for name in (other, f"{other}.json"):
        shutil.copy(ROOT / "exported" / name, tmp_path)
    bound = ("--max-accuracy-drop", "1")
    named = ("verify", *ON_LITERT, other, *bound, "--json", "out.json")
    done = lenet_edge_here(*named)
    assert done.returncode == 1
    assert f"Error: {other} was left out: litert runs no onnx files; name" in done.stderr
    (report,) = json.loads((tmp_path / "out.json").read_text())["parity"]
    assert (report["candidate"], report["verdict"]) == (FILE, "pass")
    assert lenet_edge_here(*named, "--max-abs-error", "1e-9").returncode == 3
    (tmp_path / "exported").symlink_to(tmp_path)
    for package in ("onnxruntime", "cv2", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    done = lenet_edge_here("verify", *bound, "--target", "litert", "--target", "onnxruntime")
    assert done.returncode == 1  # a target that was named
    assert "onnxruntime was left out: onnxruntime is not installed" in done.stderr
    assert (
        lenet_edge_here("verify", *bound, "--target", "litert").returncode == 0
    )  # no file was named


def test_a_file_from_elsewhere_needs_one_of_the_targets_that_nobody_named() -> None:
    own = load_artifact(ROOT / "exported" / FILE)
    foreign = dataclasses.replace(own, converter="unknown")
    run = BenchRun.load(RESULTS)
    passed = tuple(r for r in run.parity if r.candidate == FILE and r.target == "litert-xnnpack")
    refused = Skipped("tflite-micro", "it has no such operator", FILE)
    some = dataclasses.replace(run, parity=passed, skipped=(refused,))
    none = dataclasses.replace(some, parity=())
    for choice, verified, expected in (
        (Choice([foreign]), some, "pass"),
        (Choice([own]), some, "fail"),
        (Choice([foreign], ("litert", "tflite-micro")), some, "fail"),
        (Choice([foreign], ("tflite-micro",)), none, "fail"),
    ):
        left_out = find_unverified(verified, choice)
        assert left_out == {}
        assert verdict([verified], choice, left_out) == expected
    assert find_unverified(none, Choice([foreign])) == {FILE: "it has no such operator"}


OUTCOMES = {
    "pass": (0, ["verify passed", "bench passed", "compare passed", "report passed"]),
    "wrong file": (3, ["verify FAILED", "report FAILED"]),
    "too few images": (4, ["verify is undecided", "report is undecided"]),
    "slower": (3, ["verify passed", "compare FAILED", "report passed"]),
    "nothing to ship": (3, ["compare passed", "report FAILED"]),
    "missing runtime": (1, ["verify could not do its work"]),
    "no base": (1, ["bench passed", "compare could not do its work"]),
}


def scaled(run: BenchRun, factor: float) -> BenchRun:
    """Return a run of the same machine whose latencies are multiplied."""
    cells = [
        dataclasses.replace(cell, processes=tuple(
            dataclasses.replace(process, latencies_s=factor * process.latencies_s)
            for process in cell.processes
        ))
        for cell in run.measurements
    ]  # fmt: skip
    return dataclasses.replace(run, measurements=tuple(cells))


@pytest.mark.slow
def test_the_job_of_the_page_in_each_outcome(tmp_path: Path) -> None:
    """Its benchmarks are short: a wrapper adds the options."""
    (script,) = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "gate.sh").write_text(script)
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "lenet-edge"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = bench ] && set -- "$@" --rounds 1 --min-time 0.05 --max-time 0.1\n'
        f'exec {sys.executable} -m lenet_edge "$@"\n'
    )
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}

    def gate(outcome: str, *arguments: str | Path, **more: str) -> None:
        done = subprocess.run(
            ["bash", "../gate.sh", FILE, *map(str, arguments)], cwd=folder,
            env={**environment, **more}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        status, says = OUTCOMES.pop(outcome)
        assert done.returncode == status, (outcome, done.stdout, done.stderr)
        for line in says:
            assert f"gate: {line}" in done.stdout, (outcome, done.stdout)
        assert "Traceback" not in done.stderr

    folder = tmp_path / "job"
    folder.mkdir()
    few_images(folder, 1000)
    (folder / "pyproject.toml").write_text("[tool.lenet-edge]\nmax-accuracy-drop = 1\n")
    gate("no base", "base.json")
    base = BenchRun.load(folder / "new.json")
    scaled(base, 9).save(tmp_path / "slow.json")
    scaled(base, 0.1).save(tmp_path / "fast.json")
    gate("pass", tmp_path / "slow.json")
    assert (folder / "report.md").read_text().startswith("# Ship lenet")
    gate("slower", tmp_path / "fast.json")
    gate("nothing to ship", tmp_path / "slow.json", "--max-latency", "1us")
    (folder / "pyproject.toml").write_text("[tool.lenet-edge]\nmax-abs-error = 1e-9\n")
    gate("wrong file", tmp_path / "slow.json")
    few_images(folder, 30)
    (folder / "pyproject.toml").unlink()
    dataclasses.replace(scaled(base, 9), parity=()).save(tmp_path / "unverified.json")
    gate("too few images", tmp_path / "unverified.json")
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(
        f"import sys; sys.modules.update(dict.fromkeys({sorted(PACKAGES)!r}))"
    )
    path = f"{absent}:{os.environ.get('PYTHONPATH', '')}"
    gate("missing runtime", tmp_path / "slow.json", PYTHONPATH=path)
    assert not OUTCOMES
