"""Shared fixtures: above all one real training and its exports, once for all processes of a run."""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.runtimes import _vulkan
from tests import browser, needs

# A shell starts background processes with Ctrl-C ignored. Some tests send Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Imports and test items stay: to look for garbage among them is a fifth of the collection.
gc.disable()
# No deadline: other processes on the machine can make any example slow.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("house"), max_examples=2000)
settings.load_profile("house")
LenetEdge = Callable[..., subprocess.CompletedProcess[str]]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]
PRECISIONS = ("float32", "int8")


def first_images(dataset: Dataset, count: int) -> Dataset:
    """Return the first `count` images of a data set."""
    return dataset.subset(slice(count))


# Each takes minutes, so they start first. Otherwise one process would run one of them alone at the
# end.
LONGEST = (
    "test_fresh.py",
    "test_deploy.py",
    "test_boards.py",
    "test_docs_commands.py",
    "test_run.py",
)


# Fixtures that train, export, measure or start a browser.
COSTLY = {"benched", "chromium", "exported", "exports", "make_once", "matrix"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        marks = {mark.name for mark in item.iter_markers()}
        if not (fixtures & COSTLY or marks & {"costly", "slow"}):
            item.add_marker("quick")
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        needs.require(*mark.args)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    yield  # the other parts of the summary come first
    skipped = terminalreporter.stats.get("skipped", [])
    if line := needs.summary([report.longrepr[2] for report in skipped]):
        terminalreporter.write_line(line, yellow=True)


SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


def gpu_environment() -> dict[str, str]:
    """Return the environment in which a process finds a GPU: a real one, or one in software.

    Debian's chromium-common contains SwiftShader, a Vulkan driver for the CPU.
    """
    reason = _vulkan.absence()
    if reason is None:
        return {}
    problem = reason.split(";")[0]
    if "driver" not in problem or not SWIFTSHADER.exists():
        needs.leave_out(needs.advice(problem, ["chromium", "libvulkan1"]))
    return {"VK_ICD_FILENAMES": str(SWIFTSHADER)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a test find a GPU: a real one, or one in software."""
    for name, value in gpu_environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def _stopwatch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests their own lock for benchmarks, so that they wait for no other user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="session")
def test_part() -> Dataset:
    return mnist.load("test")


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Return a function that makes a named folder: one process fills it, the others wait."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process of xdist has a folder inside the root
        root = root.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / name).exists():
                unfinished = tmp_path_factory.mktemp(name)
                fill(unfinished)
                unfinished.rename(root / name)
        return root / name

    return make


@pytest.fixture(scope="session")
def exports(make_once: MakeOnce, test_part: Dataset) -> Path:
    """A folder with a checkpoint of three epochs and its exported files.

    The .wasm files are missing where `needs.BUILD_WASM` is not installed.
    """

    def fill(folder: Path) -> None:
        from lenet_edge.export.exporter import export
        from lenet_edge.train import loop
        from lenet_edge.train.recipe import CLASSIC
        from lenet_edge.train.saved_state import TrainingSettings

        training = mnist.load("train")
        recipe = dataclasses.replace(CLASSIC, epochs=3)
        model, _ = loop.train(training, first_images(test_part, 1000), TrainingSettings(recipe))
        checkpoint = loop.save_checkpoint(model, folder / "lenet.keras", training.class_names)
        formats = ["tflite", "onnx", "native", "ncnn"]
        if needs.missing(*needs.BUILD_WASM) is None:
            formats.append("wasm")
        export(checkpoint.path, folder, training, test_part, formats, PRECISIONS)

    return make_once("exported", fill)


@pytest.fixture(scope="session")
def exported(exports: Path) -> Callable[[str], Artifact]:
    """Return a function that loads a file of `exports` by its name."""
    return lambda name: load_artifact(exports / name)


@pytest.fixture(scope="session")
def matrix(exports: Path, make_once: MakeOnce) -> dict[tuple[str, str], Artifact]:
    """The .tflite and .onnx artifacts in every precision, by format and precision."""

    def fill(folder: Path) -> None:
        from lenet_edge.export.exporter import PRECISIONS, Options, export

        training, test = mnist.load("train"), first_images(mnist.load("test"), 1000)
        export(exports / "lenet.keras", folder, training, test, precisions=PRECISIONS,
               options=Options(cpu="x86"))  # fmt: skip

    folder = make_once("matrix", fill)
    files = [path for path in folder.iterdir() if path.suffix in (".tflite", ".onnx")]
    artifacts = map(load_artifact, files)
    return {(artifact.format, artifact.precision): artifact for artifact in artifacts}


@pytest.fixture
def lenet_edge(tmp_path: Path) -> LenetEdge:
    """Return a function that runs lenet-edge as a new process in an empty folder."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )

    return run


@pytest.fixture
def lenet_edge_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LenetEdge:
    """Return a function that runs lenet-edge in this process, in an empty folder.

    TensorFlow takes five seconds to import. This process imports it once.
    """
    from lenet_edge.cli import main

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        command = [*map(str, arguments)]
        done = CliRunner().invoke(main, command, prog_name="lenet-edge", catch_exceptions=False)
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Browser]:
    """One Chromium for all tests."""
    needs.require(*browser.PROGRAMS)
    with browser.start() as running:
        yield running
