"""What tests share: one real training and its exports, made once a session."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lenet_edge.artifact import Artifact, load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.runtimes import _vulkan
from tests import browser

# No deadline: other work on the machine makes any example slow.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("house"), max_examples=2000)
settings.load_profile("house")

LenetEdge = Callable[..., subprocess.CompletedProcess[str]]
PRECISIONS = ("float32", "int8")


def take(dataset: Dataset, count: int) -> Dataset:
    """Return the first `count` images of a data set."""
    return dataset.take(slice(count))


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


@pytest.fixture(scope="session")
def test_part() -> Dataset:
    return mnist.load("test")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, test_part: Dataset) -> Path:
    """A folder with a checkpoint of three epochs, and all files that export makes of it."""
    from lenet_edge.export.exporter import export
    from lenet_edge.train import loop
    from lenet_edge.train.recipe import CLASSIC

    folder = tmp_path_factory.mktemp("exported")
    training = mnist.load("train")
    recipe = dataclasses.replace(CLASSIC, epochs=3)
    model, _ = loop.train(training, take(test_part, 1000), recipe)
    checkpoint = loop.save(model, folder / "lenet.keras", training.class_names)
    formats = ("tflite", "onnx", "native")
    export(checkpoint.path, folder, training, test_part, formats, PRECISIONS)
    return folder


@pytest.fixture(scope="session")
def exported(exports: Path) -> Callable[[str], Artifact]:
    """Give the artifact of a file name in `exports`."""
    return lambda name: load_artifact(exports / name)


@pytest.fixture(scope="session")
def matrix(
    exports: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    """Every format in every precision, of the same checkpoint as `exports`."""
    from lenet_edge.export import exporter

    made = exporter.export(
        exports / "lenet.keras",
        tmp_path_factory.mktemp("matrix"),
        mnist.load("train"),
        take(mnist.load("test"), 1000),
        precisions=exporter.PRECISIONS,
        cpu="x86",
    )
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


@pytest.fixture(scope="session")
def chromium() -> Iterator[browser.Browser]:
    """One Chromium for all tests, where it is installed."""
    if reason := browser.missing():
        pytest.skip(reason)
    with browser.start() as started:
        yield started
