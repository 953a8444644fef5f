"""Fixtures of the tests of runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from tests.conftest import MakeOnce


@pytest.fixture(scope="session")
def fixed(exports: Path, test_part: Dataset, make_once: MakeOnce) -> Path:
    """A folder with float32 and int8 files of the same checkpoint whose batch is fixed to 40."""

    def fill(folder: Path) -> None:
        from lenet_edge.export.exporter import Options, export

        training = mnist.load("train")
        export(exports / "lenet.keras", folder, training, test_part,
               precisions=("float32", "int8"), options=Options(batch_size=40))  # fmt: skip

    return make_once("fixed", fill)
