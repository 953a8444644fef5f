"""LeNet as int8 C on Cortex-M: exact to the bit, few instructions, small flash and stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.emulator import EmulatorRun
from lenet_edge.microcontrollers.program import BareMetalProgram
from tests.cortex_m import lenet
from tests.cortex_m.random_graphs import count_wrong

pytestmark = pytest.mark.needs(*lenet.PROGRAMS)
FILE = Path(__file__).parents[2] / "exported" / "lenet_int8.tflite"
FEW, MANY = 200, 1000


def compare(core: str, count: int, folder: Path) -> tuple[BareMetalProgram, EmulatorRun]:
    """Return a program and its run on images, which gave the outputs of TensorFlow Lite."""
    pixels = mnist.load("test").images[:count]
    program = lenet.build(FILE, CORES[core], folder)
    run = emulator.run(program, lenet.to_inputs(pixels), folder)
    np.testing.assert_array_equal(run.outputs, lenet.compute_reference(FILE, pixels))
    return program, run


@pytest.mark.costly
@pytest.mark.parametrize("core", CORES)
def test_outputs_are_exact_and_instructions_few(core: str, tmp_path: Path) -> None:
    program, run = compare(core, FEW, tmp_path)
    mean = run.instructions[:100].mean()
    assert mean <= lenet.BARS[core] * lenet.CMSIS_NN_INSTRUCTIONS[core]
    assert program.network.initialized == 0
    again = emulator.run(program, lenet.to_inputs(mnist.load("test").images[:3]), tmp_path)
    np.testing.assert_array_equal(again.instructions, run.instructions[:3])
    if core == "cortex-m4":
        assert program.linked.flash <= 62_000
        assert run.stack_bytes + program.network.zeroed <= 4096


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_many_outputs_are_exact(core: str, tmp_path: Path) -> None:
    compare(core, MANY, tmp_path)


SCALAR = [pytest.param(core, marks=pytest.mark.slow) for core in ("cortex-m0", "cortex-m3")]


@pytest.mark.costly
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55", *SCALAR])
def test_random_graphs_are_exact(core: str) -> None:
    assert count_wrong(range(5), CORES[core]) == 0
    shapes = ("CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED")
    assert count_wrong(range(100, 103), CORES[core], shapes) == 0
