"""LeNet as int8 C on Cortex-M: exact to the bit, few instructions, small flash and stack."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import CORES
from tests.cortex_m import lenet
from tests.cortex_m.random_graphs import count_wrong

pytestmark = pytest.mark.needs(*lenet.PROGRAMS)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return lenet.write_c(lenet.FILE.read_bytes(), tmp_path_factory.mktemp("c") / "lenet.c")


@pytest.mark.costly
@pytest.mark.parametrize("core", CORES)
def test_outputs_are_exact_and_instructions_few(
    core: str, artifact: Artifact, tmp_path: Path
) -> None:
    pixels, expected = mnist.load("test").images[:200], lenet.compute_reference(200)
    with closing(lenet.open_on(core, artifact)) as session:
        np.testing.assert_array_equal(lenet.compute_on(session, pixels), expected)
        inputs, program = lenet.to_inputs(pixels[:100]), session.program
        run, again = (emulator.run(program, inputs[:count], tmp_path) for count in (100, 3))
    np.testing.assert_array_equal(run.outputs, expected[:100])
    assert run.instructions.mean() <= lenet.BARS[core] * lenet.CMSIS_NN_INSTRUCTIONS[core]
    np.testing.assert_array_equal(again.instructions, run.instructions[:3])
    assert program.network.initialized == 0
    if core == "cortex-m4":
        assert program.linked.flash <= 62_000
        assert run.stack_bytes + program.network.zeroed <= 4096


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_all_outputs_are_exact(core: str, artifact: Artifact) -> None:
    with closing(lenet.open_on(core, artifact)) as session:
        outputs = lenet.compute_on(session, mnist.load("test").images)
    np.testing.assert_array_equal(outputs, lenet.compute_reference(10_000))


SCALAR = [pytest.param(core, marks=pytest.mark.slow) for core in ("cortex-m0", "cortex-m3")]


@pytest.mark.costly
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55", *SCALAR])
def test_random_graphs_are_exact(core: str) -> None:
    assert count_wrong(range(5), CORES[core]) == 0
    shapes = ("CONV_2D", "MAX_POOL_2D", "FULLY_CONNECTED")
    assert count_wrong(range(100, 103), CORES[core], shapes) == 0
