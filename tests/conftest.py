"""What tests share: one real training and its exports, made once for all processes of a run."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.runtimes import _vulkan
from tests import browser

# A shell has what it starts in the background ignore Ctrl-C, and some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline: other work on the machine makes any example slow.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("house"), max_examples=2000)
settings.load_profile("house")
LenetEdge = Callable[..., subprocess.CompletedProcess[str]]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]
PRECISIONS = ("float32", "int8")


def can_build_wasm() -> bool:
    return all(map(shutil.which, ("clang", "wasm-ld")))


def take(dataset: Dataset, count: int) -> Dataset:
    """Return the first `count` images of a data set."""
    return dataset.subset(slice(count))


# Each takes minutes: they are begun first, so that no process has one alone at the end.
LONGEST = ("test_deploy.py", "test_boards.py", "test_docs_commands.py", "test_run.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


def gpu_environment() -> dict[str, str]:
    """Return what lets a process find a GPU: this machine's own, or the one in software.

    Debian's chromium-common brings SwiftShader, a Vulkan driver for the CPU.
    """
    reason = _vulkan.absence()
    if reason is None:
        return {}
    if "driver" not in reason.split(";")[0] or not SWIFTSHADER.exists():
        pytest.skip(f"{reason} (or Debian's chromium-common, for its SwiftShader)")
    return {"VK_ICD_FILENAMES": str(SWIFTSHADER)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this test's processes find a GPU, in software if need be."""
    for name, value in gpu_environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def _stopwatch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no test wait for what somebody else measures on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(scope="session")
def test_part() -> Dataset:
    return mnist.load("test")


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Give a folder of a name; the first process to ask fills it, the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each of xdist's processes has a folder within it
        root = root.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / name).exists():
                started = tmp_path_factory.mktemp(name)
                fill(started)
                started.rename(root / name)
        return root / name

    return make


@pytest.fixture(scope="session")
def exports(make_once: MakeOnce, test_part: Dataset) -> Path:
    """A folder with a checkpoint of three epochs, and all files that export makes of it."""

    def fill(folder: Path) -> None:
        from lenet_edge.export.exporter import export
        from lenet_edge.train import loop
        from lenet_edge.train.recipe import CLASSIC

        training = mnist.load("train")
        recipe = dataclasses.replace(CLASSIC, epochs=3)
        model, _ = loop.train(training, take(test_part, 1000), recipe)
        checkpoint = loop.save_checkpoint(model, folder / "lenet.keras", training.class_names)
        formats = ("tflite", "onnx", "native", *(["wasm"] if can_build_wasm() else []))
        export(checkpoint.path, folder, training, test_part, formats, PRECISIONS)

    return make_once("exported", fill)


@pytest.fixture(scope="session")
def exported(exports: Path) -> Callable[[str], Artifact]:
    """Give the artifact of a file name in `exports`."""
    return lambda name: load_artifact(exports / name)


@pytest.fixture(scope="session")
def matrix(exports: Path, make_once: MakeOnce) -> dict[tuple[str, str], Artifact]:
    """Every format in every precision, of the same checkpoint as `exports`."""

    def fill(folder: Path) -> None:
        from lenet_edge.export.exporter import PRECISIONS, Options, export

        training, test = mnist.load("train"), take(mnist.load("test"), 1000)
        export(exports / "lenet.keras", folder, training, test, precisions=PRECISIONS,
               options=Options(cpu="x86"))  # fmt: skip

    folder = make_once("matrix", fill)
    made = [load_artifact(path) for path in folder.iterdir() if path.suffix in (".tflite", ".onnx")]
    return {(artifact.format, artifact.precision): artifact for artifact in made}


@pytest.fixture
def lenet_edge(tmp_path: Path) -> LenetEdge:
    """Run ``lenet-edge ARGUMENTS`` as a process of its own in an empty folder."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )

    return run


@pytest.fixture
def lenet_edge_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LenetEdge:
    """The same within this process, where TensorFlow, five seconds to import, is imported once."""
    from lenet_edge.cli import main

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        said = [*map(str, arguments)]
        done = CliRunner().invoke(main, said, prog_name="lenet-edge", catch_exceptions=False)
        return subprocess.CompletedProcess(said, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Browser]:
    """One Chromium for all tests, where it is installed."""
    if reason := browser.missing():
        pytest.skip(reason)
    with browser.start() as started:
        yield started
