"""Deploying to emulated boards: fresh ones with nothing but Python and sshd, and broken ones."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.results.result_file import BenchRun
from tests.boards.emulated_board import EmulatedBoard, start_board
from tests.boards.userland import USERLANDS
from tests.conftest import LenetEdge

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "exported"
DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
INT8, DYNAMIC = EXPORTED / "lenet_int8.tflite", EXPORTED / "lenet_dynamic.tflite"
SHORT = ("--batch-size", "1", "--max-time", "0.1")
STATE = "home/pi/.local"


def command(board: EmulatedBoard, *arguments: str | Path, user: str = "pi") -> list[str]:
    """Return how to deploy to a board, as its user would say it to ssh."""
    options = {
        "Port": board.port, "IdentityFile": board.key, "IdentitiesOnly": "yes",
        "UserKnownHostsFile": board.known_hosts, "StrictHostKeyChecking": "yes",
    }  # fmt: skip
    given = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    return [
        sys.executable, "-m", "lenet_edge", "deploy", f"{user}@127.0.0.1", *given,
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
    """Start a deployment and yield it once it has said what is waited for by `wait_for`."""
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


def wait_for(process: Any, said: str) -> None:
    for line in process.stderr:
        if said in line:
            return
    pytest.fail(f"it never said {said!r}")


def is_usable(board: EmulatedBoard) -> bool:
    """Whether the board has the command, and a release or environment that calls itself whole."""
    share = board.root / STATE / "share/lenet-edge"
    return (share / "lenet-edge").exists() or (board.root / STATE / "bin").exists()


@pytest.mark.slow
def test_interrupted_anywhere_the_same_command_completes_it(tmp_path: Path) -> None:
    """And what comes of it: all 10,000 images, on LiteRT, on a fresh board."""
    with start_board(USERLANDS["bookworm-arm64"], "pi4", throttled="0x50005") as board:
        fixed = (INT8, DYNAMIC, *SHORT)
        with deploying(board, tmp_path, *fixed) as process:
            wait_for(process, "Send 3/")
            os.kill(process.pid, signal.SIGKILL)
        assert not is_usable(board)

        with deploying(board, tmp_path, *fixed) as process:  # the line is cut
            wait_for(process, "Installing")
            time.sleep(3)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                if "ssh" in Path(f"/proc/{child}/comm").read_text():
                    os.kill(int(child), signal.SIGKILL)
            said = process.stderr.read()
            assert process.wait(60) == 1
            assert "the connection was lost" in said
            assert "Traceback" not in said
        assert not is_usable(board)

        done = deploy(board, tmp_path, *fixed, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
        assert "lenet-edge predict IMAGE" in done.stderr
        facts = json.loads((tmp_path / "facts.json").read_text())
        parity = {one["candidate"]: one for one in facts["results"]["parity"]}
        assert set(parity) == {INT8.name, DYNAMIC.name}
        for one in parity.values():
            assert (one["verdict"], one["num_samples"]) == ("pass", 10_000)
            assert one["target"] == "litert-xnnpack"
        by_file = {one["candidate"]: one for one in facts["differences"]}
        assert by_file[INT8.name]["differing"] == 0
        assert by_file[DYNAMIC.name]["max_abs"] < 1e-4
        assert "all 100,000 outputs as here, bit for bit" in done.stdout.replace("\n", " ")

        kept = BenchRun.load(tmp_path / facts["kept"])
        assert kept.environment.machine == "Raspberry Pi 4 Model B Rev 1.4"
        assert kept.environment.emulated
        assert facts["kept"].startswith("benchmarks/results/raspberry-pi-4-model-b-rev-1-4-emul")
        for measured in kept.measurements:
            assert "under-voltage" in (measured.invalid or "")
            assert "power supply" in (measured.invalid or "")
        assert "emulated" in done.stdout
        assert "tensorflow" not in kept.environment.packages

        again = deploy(board, tmp_path, *fixed)
        assert (again.returncode, again.stdout) == (
            0, "pi@127.0.0.1: it has all of this; --again measures anew\n",
        )  # fmt: skip
        photo = board.root / "home/pi/seven.jpg"
        photo.write_bytes(DIGIT.read_bytes())
        predicted = board.ssh(".local/bin/lenet-edge", "predict", "seven.jpg")
        assert predicted.stdout.split()[1] == "7", predicted.stderr
        assert (
            "picamera2 is not installed"
            in board.ssh(".local/bin/lenet-edge", "predict", "--camera").stderr
        )
        service = deploy(board, tmp_path, *fixed, "--service")
        assert service.returncode == 1
        assert "does not run systemd" in service.stderr

        removed = deploy(board, tmp_path, "--uninstall")
        assert removed.returncode == 0, removed.stderr
        left = [p for p in (board.root / "home/pi").rglob("*") if p.is_file() or p.is_symlink()]
        assert left == [photo]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("userland", "face", "options", "file", "target"),
    [
        ("bookworm-arm64", "pi5", ["--runtime", "tflite"], "lenet_int8.tflite",
         "tflite-runtime-cpu"),
        ("bookworm-arm64", "zero2w", ["--runtime", "onnx"], "lenet_float32.onnx",
         "onnxruntime-cpu"),
        ("bookworm-arm64", "pi4", ["--runtime", "native"], "lenet_native_float32.c", "native-cpu"),
        ("trixie-arm64", "pi5", [], "lenet_int8.tflite", "litert-xnnpack"),
        ("bookworm-armhf", "pi4", [], "lenet_int8.tflite", "tflite-runtime-cpu"),
    ],
)  # fmt: skip
def test_other_systems_and_runtimes(
    tmp_path: Path, userland: str, face: str, options: list[str], file: str, target: str
) -> None:
    with start_board(USERLANDS[userland], face) as board:
        done = deploy(board, tmp_path, EXPORTED / file, *options, *SHORT, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / "facts.json").read_text())
        (one,) = facts["results"]["parity"]
        assert (one["verdict"], one["num_samples"], one["target"]) == ("pass", 10_000, target)
        assert facts["results"]["environment"]["emulated"]
        (difference,) = facts["differences"]
        if file.endswith("int8.tflite") and target == "litert-xnnpack":
            assert difference["differing"] == 0
        assert difference["max_abs"] < (1e-4 if "float32" in file else 1.0)


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_board_as_it_was(tmp_path: Path) -> None:
    with start_board(USERLANDS["bookworm-arm64"], "pi4", home="size=400m") as board:
        filler = board.root / "home/pi/filler"
        with deploying(board, tmp_path, INT8, *SHORT) as process:
            wait_for(process, "Send 1/")
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while file.write(b"\0" * 100_000):
                    file.flush()
            said = process.stderr.read()
            assert process.wait(120) == 1
        (error,) = [line for line in said.splitlines() if line.startswith("Error")]
        assert "No space left on device" in error
        assert not (board.root / STATE / "share/lenet-edge").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("userland", "board_options", "options", "said"),
    [
        ("bookworm-arm64", {"home": "ro"}, [], "/home/pi is read-only"),
        ("bookworm-arm64", {"clock": "-10y"}, [], "days behind; set it there: sudo date -s"),
        ("bookworm-arm64", {"home": "size=20m"}, [], "MB are free; make room there"),
        ("bullseye-arm64", {}, [], "Python 3.9 is too old: lenet-edge needs 3.10"),
        ("trixie-arm64", {}, ["--runtime", "tflite"], "tflite-runtime has no wheel for aarch64"),
        ("bookworm-arm64", {}, ["--python", "python9"], "no such Python"),
        ("bookworm-arm64", {}, ["another key of mine"], "does not accept your key"),
        ("bookworm-arm64", {}, ["another key of its"], "its host key has changed"),
    ],
)
def test_what_a_board_cannot_do_is_said_in_a_line(
    tmp_path: Path,
    userland: str,
    board_options: dict[str, str],
    options: list[str],
    said: str,
) -> None:
    with start_board(USERLANDS[userland], "pi4", **board_options) as board:  # type: ignore[arg-type]
        if options[:1] == ["another key of mine"]:
            board.key.write_text("")
        if options[:1] == ["another key of its"]:
            other = board.key.with_suffix(".pub").read_text()
            board.known_hosts.write_text(f"[127.0.0.1]:{board.port} {other}")
        given = [one for one in options if not one.startswith("another")]
        done = deploy(board, tmp_path, INT8, *given)
        assert done.returncode == 1
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert said in error
        assert "Traceback" not in done.stderr
        assert not list((board.root / "home/pi").iterdir())


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody.invalid"], "no such host"),
        (["pi@127.0.0.1", "-o", "Port=1"], "it refuses the port"),
        (["--", "-oProxyCommand=touch owned"], "is not a host"),
        (["pi@127.0.0.1", "-o", "NoSuchOption=1"], "ssh does not accept an option"),
    ],
)
def test_hosts_that_cannot_be_reached(
    lenet_edge: LenetEdge, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = lenet_edge("deploy", "--dry-run", *arguments, INT8)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
