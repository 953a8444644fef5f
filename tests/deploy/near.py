"""A deployment that is cut off at random moments: ``python -m tests.deploy.near [--kills N]``

The board is this machine: in place of ssh stands a script that runs the command in a home of its
own, as sshd would (real sshds are in `test_deploy.py`). At each turn another file is deployed and
the client, or its ssh, is killed with SIGKILL. What the board has in use must then still answer,
with files that are all whole, and nothing else may be usable. The same command must then succeed.
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
HOME=$NEAR_HOME exec sh -c "$1"
"""


@dataclass(frozen=True)
class Near:
    """A folder with an ssh that leads into it."""

    folder: Path

    @property
    def home(self) -> Path:
        """What the board's user would call home, with all that a shell trips over."""
        return self.folder / 'it\'s a "home" of $USER'

    @property
    def command(self) -> Path:
        """What is called on the board."""
        return self.home / ".local/bin/lenet-edge"

    def environment(self) -> dict[str, str]:
        """Return the environment in which ssh leads there."""
        binaries = self.folder / "bin"
        if not binaries.exists():
            binaries.mkdir()
            self.home.mkdir()
            (binaries / "ssh").write_text(_SSH)
            (binaries / "ssh").chmod(0o755)
        path = f"{binaries}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "NEAR_HOME": str(self.home)}

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a deployment."""
        return subprocess.Popen(
            [sys.executable, "-m", "lenet_edge", "deploy", "pi@near", *map(str, arguments)],
            cwd=self.folder, env=self.environment(), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def deploy(self, file: Path) -> float:
        """Deploy a file, expect that it ends well, and return how many seconds it took."""
        started = time.monotonic()
        process = self.start(file, "--batch-size", "1", "--max-time", "0.05")
        out, notes = process.communicate(timeout=600)
        assert process.returncode == 0, out + notes
        return time.monotonic() - started

    def cut(self, file: Path, after_s: float, whole: bool) -> None:
        """Kill a deployment after some seconds: the client with its ssh, or the ssh alone."""
        process = self.start(file, "--batch-size", "1", "--max-time", "0.05", "--again")
        time.sleep(after_s)
        if whole:
            os.kill(process.pid, signal.SIGKILL)
        else:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for child in children.read_text().split() if children.exists() else ():
                os.kill(int(child), signal.SIGKILL)
        _, notes = process.communicate(timeout=600)
        assert "Traceback" not in notes, notes

    def check(self) -> None:
        """Make sure that what is in use is whole, and answers."""
        if self.command.exists():
            done = subprocess.run(
                [str(self.command), "predict", str(DIGIT)], cwd=self.folder,
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.stdout.split()[1] == "7", done.stderr


def main(kills: int, seed: int, folder: Path) -> None:
    """Cut off as many deployments as asked for."""
    chance, near = random.Random(seed), Near(folder)
    seconds = near.deploy(FILES[0])
    for turn in range(1, kills + 1):
        file = FILES[turn % 2]
        if turn % 4 == 0:  # from an empty board again, wheels and all
            shutil.rmtree(near.home / ".local")
        near.cut(file, chance.uniform(0, seconds), whole=turn % 3 > 0)
        near.check()
        if turn % 4 == 0 or turn == kills:
            near.deploy(file)
            near.check()
        print(f"{turn} of {kills} deployments cut off, all whole", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="near-") as name:
        main(asked.kills, asked.seed, Path(name))
