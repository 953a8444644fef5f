"""MLPerf Tiny's four networks in int8: exact on every kernel set, in a small arena."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.native import mlperf_tiny
from lenet_edge.export.native.isa import ISAS
from tests.export.native_random import (
    Case,
    build_cases,
    call_program,
    differences,
    make_case,
    run_cases,
)
from tests.needs import require

COUNT = 200
FEW = 3  # inputs under an emulator
FLAGS = ("-O1", "-ffp-contract=fast")
_LEVELS = [isa.name for isa in ISAS if isa.is_chosen_at_run_time]


@pytest.fixture(scope="module", params=list(mlperf_tiny.NETWORKS))
def content(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    """The name and the int8 .tflite file of one network."""
    name: str = request.param
    return name, mlperf_tiny.make(name)


@pytest.fixture(scope="module")
def case(content: tuple[str, bytes]) -> Case:
    return make_case(*content, seed=0, count=COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("is_plain", [False, True], ids=["best", "plain"])
def test_outputs_equal_the_reference_kernels(case: Case, is_plain: bool, tmp_path: Path) -> None:
    require("gcc")
    without = _LEVELS if is_plain else []
    (outputs,) = run_cases([case], tmp_path, ("gcc",), flags=FLAGS, without=without)
    assert differences(case, outputs) == ""


@pytest.mark.slow
def test_outputs_on_64_bit_arm(content: tuple[str, bytes], tmp_path: Path) -> None:
    require("aarch64-linux-gnu-gcc", "qemu-aarch64-static")
    case = make_case(*content, seed=1, count=FEW)
    program = build_cases([case], tmp_path, ("aarch64-linux-gnu-gcc", "-static"), FLAGS)
    for cpu in ("cortex-a72", "max"):  # without and with dot products
        (outputs,) = call_program(program, [case], ("qemu-aarch64-static",), {"QEMU_CPU": cpu})
        assert differences(case, outputs) == "", cpu


@pytest.mark.slow
def test_arena_is_not_larger_than_that_of_tflite_micro(
    content: tuple[str, bytes], case: Case, tmp_path: Path
) -> None:
    pytest.importorskip("tflite_micro")
    path = tmp_path / "model.tflite"
    path.write_bytes(content[1])
    program = (
        "import sys; from tflite_micro.python.tflite_micro import runtime;"
        "file = open(sys.argv[1], 'rb').read();"
        "runtime.Interpreter.from_bytes(file, arena_size=1 << 21).print_allocations()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120
    )
    used = re.search(r"Arena allocation total (\d+) bytes", done.stdout + done.stderr)
    assert used is not None, done.stderr
    assert case.compiled.arena_bytes <= int(used[1])
