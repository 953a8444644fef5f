"""A fleet of two kinds of boards: this machine, and an emulated arm64 board."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench import plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.fleet.connection import connect
from lenet_edge.flows import fleet
from lenet_edge.flows.fleet_session import Choice, open_fleet
from tests import needs
from tests.boards.emulated_board import EmulatedBoard, start_board
from tests.boards.userland import USERLANDS, why_unavailable
from tests.fleet.cluster import Cluster

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
PACKAGES = ("distributed", "ai-edge-litert", "numpy", "click", "rich")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[EmulatedBoard]:
    """An emulated Pi 4 with the packages of a fleet's board, without TensorFlow."""
    if reason := why_unavailable():
        needs.leave_out(reason)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != "3.11":
        pytest.skip("the board has Python 3.11, and its packages are those of this Python")
    tags = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(36, 4, -1)]  # its glibc
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:",
         "--python-version", version, *tags, "--platform", "manylinux2014_aarch64",
         "--constraint", str(ROOT / f"constraints/{version}.txt"),
         "--dest", str(tmp_path / "wheels"), *pinned],
        check=True, timeout=300,
    )  # fmt: skip
    with start_board(USERLANDS["bookworm-arm64"], "pi4") as started:
        site = started.root / "home/pi/site"
        site.mkdir()
        for wheel in (tmp_path / "wheels").glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        shutil.copytree(ROOT / "lenet_edge", site / "lenet_edge")
        installed = site / "lenet_edge-0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: lenet-edge\n"
            f"Version: {importlib.metadata.version('lenet-edge')}\n"
        )
        yield started


def test_each_kind_of_board_measures_every_cell(board: EmulatedBoard, tmp_path: Path) -> None:
    choice = Choice([load_artifact(ROOT / "exported" / "lenet_int8.tflite")], ("litert-xnnpack",))
    rule = StopRule(min_time_s=0, max_time_s=0.1, precision=1)
    with contextlib.closing(Cluster(tmp_path)) as boards:
        boards.add("here")
        boards.wait_for(1)
        command = (
            "PYTHONPATH=site exec python3 -m distributed.cli.dask_worker"
            f" {boards.address} --name pi4 --nthreads 1 --no-nanny --resources board=1"
            " --host 127.0.0.1 --no-dashboard"
        )
        with (tmp_path / "pi4.log").open("wb") as log:
            boards.processes["pi4"] = subprocess.Popen(
                ["ssh", "-F", str(board.ssh_config), "pi", command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        boards.wait_for(2, timeout_s=180)
        with connect(boards.address) as client:
            result = fleet.bench(
                open_fleet(client, choice),
                lambda pairs: plan.Plan(plan.expand(pairs, (1,)), rounds=1, stop=rule),
                True,
                lambda total: lambda line: None,
            )
    assert not result.lost, boards.log("pi4")
    host, pi = result.runs
    assert (host.board, pi.board) == ("here", "pi4")
    assert pi.environment.architecture == "aarch64"
    assert re.match("Raspberry Pi 4", pi.environment.machine)
    assert pi.environment.emulated
    assert "tensorflow" not in pi.environment.packages
    # Only equal boards share cells, so both kinds check and measure the cell.
    for run in result.runs:
        (cell,) = run.measurements
        assert cell.p50_s > 0
        assert [report.verdict for report in run.parity] == ["inconclusive"]  # 256 images
        assert (run.parity[0].top1_agreement or 0) >= 0.99
