"""How long a board waits for the first answer, and what that takes: python -m benchmarks.start

A bundle with its wheels is unpacked and used as on a board; this machine stands for one. Every
command starts anew, by turns with a Python that does nothing, so that a slow minute of the machine
hits all; the file cache is warm. What is kept: every time, the medians, the most resident memory of
all processes of `predict` together, and the size of the venv.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import EXPORTED, ROOT, keep
from lenet_edge.deploy import bundle
from lenet_edge.deploy.wheels import System, find_wheels
from lenet_edge.selection import load_artifacts
from tests import archives

IMAGE = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
ROUNDS = 25


def make_board(folder: Path) -> Path:
    """Return an unpacked bundle of the int8 file and LiteRT, whose venv has been made."""
    glibc = int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[1])  # type: ignore[union-attr]
    system = System(os.uname().machine, sys.version_info[:2], glibc)
    artifacts = load_artifacts([EXPORTED / "lenet_int8.tflite"], EXPORTED)
    archive = folder / "bundle.tar.xz"
    bundle.make_bundle(artifacts, wheels=find_wheels(system, ["litert"]).wheels).save(archive)
    archives.unpack(archive, folder)
    unpacked = folder / bundle.NAME
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["PATH"] = f"{Path(sys.executable).resolve().parent}:{os.defpath}"
    subprocess.run([str(unpacked / "run.sh"), "--help"], check=True, env=environment,
                   stdout=subprocess.PIPE)  # fmt: skip
    return unpacked


def peak_bytes(command: list[str]) -> tuple[int, int]:
    """Return the most resident memory of one process of a command, and of all of them together.

    What processes share, such as libraries, counts in the second as often as they are.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    one = together = 0
    while process.poll() is None:
        sizes = [_resident(pid) for pid in _tree(process.pid)] or [0]
        one, together = max(one, *sizes), max(together, sum(sizes))
        time.sleep(0.002)
    return one, together


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _tree(int(child)))]


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(board: Path) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # no board has it set
    program, python = str(board / "run.sh"), str(board / "venv" / "bin" / "python")
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "lenet-edge --help": [program, "--help"],
        "lenet-edge predict IMAGE": [program, "predict", str(IMAGE)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(ROUNDS + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE)
            if turn:  # the first one fills the file cache
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s ({min(times[name]):.3f} to {max(times[name]):.3f})")
    peaks = [peak_bytes(commands["lenet-edge predict IMAGE"]) for _ in range(ROUNDS)]
    files = [path for path in (board / "venv").rglob("*") if path.is_file()]
    size = sum(path.stat().st_blocks * 512 for path in files)
    one, together = (max(kind) for kind in zip(*peaks, strict=True))
    print(
        f"predict: {one / 1e6:.1f} MB resident at the most in one process, {together / 1e6:.1f} in"
        f" all; the venv: {size / 1e6:.0f} MB"
    )
    facts = {"median_s": medians, "times_s": times, "peak_rss_bytes": {"one": one, "all": together},
             "venv_bytes": size}  # fmt: skip
    print(f"Kept in {keep('start', facts).relative_to(ROOT)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(make_board(Path(folder)))
