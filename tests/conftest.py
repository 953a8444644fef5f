"""What tests share: one real training and its exports, made once a session."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lenet_edge.artifact import Artifact, load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset

# No deadline: other work on the machine makes any example slow.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

LenetEdge = Callable[..., subprocess.CompletedProcess[str]]
PRECISIONS = ("float32", "int8")


def take(dataset: Dataset, count: int) -> Dataset:
    """Return the first `count` images of a data set."""
    return dataset.take(slice(count))


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


@pytest.fixture
def lenet_edge(tmp_path: Path) -> LenetEdge:
    """Run ``lenet-edge ARGUMENTS`` as a process of its own in an empty folder."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )

    return run
