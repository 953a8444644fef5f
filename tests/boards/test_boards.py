"""Tests of the emulated boards themselves, over ssh."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from tests import needs
from tests.boards.emulated_board import EmulatedBoard, start_board
from tests.boards.userland import USERLANDS, why_unavailable

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# The modules that read_environment() needs.
MODULES = ("__init__", "machine/__init__", "machine/conditions", "machine/environment",
           "support/__init__", "support/portable")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _can_emulate() -> None:
    if reason := why_unavailable():
        needs.leave_out(reason)


def run_python(board: EmulatedBoard, code: str) -> str:
    done = board.ssh("python3", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("userland", "key", "architecture", "version", "model"),
    [
        ("bookworm-arm64", "pi4", "aarch64", "3.11", "Raspberry Pi 4 Model B Rev 1.4"),
        ("trixie-arm64", "pi5", "aarch64", "3.13", "Raspberry Pi 5 Model B Rev 1.0"),
        ("bookworm-armhf", "zero2w", "armv7l", "3.11", "Raspberry Pi Zero 2 W Rev 1.0"),
    ],
)
def test_board_has_the_facts_of_its_model(
    userland: str, key: str, architecture: str, version: str, model: str
) -> None:
    with start_board(USERLANDS[userland], key) as board:
        package = board.root / "home/pi/lenet_edge"
        for name in MODULES:
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / f"lenet_edge/{name}.py", package / f"{name}.py")
        facts = json.loads(
            run_python(
                board,
                "import dataclasses, json\n"
                "from lenet_edge.machine.environment import read_environment\n"
                "print(json.dumps(dataclasses.asdict(read_environment())))",
            )
        )
        assert facts["machine"] == model
        assert facts["architecture"] == architecture
        assert facts["python"].startswith(f"{version}.")
        assert facts["governor"] == "ondemand"
        assert facts["temperature_celsius"] == 45
        assert "qemu" in facts["emulated"]
        assert board.ssh("vcgencmd", "get_throttled").returncode == 127
        find_numpy = "import importlib.util as u; print(u.find_spec('numpy') is not None)"
        has_numpy = run_python(board, find_numpy)
        assert has_numpy == str(userland == "bookworm-armhf")
        if has_numpy == "True":
            assert run_python(board, "import numpy; print(numpy.eye(3).sum())") == "3.0"


def test_board_with_faults() -> None:
    userland = USERLANDS["bookworm-arm64"]
    with start_board(userland, home="size=8m", clock="-10y", throttled="0x50005") as board:
        too_large = board.ssh("dd", "if=/dev/zero", "of=big", "bs=1M", "count=9")
        assert "No space left on device" in too_large.stderr
        behind_s = time.time() - float(run_python(board, "import time; print(time.time())"))
        assert behind_s == pytest.approx(10 * 365.25 * 86_400, rel=0.01)
        assert abs(time.time() - behind_s - float(board.ssh("date", "+%s").stdout)) < 60
        assert board.ssh("vcgencmd", "get_throttled").stdout == "throttled=0x50005\n"


def test_board_is_removed_completely() -> None:
    with (
        start_board(USERLANDS["bookworm-arm64"], home="ro") as board,
        start_board(USERLANDS["bookworm-arm64"]) as other,
    ):
        assert "Read-only file system" in board.ssh("mkdir", "folder").stderr
        assert other.ssh("mkdir", "folder").returncode == 0
        # A process that outlives its login, with a duration that identifies this test.
        duration = str(10_000_000 + os.getpid())
        other.ssh("sh", "-c", f"sleep {duration} >/dev/null 2>&1 </dev/null &")
        assert _processes_with(duration)
    assert not _processes_with(duration)
    assert not board.key.exists()
    assert "board-" not in Path("/proc/mounts").read_text()
    for port in (board.port, other.port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def _processes_with(text: str) -> list[Path]:
    """Return the processes of this machine whose command line contains a text."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                processes.append(path)
    return processes
