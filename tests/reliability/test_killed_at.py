"""Trainings and a search that are killed at chosen moments, and resumed to the same result.

`test_power` kills commands at random moments. These commands take too long for that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lenet_edge import networks
from tests.reliability.jobs import ROOT, hash_files

pytestmark = pytest.mark.slow

NETWORK = "cnn-3k"  # it compiles in a third of the time of lenet
SHORT = ("--epochs", "2", "--batch-size", "16")  # 112 steps in each epoch; the last is rounded


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to train further."""
    from lenet_edge.train import loop

    path = tmp_path_factory.mktemp("small") / "small.keras"
    model = networks.build(NETWORK, 10, (28, 28, 1))
    loop.save_checkpoint(model, path, tuple(map(str, range(10))))
    return path


def run_killed_and_whole(
    folder: Path,
    arguments: Sequence[object],
    moments: Sequence[str],
    program: str = "lenet_edge.cli:main",
    resume: Sequence[str] = ("--resume",),
) -> tuple[dict[str, str], dict[str, str]]:
    """Run a command that is killed at moments, and one that is not; return the hashes of files."""
    folders = {str(folder / "killed"): [*moments], str(folder / "whole"): []}
    for each in folders:
        Path(each).mkdir()
    job = {"program": program, "arguments": [str(argument) for argument in arguments],
           "resume": resume, "folders": folders}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.killed_at", json.dumps(job)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    killed, whole = (hash_files(Path(each)) for each in folders)
    return killed, whole


def test_quantized_trainings_of_seeds_with_a_teacher(inputs: Path, tmp_path: Path) -> None:
    """Each resumed process finds another kind of state.

    1. A finished seed, and nothing of the next.
    2. The second seed after its first epoch, which is not rounded. Its history is not written.
    3. The second seed after its last epoch. The weights have 4 bits, whose scales this process
       must measure before it rounds them.
    4. All seeds, without the copy of the median.
    """
    killed, whole = run_killed_and_whole(
        tmp_path,
        ("train", "--dataset", inputs / "some.npz", "--network", NETWORK, *SHORT, "--seeds", 2,
         "--quantize", "int4", "--teacher", inputs / "0" / "lenet.keras",
         "--output", "mine.keras"),
        ("removed seed-1.training/state.npz", "renamed seed-2.training/state.npz",
         "renamed seed-2.training/state.npz", "renaming mine.keras"),
    )  # fmt: skip
    assert {"mine.keras", "mine.seeds/seed-2.training/history.json", "mine.seeds/seeds.json"} <= {
        *whole
    }
    assert killed == whole


def test_finetune(inputs: Path, small: Path, tmp_path: Path) -> None:
    killed, whole = run_killed_and_whole(
        tmp_path,
        ("finetune", small, "--dataset", inputs / "some.npz", *SHORT, "--output", "mine.keras"),
        ("epoch 2", "renaming mine.keras"),
    )
    assert {"mine.keras", "mine.training/history.json"} <= {*whole}
    assert killed == whole


def test_search(inputs: Path, tmp_path: Path) -> None:
    """The moments are between a candidate's state and its history, and in the last round."""
    pytest.importorskip("optuna")
    killed, whole = run_killed_and_whole(
        tmp_path,
        ("search", "--dataset", inputs / "some.npz", "--max-bytes", 3000, "--trials", 2,
         "--epochs", 2, "--output-dir", "found"),
        ("renamed network-01.training/state.npz", "epoch 2", "renamed .keras"),
    )  # fmt: skip
    assert "found/search.json" in whole
    for files in (killed, whole):
        del files["found/search.journal"]  # it has the times and the interrupted candidates
    assert killed == whole


@pytest.mark.needs("cc")
def test_the_benchmark_of_quantization(tmp_path: Path) -> None:
    check_benchmark(
        tmp_path,
        ("quantization", "--network", "hard"),
        ("renamed hard-1.keras", "epoch 2"),  # of the training with rounding
    )


@pytest.mark.needs("cc", "arm-none-eabi-gcc", "qemu-system-arm")
def test_the_benchmark_of_small_networks(tmp_path: Path) -> None:
    check_benchmark(tmp_path, ("smallest", NETWORK), ("epoch 2", f"renamed {NETWORK}-1.keras"))


def check_benchmark(folder: Path, command: Sequence[str], moments: Sequence[str]) -> None:
    """Check that the rows and the weights of a benchmark do not depend on kills."""
    killed, whole = run_killed_and_whole(
        folder,
        (*command, "--seeds", "1", "--folder", "."),
        moments,
        "tests.reliability.small_benchmarks:main",
        resume=(),
    )
    names = {name for name in whole if name.endswith(".keras")}
    assert len(names) > 0
    assert {name: killed[name] for name in names} == {name: whole[name] for name in names}
    (row,) = (path.name for path in (folder / "whole").glob("*.row.json"))
    rows = [json.loads((folder / name / row).read_text()) for name in ("killed", "whole")]
    for facts in rows:
        facts.pop("seconds", None)
    assert rows[0] == rows[1]
