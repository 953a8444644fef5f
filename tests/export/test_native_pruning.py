"""Tests of the passes that leave out what no output of a C file depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.export.native import coverage, passes, pruning, tflite_graph
from tests.export.native_random import differences, make_case, run_cases
from tests.export.tflite_files import File

pytestmark = pytest.mark.costly

DEAD = [0, 3, 4, 9]


def network(dead: list[int], has_second_bias: bool = True) -> bytes:
    """Two convolutions and two dense layers. The bias keeps some outputs of the third at zero."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> npt.NDArray[np.int8]:
        return random.integers(-127, 128, shape).astype(np.int8)

    file = File()
    strides = {"dilationHFactor": 1, "dilationWFactor": 1}
    image = file.input((1, 9, 9, 1), zero=-128)
    first = file.operator(
        "CONV_2D",
        [image, file.constant(weights(5, 3, 3, 1), scale=0.004), file.constant(np.zeros(5, "i4"))],
        file.tensor((1, 9, 9, 5), scale=0.6, zero=-20), padding=0, strideH=1, strideW=1, **strides,
    )  # fmt: skip
    second = file.operator(
        "CONV_2D",
        [first, file.constant(weights(4, 2, 2, 5), scale=0.004), file.constant(np.zeros(4, "i4"))],
        file.tensor((1, 4, 4, 4), zero=-128), padding=1, strideH=2, strideW=2,
        fusedActivationFunction=1, **strides,
    )  # fmt: skip
    shape = file.constant(np.array([1, 64], np.int32))
    flat = file.operator("RESHAPE", [second, shape], file.tensor((1, 64), zero=-128))
    bias = random.integers(3000, 6000, 10).astype(np.int32)
    bias[dead] = -1_100_000
    third = file.operator(
        "FULLY_CONNECTED",
        [flat, file.constant(weights(10, 64), scale=[0.004 + 0.0001 * n for n in range(10)]),
         file.constant(bias)],
        file.tensor((1, 10), scale=0.7, zero=-120), fusedActivationFunction=1,
    )  # fmt: skip
    inputs = [third, file.constant(weights(3, 10), scale=0.004)]
    if has_second_bias:
        inputs.append(file.constant(np.array([5, 6, -7], np.int32), scale=0.0028))
    fourth = file.operator("FULLY_CONNECTED", inputs, file.tensor((1, 3), scale=0.9, zero=3))
    return file.finish([fourth])


@pytest.mark.parametrize(
    ("dead", "outputs"), [([], 10), (DEAD, 6), (list(range(10)), 1)], ids=["none", "some", "all"]
)
def test_only_what_is_read_remains(dead: list[int], outputs: int) -> None:
    graph = tflite_graph.read(network(dead), "net.tflite")
    passes.simplify(graph)
    coverage.check(graph, "net.tflite")
    passes.optimize(graph)
    pruning.prune(graph)
    first, _, _, third, fourth = graph.operators
    assert first.output.shape == (1, 8, 8, 5)
    assert third.output.shape == (1, outputs)
    assert third.input(1).shape == (outputs, 64)
    assert fourth.input(1).shape == (3, outputs)


@pytest.mark.needs("cc")
@pytest.mark.costly
def test_pruned_networks_are_exact(tmp_path: Path) -> None:
    cases = [
        make_case(f"net{len(dead)}_{has_bias}", network(dead, has_bias), count=20)
        for dead in ([], DEAD, list(range(10)))
        for has_bias in (True, False)
        if dead or has_bias  # without dead outputs, nothing is added to the bias
    ]
    outputs = run_cases(cases, tmp_path)
    assert not any(map(differences, cases, outputs))
    assert len(np.unique(outputs[1][0], axis=0)) > 5
