"""Two commands at the same time take turns, and the second prints the holder of the lock."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.results.result_file import BenchRun
from lenet_edge.support import lock
from tests.reliability.jobs import EXPORTED, JOBS, hash_files

Arguments = Callable[[Path, int], Sequence[object]]
ARGUMENTS: dict[str, Arguments] = {job.name: job.arguments for job in JOBS}
WAITS = r"Waiting to {}: .* \(process {}\) has held the lock since \d\d:\d\d; Ctrl-C gives up"


@contextmanager
def started(folder: Path, arguments: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_held(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.005)


def both(
    folder: Path, path: Path, purpose: str, first: Sequence[object], second: Sequence[object]
) -> tuple[str, str]:
    """Start a command while another holds a lock, and return the output of each."""
    with started(folder, first) as holder:
        until_held(path, holder)
        with started(folder, second) as waiter:
            assert waiter.stderr
            line = waiter.stderr.readline()
            while not line.startswith("Waiting") and line:
                line = waiter.stderr.readline()
            assert re.fullmatch(WAITS.format(purpose, holder.pid), line.strip())
            outputs = []
            for process in (holder, waiter):
                output, errors = process.communicate(timeout=300)
                assert process.returncode == 0, errors
                outputs.append(output)
    assert not path.exists()
    return outputs[0], outputs[1]


def parents(folder: Path) -> set[str | None]:
    return {load_artifact(path).parent_sha256 for path in folder.iterdir()
            if path.suffix in (".tflite", ".onnx", ".c")}  # fmt: skip


@pytest.mark.slow
def test_two_exports_into_one_folder(inputs: Path, tmp_path: Path) -> None:
    """All files come from the checkpoint of the second command."""
    held = lock.folder_lock_path(tmp_path / "out")
    first, second = (ARGUMENTS["export"](inputs, which) for which in (0, 1))
    both(tmp_path, held, "write into out", first, second)
    checkpoint = load_artifact(inputs / "1" / "lenet.keras")
    assert parents(tmp_path / "out") == {checkpoint.sha256}
    assert load_artifact(tmp_path / "out" / "lenet.keras").sha256 == checkpoint.sha256


@pytest.mark.slow
def test_a_training_and_an_export_of_its_checkpoint(inputs: Path, tmp_path: Path) -> None:
    """The export uses the checkpoint that the training wrote, not the earlier checkpoint."""
    train = ARGUMENTS["train"](inputs, 0)
    with started(tmp_path, train) as earlier:
        earlier.communicate()
    old = load_artifact(tmp_path / "out" / "mine.keras")
    train = ARGUMENTS["train"](inputs, 1)
    export = ("export", "out/mine.keras", "--dataset", inputs / "some.npz", "--output-dir", "out")
    both(tmp_path, lock.folder_lock_path(tmp_path / "out"), "write into out", train, export)
    new = load_artifact(tmp_path / "out" / "mine.keras")
    assert new.sha256 != old.sha256
    assert parents(tmp_path / "out") == {new.sha256}
    hash_files(tmp_path / "out")


@pytest.mark.costly
def test_two_benches_measure_one_after_the_other(tmp_path: Path) -> None:
    """They wait for each other even if they write to different files."""
    common = (EXPORTED / "lenet_int8.tflite", "--target", "litert", "--batch-size", 1, "--rounds",
              1, "--min-time", 0.05, "--max-time", 0.1)  # fmt: skip
    first, second = (("bench", *common, "--json", f"{name}.json") for name in "ab")
    outputs = both(tmp_path, lock.machine_lock_path(), "measure alone", first, second)
    for name, output in zip("ab", outputs, strict=True):
        assert "litert-xnnpack" in output
        assert len(BenchRun.load(tmp_path / f"{name}.json").measurements) == 1


def test_ctrl_c_ends_the_wait(tmp_path: Path) -> None:
    held = lock.folder_lock_path(tmp_path / "out")
    arguments = ("export", EXPORTED / "lenet.keras", "--output-dir", "out")
    with lock.hold(held, "lenet-edge train"), started(tmp_path, arguments) as waiting:
        assert waiting.stderr
        line = waiting.stderr.readline()
        assert line.startswith("Waiting to write into out: lenet-edge train (process ")
        waiting.send_signal(signal.SIGINT)
        printed, errors = waiting.communicate(timeout=60)
        assert (waiting.returncode, printed) == (130, "")
        assert errors == "Stopped\n"
        assert held.exists()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.costly
def test_a_file_that_changes_during_a_bench_is_not_measured_further(tmp_path: Path) -> None:
    path, arguments = tmp_path / "lenet_int8.tflite", ("--target", "litert", "--json", "b.json")
    for name in (path.name, f"{path.name}.json"):
        (tmp_path / name).write_bytes((EXPORTED / name).read_bytes())
    more = ("--batch-size", "1,8", "--rounds", 3, "--min-time", 0.05, "--max-time", 0.1)
    with started(tmp_path, ("bench", path.name, *arguments, *more)) as bench:
        assert bench.stderr
        while not (line := bench.stderr.readline()).startswith("Bench 1/6"):
            assert line
        path.write_bytes((EXPORTED / "lenet_dynamic.tflite").read_bytes())
        rest = threading.Thread(target=bench.communicate)
        rest.start()
        rest.join(120)
    run = BenchRun.load(tmp_path / "b.json")
    assert {skipped.reason for skipped in run.skipped if skipped.artifact} == {
        f"{path.name} has changed since it was read; start again"
    }
    assert all(len(cell.processes) < 3 and cell.invalid for cell in run.measurements)
