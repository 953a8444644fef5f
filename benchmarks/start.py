"""Start-up time and memory of `predict` on a board: python -m benchmarks.start

This machine takes the place of a board: it unpacks a bundle with its wheels and runs it. Each round
starts every command once, and a Python that does nothing, so that a slow minute of the machine
affects all. The file cache is warm. The result holds all times, their medians, the peak resident
memory of `predict`, and the size of the venv.
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
    """Unpack a bundle of the int8 file and LiteRT, and let it make its venv."""
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
    """Return the peak resident memory of one process of a command, and of all together.

    The sum counts shared memory, such as libraries, once for each process.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    largest = total = 0
    while process.poll() is None:
        sizes = [_resident(pid) for pid in _tree(process.pid)] or [0]
        largest, total = max(largest, *sizes), max(total, sum(sizes))
        time.sleep(0.002)
    return largest, total


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(process for child in children for process in _tree(int(child)))]


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
            if turn:  # the first round fills the file cache
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s ({min(times[name]):.3f} to {max(times[name]):.3f})")
    peaks = [peak_bytes(commands["lenet-edge predict IMAGE"]) for _ in range(ROUNDS)]
    files = [path for path in (board / "venv").rglob("*") if path.is_file()]
    size = sum(path.stat().st_blocks * 512 for path in files)
    largest, total = (max(kind) for kind in zip(*peaks, strict=True))
    print(
        f"predict: at most {largest / 1e6:.1f} MB resident in one process, {total / 1e6:.1f} MB in"
        f" all; the venv: {size / 1e6:.0f} MB"
    )
    facts = {
        "median_s": medians,
        "times_s": times,
        "peak_rss_bytes": {"one": largest, "all": total},
        "venv_bytes": size,
    }
    print(f"Kept in {keep('start', facts).relative_to(ROOT)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(make_board(Path(folder)))
