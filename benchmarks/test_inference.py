"""Benchmarks of the sessions for developers: `pytest benchmarks --benchmark-only`.

One benchmark for each pair and batch size. A pair that cannot be opened is skipped with its reason.
`pytest-benchmark compare` compares two runs. Users read the results of `lenet-edge bench`, which
measures each cell in processes of its own.
"""

from contextlib import closing
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lenet_edge.classifier_io import to_model_input
from lenet_edge.data import mnist
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import open_session
from lenet_edge.selection import Pair, load_artifacts, pair_up

EXPORTED = Path(__file__).parents[1] / "exported"
# Without .keras: TensorFlow's threads would disturb every runtime that the process measures later.
SUFFIXES = (".c", ".onnx", ".tflite", ".wasm")
FILES = sorted(path for path in EXPORTED.iterdir() if path.suffix in SUFFIXES)
PAIRS, _ = pair_up(load_artifacts(FILES, EXPORTED), ())


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.artifact.name}-{pair.target.name}")
def test_inference(benchmark: BenchmarkFixture, pair: Pair, batch_size: int) -> None:
    benchmark.group = f"batch {batch_size}"
    images = to_model_input(mnist.load("test").images[:batch_size], pair.artifact)
    try:
        session = open_session(pair.artifact, pair.target)
    except TargetError as error:
        pytest.skip(str(error))
    with closing(session):
        session.prepare(images)
        benchmark(session.infer)
        assert session.logits().shape == (batch_size, 10)
