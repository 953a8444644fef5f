"""Tests of deployments to emulated boards: new ones with only Python and sshd, and faulty ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.artifacts.reference import Reference
from lenet_edge.data import mnist
from lenet_edge.results.result_file import BenchRun
from tests.boards.emulated_board import EmulatedBoard, start_board
from tests.boards.userland import USERLANDS
from tests.conftest import LenetEdge
from tests.current_folder import fill

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "exported"
DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
INT8, DYNAMIC = EXPORTED / "lenet_int8.tflite", EXPORTED / "lenet_dynamic.tflite"
SHORT = ("--batch-size", "1", "--max-time", "0.1")
STATE = "home/pi/.local"


def command(board: EmulatedBoard, *arguments: str | Path, user: str = "pi") -> list[str]:
    """Return the command that deploys to a board, with the options that ssh needs."""
    options = {
        "Port": board.port, "IdentityFile": board.key, "IdentitiesOnly": "yes",
        "UserKnownHostsFile": board.known_hosts, "StrictHostKeyChecking": "yes",
    }  # fmt: skip
    ssh_options = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    return [
        sys.executable, "-m", "lenet_edge", "deploy", f"{user}@127.0.0.1", *ssh_options,
        *map(str, arguments),
    ]  # fmt: skip


def deploy(
    board: EmulatedBoard, folder: Path, *arguments: str | Path, user: str = "pi"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(board, *arguments, user=user),
        cwd=folder, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip


@contextlib.contextmanager
def deploying(board: EmulatedBoard, folder: Path, *arguments: str | Path) -> Iterator[Any]:
    """Start a deployment and yield its process; kill it after the block."""
    process = subprocess.Popen(
        command(board, *arguments), cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(process: Any, text: str) -> None:
    """Wait until a deployment prints a text to standard error."""
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the deployment never printed {text!r}")


def error_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("Error")]
    return line


def is_usable(board: EmulatedBoard) -> bool:
    """Return whether the board has the lenet-edge command."""
    share = board.root / STATE / "share/lenet-edge"
    return (share / "lenet-edge").exists() or (board.root / STATE / "bin").exists()


def copy_with_1000_images(file: Path, folder: Path) -> Path:
    """Copy a model file, with predictions for the first 1,000 images: all take 10 to 30 s."""
    for path in (file, Path(f"{file}.json")):
        shutil.copy(path, folder)
    (recorded,) = EXPORTED.glob("reference-*.npz")
    reference, digits = Reference.load(recorded), mnist.load("test").subset(slice(1000))
    dataclasses.replace(
        reference, logits=reference.logits[:1000], images=digits.images, labels=digits.labels
    ).save(folder / recorded.name)
    return folder / file.name


@pytest.mark.slow
def test_repeating_an_interrupted_deployment_completes_it(tmp_path: Path) -> None:
    """The board is new. It then predicts all 10,000 images with LiteRT.

    Its home folder, where ssh starts programs, is full of code that must not run.
    """
    with start_board(USERLANDS["bookworm-arm64"], "pi4", throttled="0x50005") as board:
        home = board.root / "home/pi"
        (home / "marks").mkdir()
        os.chown(home / "marks", home.stat().st_uid, home.stat().st_gid)
        fill(home, home / "marks", Path("/home/pi/marks"))
        trapped = board.ssh("python3", "-c", "import json")
        assert "code of the current folder" in trapped.stderr
        (home / "marks" / "json").unlink()
        hostile = {*home.rglob("*")}
        files = (INT8, DYNAMIC, *SHORT)
        with deploying(board, tmp_path, *files) as process:
            wait_for(process, "Send (MB) 1/")
            os.kill(process.pid, signal.SIGKILL)
        assert not is_usable(board)

        with deploying(board, tmp_path, *files) as process:  # the connection is cut
            wait_for(process, "Installing")
            time.sleep(3)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                if "ssh" in Path(f"/proc/{child}/comm").read_text():
                    os.kill(int(child), signal.SIGKILL)
            stderr = process.stderr.read()
            assert process.wait(60) == 1
            assert "the connection was lost" in stderr
            assert "Traceback" not in stderr
        assert not is_usable(board)

        done = deploy(board, tmp_path, *files, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
        assert "lenet-edge predict IMAGE" in done.stderr
        for step in ("Install 1/", "Bench 1/"):
            assert f"\n{step}" in done.stderr
        facts = json.loads((tmp_path / "facts.json").read_text())
        reports = {report["candidate"]: report for report in facts["results"]["parity"]}
        assert set(reports) == {INT8.name, DYNAMIC.name}
        for report in reports.values():
            assert (report["verdict"], report["num_samples"]) == ("pass", 10_000)
            assert report["target"] == "litert-xnnpack"
        differences = {entry["candidate"]: entry for entry in facts["differences"]}
        assert differences[INT8.name]["differing"] == 0
        assert differences[DYNAMIC.name]["max_abs"] < 1e-4
        assert "all 100,000 outputs equal those of this machine" in " ".join(done.stdout.split())

        run = BenchRun.load(tmp_path / facts["kept"])
        assert run.environment.machine == "Raspberry Pi 4 Model B Rev 1.4"
        assert run.environment.emulated
        assert facts["kept"].startswith("benchmarks/results/raspberry-pi-4-model-b-rev-1-4-emul")
        for measurement in run.measurements:
            assert "under-voltage" in (measurement.invalid or "")
            assert "power supply" in (measurement.invalid or "")
        assert "emulated" in done.stdout
        assert "tensorflow" not in run.environment.packages

        repeated = deploy(board, tmp_path, *files)
        assert (repeated.returncode, repeated.stdout) == (
            0, "pi@127.0.0.1: up to date; --again measures it again\n",
        )  # fmt: skip
        photo = board.root / "home/pi/seven.jpg"
        photo.write_bytes(DIGIT.read_bytes())
        predicted = board.ssh(".local/bin/lenet-edge", "predict", "seven.jpg")
        assert predicted.stdout.split()[1] == "7", predicted.stderr
        photo_of_camera = board.ssh(".local/bin/lenet-edge", "predict", "--camera")
        assert "picamera2 is not installed" in photo_of_camera.stderr
        service = deploy(board, tmp_path, *files, "--service")
        assert service.returncode == 1
        assert "--service needs systemd" in service.stderr

        removed = deploy(board, tmp_path, "--uninstall")
        assert removed.returncode == 0, removed.stderr
        remaining = [p for p in {*home.rglob("*")} - hostile if p.is_file() or p.is_symlink()]
        assert remaining == [photo]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("userland", "model", "options", "file", "target"),
    [
        ("bookworm-arm64", "zero2w", ["--runtime", "onnx"], "lenet_float32.onnx",
         "onnxruntime-cpu"),
        ("bookworm-arm64", "pi4", ["--runtime", "native"], "lenet_native_float32.c", "native-cpu"),
        ("trixie-arm64", "pi5", [], "lenet_int8.tflite", "litert-xnnpack"),
        ("bookworm-armhf", "pi4", [], "lenet_int8.tflite", "tflite-runtime-cpu"),
    ],
)  # fmt: skip
def test_other_systems_and_runtimes(
    tmp_path: Path, userland: str, model: str, options: list[str], file: str, target: str
) -> None:
    path = copy_with_1000_images(EXPORTED / file, tmp_path)
    with start_board(USERLANDS[userland], model) as board:
        done = deploy(board, tmp_path, path, *options, *SHORT, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / "facts.json").read_text())
        (report,) = facts["results"]["parity"]
        assert (report["verdict"], report["num_samples"]) == ("pass", 1000)
        assert report["target"] == target
        assert facts["results"]["environment"]["emulated"]
        (difference,) = facts["differences"]
        if file.endswith("int8.tflite") and target == "litert-xnnpack":
            assert difference["differing"] == 0
        assert difference["max_abs"] < (1e-4 if "float32" in file else 1.0)


@pytest.mark.slow
def test_32_bit_boards_with_current_python_get_ncnn(tmp_path: Path) -> None:
    """No other runtime has a wheel for them, and the user names none."""
    pytest.importorskip("ncnn")
    from lenet_edge.export.exporter import export

    digits = dataclasses.replace(mnist.load("test").subset(slice(1000)), name="1000 digits")
    (artifact,) = export(
        EXPORTED / "lenet.keras", tmp_path, mnist.load("train"), digits, ("ncnn",), ("int8",)
    )
    with start_board(USERLANDS["trixie-armhf"], "pi4") as board:
        done = deploy(board, tmp_path, artifact.path, *SHORT, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / "facts.json").read_text())
        (report,) = facts["results"]["parity"]
        assert (report["target"], report["verdict"]) == ("ncnn-cpu", "pass")
        assert facts["results"]["environment"]["architecture"] == "armv7l"
        (difference,) = facts["differences"]
        assert (difference["outputs"], difference["differing"]) == (10_000, 0)


@pytest.mark.slow
def test_full_disk_leaves_the_board_unchanged(tmp_path: Path) -> None:
    with start_board(USERLANDS["bookworm-arm64"], "pi4", home="size=400m") as board:
        filler = board.root / "home/pi/filler"
        with deploying(board, tmp_path, INT8, *SHORT) as process:
            wait_for(process, "Send (MB) 1/")
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while file.write(b"\0" * 100_000):
                    file.flush()
            stderr = process.stderr.read()
            assert process.wait(120) == 1
        assert "No space left on device" in error_line(stderr)
        assert not (board.root / STATE / "share/lenet-edge").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("userland", "board_options", "options", "message"),
    [
        ("bookworm-arm64", {"home": "ro"}, [], "/home/pi is read-only"),
        ("bookworm-arm64", {"clock": "-10y"}, [], "days behind; set it on the board: sudo date -s"),
        ("bookworm-arm64", {"home": "size=20m"}, [], "MB are free; delete files on the board"),
        ("bullseye-arm64", {}, [], "Python 3.9 is too old: lenet-edge needs 3.10"),
        ("trixie-arm64", {}, ["--runtime", "tflite"], "tflite-runtime has no wheel for aarch64"),
        ("bookworm-arm64", {}, ["--python", "python9"], "no such Python"),
        ("bookworm-arm64", {}, ["other client key"], "does not accept your key"),
        ("bookworm-arm64", {}, ["other host key"], "its host key has changed"),
    ],
)
def test_unsuitable_board_is_reported_in_one_line(
    tmp_path: Path,
    userland: str,
    board_options: dict[str, str],
    options: list[str],
    message: str,
) -> None:
    with start_board(USERLANDS[userland], "pi4", **board_options) as board:  # type: ignore[arg-type]
        if options == ["other client key"]:
            board.key.write_text("")
        if options == ["other host key"]:
            other = board.key.with_suffix(".pub").read_text()
            board.known_hosts.write_text(f"[127.0.0.1]:{board.port} {other}")
        command_options = [option for option in options if not option.startswith("other")]
        done = deploy(board, tmp_path, INT8, *command_options)
        assert done.returncode == 1
        assert message in error_line(done.stderr)
        assert "Traceback" not in done.stderr
        assert not list((board.root / "home/pi").iterdir())


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody.invalid"], "no such host"),
        (["pi@127.0.0.1", "-o", "Port=1"], "it refuses the port"),
        (["--", "-oProxyCommand=touch owned"], "is not a host"),
        (["pi@127.0.0.1", "-o", "NoSuchOption=1"], "ssh does not accept an option"),
    ],
)
def test_unreachable_host_is_reported(
    lenet_edge: LenetEdge, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = lenet_edge("deploy", "--dry-run", *arguments, INT8)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
