"""Deployments to this machine, interrupted at random: ``python -m tests.deploy.local_board``

A script replaces ssh. It runs the remote command on this machine in a home folder of its own, as
sshd would; `test_deploy.py` uses real sshds. Each turn deploys another file and kills the client or
its ssh with SIGKILL. The command on the board must then still work, with complete files only, and
repeating the deployment must succeed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
FILES = tuple(ROOT / "exported" / f"lenet_{name}.tflite" for name in ("int8", "dynamic"))
_SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift 2
HOME=$BOARD_HOME exec sh -c "$1"
"""
_SHORT = ("--batch-size", "1", "--max-time", "0.05")


@dataclass(frozen=True)
class LocalBoard:
    """A folder of this machine that stands for a board, and an ssh script that leads into it."""

    folder: Path

    @property
    def home(self) -> Path:
        """The home folder on the board; its name has all characters that need shell quoting."""
        return self.folder / 'it\'s a "home" of $USER'

    @property
    def command(self) -> Path:
        """The lenet-edge command on the board."""
        return self.home / ".local/bin/lenet-edge"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that replace ssh; create the script if needed."""
        binaries = self.folder / "bin"
        if not binaries.exists():
            binaries.mkdir()
            self.home.mkdir()
            (binaries / "ssh").write_text(_SSH)
            (binaries / "ssh").chmod(0o755)
        path = f"{binaries}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "BOARD_HOME": str(self.home)}

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a deployment."""
        return subprocess.Popen(
            [sys.executable, "-m", "lenet_edge", "deploy", "pi@local", *map(str, arguments)],
            cwd=self.folder, env=self.environment(), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def deploy(self, file: Path) -> float:
        """Deploy a file successfully, and return the duration in seconds."""
        started = time.monotonic()
        process = self.start(file, *_SHORT)
        stdout, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stdout + stderr
        return time.monotonic() - started

    def interrupt(self, file: Path, after_s: float, kill_client: bool) -> None:
        """Start a deployment, and kill its client or its ssh after some seconds."""
        process = self.start(file, *_SHORT, "--again")
        time.sleep(after_s)
        if kill_client:
            os.kill(process.pid, signal.SIGKILL)
        else:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.exists() else ():
                os.kill(int(child), signal.SIGKILL)
        _, stderr = process.communicate(timeout=600)
        assert "Traceback" not in stderr, stderr

    def check_command(self) -> None:
        """Check that the command on the board, if it exists, predicts correctly."""
        if self.command.exists():
            done = subprocess.run(
                [str(self.command), "predict", str(DIGIT)], cwd=self.folder,
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.stdout.split()[1] == "7", done.stderr


def main(kills: int, seed: int, folder: Path) -> None:
    """Interrupt a number of deployments at random moments."""
    generator, board = random.Random(seed), LocalBoard(folder)
    seconds = board.deploy(FILES[0])
    for turn in range(1, kills + 1):
        file = FILES[turn % 2]
        if turn % 4 == 0:  # start again with an empty board, which also needs the wheels
            shutil.rmtree(board.home / ".local")
        board.interrupt(file, generator.uniform(0, seconds), kill_client=turn % 3 > 0)
        board.check_command()
        if turn % 4 == 0 or turn == kills:
            board.deploy(file)
            board.check_command()
        print(f"{turn} of {kills} deployments interrupted, the board works", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="local-board-") as name:
        main(arguments.kills, arguments.seed, Path(name))
