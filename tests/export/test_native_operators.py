"""Tests of the compiler from .tflite files to C: each operator, random graphs, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native import compiler
from tests.export.native_random import FLAGS, differences, random_case, run_cases
from tests.export.random_graphs import KINDS
from tests.export.tflite_files import File

pytestmark = pytest.mark.costly

SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.needs("cc")
@pytest.mark.costly
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_every_operator_is_exact(dtype: str, tmp_path: Path) -> None:
    cases = [random_case(0, dtype, (kind,)) for kind in dict.fromkeys(KINDS)]
    outputs = run_cases(cases, tmp_path)
    reports = [differences(case, found) for case, found in zip(cases, outputs, strict=True)]
    assert not any(reports), [report for report in reports if report]


@pytest.mark.needs("cc")
@pytest.mark.costly
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_random_graphs_are_exact(dtype: str, tmp_path: Path) -> None:
    cases = [random_case(seed, dtype) for seed in range(5)]
    # Dense layers and padded convolutions of one column, with weights of int4 too.
    kinds = ("FULLY_CONNECTED", "FULLY_CONNECTED", "RESHAPE", "CONV_2D")
    cases.append(random_case(229, dtype, kinds))
    outputs = run_cases(cases, tmp_path)
    reports = [differences(case, found) for case, found in zip(cases, outputs, strict=True)]
    assert not any(reports), [report for report in reports if report]


@pytest.mark.needs("gcc")
@pytest.mark.slow
def test_sanitizers_find_no_error_in_random_graphs(tmp_path: Path) -> None:
    cases = [random_case(seed, dtype) for seed in range(100, 115) for dtype in ("int8", "uint8")]
    outputs = run_cases(cases, tmp_path, ("gcc",), flags=(*FLAGS, *SANITIZERS))
    assert not any(map(differences, cases, outputs))


def test_operators_that_are_not_covered_are_all_named() -> None:
    file = File()
    image = file.input((1, 4, 4, 2))
    axes = file.constant(np.array([1, 2], np.int32))
    total = file.operator("SUM", [image, axes], file.tensor((1, 2)), keepDims=False)
    file.operator("HARD_SWISH", [total], file.tensor((1, 2)))
    content = file.finish([len(file.graph.tensors) - 1])
    with pytest.raises(ModelFileError) as caught:
        compiler.compile_tflite(content, "net", "net.tflite")
    message = str(caught.value)
    assert "SUM (operator 0, t2)" in message
    assert "HARD_SWISH (operator 1, t3)" in message
    assert "\n" not in message


def test_damaged_files_are_refused() -> None:
    file = File()
    image = file.input((1, 6, 6, 3))
    weights = file.constant(np.ones((4, 3, 3, 3), np.int8), scale=0.01)
    bias = file.constant(np.ones(4, np.int32), scale=0.005)
    file.operator("CONV_2D", [image, weights, bias], file.tensor((1, 4, 4, 4)), padding=1,
                  strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    content = file.finish([3])
    compiler.compile_tflite(content, "net", "net.tflite")
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(int(random.integers(1, 6))):
            damaged[int(random.integers(len(damaged)))] = int(random.integers(256))
        try:
            compiler.compile_tflite(bytes(damaged), "net", "net.tflite")
        except ModelFileError as error:
            assert "\n" not in str(error)  # noqa: PT017
