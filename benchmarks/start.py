"""How long a board waits for the first answer: python -m benchmarks.start [BIN]

BIN is the bin folder of a board's venv; one is made with the wheel, LiteRT and Pillow if left out.
Every command starts anew, by turns with a Python that does nothing, so that a slow minute of the
machine hits all; the file cache is warm. What is kept: every time, and the medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import ROOT, keep

IMAGE = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
ROUNDS = 25


def make_board(folder: Path) -> Path:
    """Return the bin folder of a new venv with what a board has."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    binaries = folder / "venv" / "bin"
    command = [str(binaries / "pip"), "--quiet", "install", f"{wheel}[litert,predict]", "numpy<2"]
    subprocess.run(command, check=True)
    return binaries


def main(binaries: Path) -> None:
    program = str(binaries / "lenet-edge")
    commands = {
        "python -c pass": [str(binaries / "python"), "-c", "pass"],
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
    print(f"Kept in {keep('start', {'median_s': medians, 'times_s': times}).relative_to(ROOT)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if sys.argv[1:] else make_board(Path(folder)))
