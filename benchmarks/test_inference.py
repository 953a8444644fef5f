"""The developers' door to the sessions: `pytest benchmarks --benchmark-only`.

One benchmark for each file in exported/, target and batch size; compare two runs with
`pytest-benchmark compare`. What users read comes from `lenet-edge bench`, which gives each
figure a process of its own.
"""

from contextlib import closing
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.runtimes import open_session
from lenet_edge.selection import Pair, load_artifacts, pair_up

EXPORTED = Path(__file__).parents[1] / "exported"
# TensorFlow would share this process, and its threads, with every runtime measured after it.
FILES = sorted(path for path in EXPORTED.iterdir() if path.suffix in (".tflite", ".onnx"))
PAIRS = pair_up(load_artifacts(FILES, EXPORTED), ())[0]


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.artifact.name}-{pair.target.name}")
def test_inference(benchmark: BenchmarkFixture, pair: Pair, batch_size: int) -> None:
    benchmark.group = f"batch {batch_size}"
    images = to_input(mnist.load("test").images[:batch_size], pair.artifact.pixel_scale)
    with closing(open_session(pair.artifact, pair.target)) as session:
        session.prepare(images)
        benchmark(session.infer)
        assert session.logits().shape == (batch_size, 10)
