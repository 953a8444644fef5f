"""The emulated boards themselves, over ssh: what they say, and what can be done to them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from tests.boards.board import Board, start
from tests.boards.userland import USERLANDS, missing

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# All that read_environment() needs of this package; a board gets the rest by `lenet-edge deploy`.
MODULES = ("__init__", "environment", "conditions")


@pytest.fixture(scope="module", autouse=True)
def _here() -> None:
    if reason := missing():
        pytest.skip(reason)


def python(board: Board, code: str) -> str:
    done = board.ssh("python3", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("userland", "face", "architecture", "version", "model"),
    [
        ("bookworm-arm64", "pi4", "aarch64", "3.11", "Raspberry Pi 4 Model B Rev 1.4"),
        ("trixie-arm64", "pi5", "aarch64", "3.13", "Raspberry Pi 5 Model B Rev 1.0"),
        ("bookworm-armhf", "zero2w", "armv7l", "3.11", "Raspberry Pi Zero 2 W Rev 1.0"),
    ],
)
def test_a_board_is_what_it_says(
    userland: str, face: str, architecture: str, version: str, model: str
) -> None:
    with start(USERLANDS[userland], face) as board:
        home = board.root / "home/pi/lenet_edge"
        home.mkdir()
        for name in MODULES:
            shutil.copy(ROOT / f"lenet_edge/{name}.py", home)
        facts = json.loads(
            python(
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
        known = python(board, "import importlib.util as u; print(u.find_spec('numpy') is not None)")
        assert known == str(userland == "bookworm-armhf")
        if known == "True":
            assert python(board, "import numpy; print(numpy.eye(3).sum())") == "3.0"


def test_a_board_in_trouble() -> None:
    userland = USERLANDS["bookworm-arm64"]
    with start(userland, home="size=8m", clock="-10y", throttled="0x50005") as board:
        full = board.ssh("dd", "if=/dev/zero", "of=big", "bs=1M", "count=9")
        assert "No space left on device" in full.stderr
        behind_s = time.time() - float(python(board, "import time; print(time.time())"))
        assert behind_s == pytest.approx(10 * 365.25 * 86_400, rel=0.01)
        assert abs(time.time() - behind_s - float(board.ssh("date", "+%s").stdout)) < 60
        assert board.ssh("vcgencmd", "get_throttled").stdout == "throttled=0x50005\n"


def test_nothing_is_left_of_a_board() -> None:
    with (
        start(USERLANDS["bookworm-arm64"], home="ro") as board,
        start(USERLANDS["bookworm-arm64"]) as other,
    ):
        assert "Read-only file system" in board.ssh("mkdir", "there").stderr
        assert other.ssh("mkdir", "there").returncode == 0
        # It outlives its login; the number is this test's own.
        number = str(10_000_000 + os.getpid())
        other.ssh("sh", "-c", f"sleep {number} >/dev/null 2>&1 </dev/null &")
        assert _programs(number)
    assert not _programs(number)
    assert not board.key.exists()
    assert "board-" not in Path("/proc/mounts").read_text()
    for port in (board.port, other.port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def _programs(text: str) -> list[Path]:
    """The processes of this machine that have a text in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(path)
    return found
