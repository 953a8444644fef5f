"""Tests of the int8 kernels for 64-bit Arm, in an emulator: with dot products and without."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.aarch64 import machine
from tests.export.native_random import Case, differences, make_case, random_case, run_cases
from tests.export.tflite_files import File

pytestmark = [pytest.mark.needs(*machine.RUNS), pytest.mark.costly]
COMPILE = (machine.COMPILER, "-static")
# The kinds of operators that have kernels of their own.
KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD")


# Run a program on both cores; their outputs must be equal.
RUN_ON_BOTH = "\n".join(
    [
        'cat > "$0.in"',
        *(f'qemu-aarch64-static -cpu {model} "$0" < "$0.in" > "$0.{core}" || exit 1'
          for core, model in machine.CORES.items()),
        'cmp "$0.neon" "$0.dotprod" >&2 && cat "$0.neon"',
    ]
)  # fmt: skip


def check(cases: list[Case], folder: Path) -> None:
    outputs = run_cases(cases, folder, COMPILE, ("sh", "-c", RUN_ON_BOTH))
    reports = [differences(case, found) for case, found in zip(cases, outputs, strict=True)]
    assert not any(reports), [report for report in reports if report]


def test_random_operators_are_exact(tmp_path: Path) -> None:
    cases = [
        random_case(seed, dtype, (kind,))
        for kind in KINDS
        for seed, dtype in ((0, "int8"), (1, "uint8"))
    ]
    check(cases, tmp_path)


@pytest.mark.slow
def test_random_graphs_are_exact(tmp_path: Path) -> None:
    check([random_case(seed, "int8") for seed in range(30)], tmp_path)


@pytest.mark.parametrize("lowest", [0, 1, 2])
def test_the_largest_products_do_not_overflow(lowest: int, tmp_path: Path) -> None:
    """NEON adds two products in 16 bits; `lowest` weights of each filter are -128."""
    random = np.random.default_rng(lowest)
    weights = random.choice([-127, 127], (13, 3, 3, 6)).astype(np.int8)
    weights[:, 1, 0, [0, 4][:lowest]] = -128  # in one lane of two groups
    file = File()
    image = file.input((1, 6, 11, 6), scale=0.02)
    constants = [
        file.constant(weights, scale=0.001),
        file.constant(np.zeros(13, np.int32), scale=0.00002),
    ]
    options = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    conv = file.operator(
        "CONV_2D", [image, *constants], file.tensor((1, 4, 9, 13), scale=0.15), **options
    )
    case = make_case("net", file.finish([conv]), count=10)
    extremes = random.choice([-128, 127], case.inputs[0].shape, p=(0.8, 0.2)).astype(np.int8)
    extremes[0] = -128
    check([dataclasses.replace(case, inputs=(extremes,))], tmp_path)
