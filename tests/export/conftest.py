"""One export of everything, made once a session."""

from pathlib import Path

import pytest

from lenet_edge.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.export import exporter
from tests.conftest import take


@pytest.fixture(scope="session")
def matrix(
    exports: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    """Every format in every precision, of the same checkpoint as `exports`."""
    folder = tmp_path_factory.mktemp("matrix")
    made = exporter.export(
        exports / "lenet.keras",
        folder,
        mnist.load("train"),
        take(mnist.load("test"), 1000),
        precisions=exporter.PRECISIONS,
        cpu="x86",
    )
    return {(artifact.format, artifact.precision): artifact for artifact in made}
