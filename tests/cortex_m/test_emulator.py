"""The runner of emulated microcontrollers: its counts, its stack, and programs that fail."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.emulator import Emulator, EmulatorRun
from lenet_edge.microcontrollers.program import build_program
from tests.cortex_m import lenet

pytestmark = [pytest.mark.costly, pytest.mark.needs(*lenet.PROGRAMS)]
# Adds one to four bytes after some instructions that do nothing, with a buffer on the stack.
ADD_ONE = """
#include <stdint.h>
__attribute__((noinline)) static void wait(void) {{
  __asm__ volatile(".rept {instructions}\\n nop\\n .endr");
}}
void add_one(const int8_t *in, int8_t *out) {{
  volatile int8_t buffer[{buffer}];
  buffer[0] = 1;
  wait();
  for (int n = 0; n < 4; n++)
    out[n] = (int8_t)(in[n] + buffer[0]);
}}
"""
INPUTS = np.arange(12, dtype=np.int8).reshape(3, 4)


def run(folder: Path, core: str, text: str, timeout_s: float = 20) -> EmulatorRun:
    source = folder / "add_one.c"
    source.write_text(text)
    program = build_program([source], "add_one", CORES[core], folder, [4], [4])
    return emulator.run(program, INPUTS, folder, timeout_s)


@pytest.mark.parametrize("core", CORES)
def test_outputs_instructions_and_stack(core: str, tmp_path: Path) -> None:
    short, long = (
        run(tmp_path, core, ADD_ONE.format(buffer=buffer, instructions=instructions))
        for buffer, instructions in ((256, 1000), (1256, 3000))
    )
    np.testing.assert_array_equal(short.outputs, INPUTS + 1)
    assert (short.instructions > 1000).all()
    assert (short.instructions < 1060).all()
    # A tick of the slowest clock is as long as an instruction.
    np.testing.assert_allclose(long.instructions - short.instructions, 2000, atol=4)
    assert 256 < short.stack_bytes < 330
    assert long.stack_bytes - short.stack_bytes == 1000


def test_counts_go_beyond_the_24_bits_of_the_timer(tmp_path: Path) -> None:
    loop = "void add_one(const char *in, char *out) { for (int n = {}; n--;)"
    loop += ' __asm__ volatile("nop"); out[0] = in[0]; }'
    short, long = (
        run(tmp_path, "cortex-m4", loop.replace("{}", rounds)).instructions
        for rounds in ("100000", "5100000")
    )
    np.testing.assert_allclose(long - short, 5_000_000 * 3, atol=200)


@pytest.mark.parametrize(("core", "line", "message"), [
    ("cortex-m0", "__builtin_trap();", "cortex-m0: the program stopped with a HardFault at 0x"),
    ("cortex-m55", "*(volatile int *)0xF0000000 = 0;", "stopped with a HardFault at 0x"),
    ("cortex-m0", "volatile char a[16200]; for (int n = 16200; n--;) a[n] = 1; out[0] = a[0];",
     "its stack is full"),
])  # fmt: skip
def test_faults_are_errors(core: str, line: str, message: str, tmp_path: Path) -> None:
    text = f"void add_one(const char *in, char *out) {{ (void)in, (void)out; {line} }}"
    with pytest.raises(TargetError, match=message):
        run(tmp_path, core, text)


def test_programs_that_hang_are_stopped(tmp_path: Path) -> None:
    """The first input is computed, the second one never."""
    source = tmp_path / "hang.c"
    source.write_text("void hang(const char *in, char *out)"
                      " { for (out[0] = in[0]; in[0];) __asm__ volatile(\"\"); }")  # fmt: skip
    program = build_program([source], "hang", CORES["cortex-m4"], tmp_path, [1], [1])
    with pytest.raises(TargetError, match="no result within 1 s"):
        emulator.run(program, np.array([[0], [1]], np.int8), tmp_path, 1)
    with closing(Emulator(program, 1)) as booted:
        assert booted.call(b"\0", 1) == b"\0"
        assert booted.stack_bytes < 64
        with pytest.raises(TargetError, match="no result within 1 s"):
            booted.call(b"\0\1", 2)


def test_programs_larger_than_the_memory_are_errors(tmp_path: Path) -> None:
    text = "static {}; void add_one(char *in, char *out)"
    text += " {{ in[0] = out[0] = ((volatile char *)big)[1000 * in[0]]; }}"
    for array, region in (("const char big[300000] = {1}", "flash"), ("char big[300000]", "RAM")):
        with pytest.raises(TargetError, match=rf"needs at least 3\d\d,\d+ bytes of {region}"):
            run(tmp_path, "cortex-m0", text.format(array))
