"""Commands of a board, in a venv that has the wheel and one runtime but no TensorFlow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.test_notebook import code_cells

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "tests" / "data" / "handwriting"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class BoardVenv:
    """A venv with one extra, and a folder with exported artifacts."""

    bin: Path
    folder: Path
    target: str
    format: str

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True, timeout=600)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(
    scope="module",
    params=[
        ("litert", "litert-xnnpack", "tflite"),
        ("tflite", "tflite-runtime-cpu", "tflite"),
        ("onnx", "onnxruntime-cpu", "onnx"),
    ],
    ids=lambda param: param[0],
)
def board(
    request: pytest.FixtureRequest,
    wheel: Path,
    exports: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> BoardVenv:
    extra, target, format = request.param
    if extra == "tflite" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheel after Python 3.11")
    folder = tmp_path_factory.mktemp(extra)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=120)
    venv = BoardVenv(folder / "venv" / "bin", folder, target, format)
    done = venv("pip", "install", "--quiet", f"{wheel}[{extra},serve]")
    assert done.returncode == 0, done.stderr
    shutil.copytree(exports, folder / "exported")
    return venv


def test_tensorflow_is_not_installed(board: BoardVenv) -> None:
    for package in ("tensorflow", "keras", "tf2onnx"):
        done = board("python", "-c", f"import {package}")
        assert f"No module named '{package}'" in done.stderr


def test_targets_lists_working_and_missing_targets(board: BoardVenv) -> None:
    done = board("lenet-edge", "targets", "--json", "-")
    assert done.returncode == 0, done.stderr
    targets = {target["name"]: target for target in json.loads(done.stdout)}
    assert targets[board.target]["works"], targets[board.target]["detail"]
    missing = targets["tensorflow-function"]
    assert not missing["works"]
    assert missing["detail"].startswith(
        "tensorflow is not installed; install it with: pip install "
    )


@pytest.fixture(scope="module")
def verified(board: BoardVenv) -> dict[str, Any]:
    """The results of `verify`, which are also in verified.json."""
    done = board("lenet-edge", "verify", "--max-accuracy-drop", "1", "--json", "verified.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((board.folder / "verified.json").read_text()))


@pytest.fixture(scope="module")
def timed(board: BoardVenv) -> dict[str, Any]:
    """The results of `bench`, which are also in timed.json."""
    done = board("lenet-edge", "bench", "--target", board.format, "--batch-size", "1,8",
                 "--max-time", "0.5", "--json", "timed.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads((board.folder / "timed.json").read_text()))


def test_verify(board: BoardVenv, verified: dict[str, Any]) -> None:
    facts = verified
    pairs = {(report["candidate"], report["target"]) for report in facts["parity"]}
    # C files run on every machine that has a compiler.
    assert {(file, target) for file, target in pairs if target != "native-cpu"} == {
        (f"lenet_{precision}.{board.format}", board.target) for precision in ("float32", "int8")
    }
    assert all(report["passed"] for report in facts["parity"])
    assert "tensorflow" not in facts["environment"]["packages"]
    (reason,) = (
        skipped["reason"]
        for skipped in facts["skipped"]
        if skipped["target"] == "tensorflow-function"
    )
    assert reason.startswith("tensorflow is not installed; install it with: pip install")


def test_inspect_and_layers(board: BoardVenv) -> None:
    """TFLite needs only its runtime. For ONNX, the message names the missing package."""
    file = f"exported/lenet_int8.{board.format}"
    inspected = board("lenet-edge", "inspect", file)
    compared = board("lenet-edge", "verify", file, "--target", board.target, "--layers",
                     "--max-accuracy-drop", "1")  # fmt: skip
    if board.format == "tflite":
        assert "60,074 parameters" in inspected.stdout
        assert "worst first" in compared.stdout, compared.stderr
    else:
        for done in (inspected, compared):
            assert "onnx is not installed; install it with: pip install" in done.stderr


def test_bench(board: BoardVenv, timed: dict[str, Any]) -> None:
    measurements = timed["measurements"]
    assert [(cell["target"], cell["batch_size"]) for cell in measurements] == [
        (board.target, batch) for _ in ("float32", "int8") for batch in (1, 8)
    ]
    assert all(cell["derived"]["p50_s"] > 0 for cell in measurements)


@pytest.mark.usefixtures("verified", "timed")
def test_report(board: BoardVenv, wheel: Path) -> None:
    """`report` needs its extra but no TensorFlow. The wheel contains the templates."""
    results = ("verified.json", "timed.json")
    missing = board("lenet-edge", "report", *results)
    assert missing.stderr.endswith("install it with: pip install jinja2 matplotlib pillow\n")
    if board.target != "litert-xnnpack":  # the rest is the same for all targets, and slow
        return
    installed = board("pip", "install", "--quiet", f"{wheel}[report]")
    assert installed.returncode == 0, installed.stderr
    done = board("lenet-edge", "report", *results)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Ship lenet_")
    assert ">limit " in (board.folder / "report.html").read_text()
    assert "No module named" in board("python", "-c", "import tensorflow").stderr


def test_the_board_cells_of_the_tour(board: BoardVenv) -> None:
    """The cells of docs/tour.ipynb that are tagged "board", in one fresh process."""
    if board.format != "tflite":
        return  # the tour has .tflite files
    shutil.copytree(board.folder / "exported", board.folder / "tour")
    code = "\n".join([*code_cells("board"), "print(parity._repr_html_())", "print(repr(timed))"])
    done = board("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "<td" in done.stdout
    assert "BenchRun(" in done.stdout


def test_predict(board: BoardVenv) -> None:
    """`predict` selects a file and a target for this board."""
    done = board("lenet-edge", "predict", str(DIGITS / "7-hasty-crayon.jpg"), "--json", "-")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["file"], facts["target"]) == (f"lenet_int8.{board.format}", board.target)
    assert facts["images"][0]["label"] == "7"


def test_serve_sends_its_page(board: BoardVenv) -> None:
    command = [str(board.bin / "lenet-edge"), "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=board.folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        for name in ("", "style.css", "page.js", "link.js", "icon.svg", "models", "samples"):
            with urllib.request.urlopen(address + name, timeout=30) as reply:
                assert reply.read()
        server.terminate()
    assert server.returncode == 0


def test_doctor(board: BoardVenv) -> None:
    done = board("lenet-edge", "doctor", "--json", "-")
    assert done.returncode == 0, done.stdout
    findings = json.loads(done.stdout)["findings"]
    statuses = {finding["check"]: finding["status"] for finding in findings}
    assert statuses[board.target] == "ok"
    assert board("lenet-edge", "doctor", "--job", "host").returncode == 3


@pytest.mark.parametrize("command", ["bench", "verify"])
def test_a_fleet_command_names_the_missing_extra(board: BoardVenv, command: str) -> None:
    file = f"exported/lenet_int8.{board.format}"
    done = board("lenet-edge", command, file, "--scheduler", "tcp://127.0.0.1:8786")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: distributed is not installed; install it with: pip install cryptography distributed"
        " tomli\n"
    )


@pytest.mark.parametrize("command", ["train", "export", "run"])
def test_a_host_command_names_the_missing_extra(board: BoardVenv, command: str) -> None:
    model = ["exported/lenet.keras"] if command != "train" else []
    done = board("lenet-edge", command, *model)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert " is not installed; install it with: pip install ai-edge-litert " in last
