"""Memory of C files on Cortex-M: as a compiler builds them, and estimated."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lenet_edge.cli import main
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.flows.fit import find_fits
from lenet_edge.microcontrollers import footprint
from lenet_edge.microcontrollers.boards import BOARDS
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.fit import BoardFit
from lenet_edge.microcontrollers.footprint import Footprint
from lenet_edge.microcontrollers.toolchain import find_toolchain
from tests.export.native_random import random_case

EXPORTED = Path(__file__).parents[2] / "exported"
INT8, FLOAT = EXPORTED / "lenet_native_int8.c", EXPORTED / "lenet_native_float32.c"
needs_compiler = pytest.mark.needs("arm-none-eabi-gcc")


def test_the_sections_of_an_estimate() -> None:
    """The weights are exact, and the arena of the float file is on the stack."""
    estimated = footprint.estimate(FLOAT.read_bytes(), CORES["cortex-m4"])
    assert (estimated.constant_bytes, estimated.variable_bytes) == (263_872, 0)
    assert 27_200 < estimated.stack_bytes < 30_000
    assert estimated.compiler is None


@needs_compiler
@pytest.mark.costly
@pytest.mark.parametrize(("path", "core"), [
    (INT8, "cortex-m0"), (INT8, "cortex-m55"), (FLOAT, "cortex-m4")
])  # fmt: skip
def test_an_estimate_is_near_what_is_built(path: Path, core: str) -> None:
    estimated = footprint.estimate(path.read_bytes(), CORES[core])
    built = footprint.build(path.read_bytes(), CORES[core], find_toolchain())
    assert built.compiler is not None
    assert built.flash_bytes <= estimated.flash_bytes <= 1.13 * built.flash_bytes
    assert built.ram_bytes <= estimated.ram_bytes <= 2 * built.ram_bytes
    if path == INT8:  # near what is painted in QEMU
        assert built.stack_bytes == pytest.approx(
            {"cortex-m0": 4100, "cortex-m55": 2300}[core], 0.05
        )


@needs_compiler
@pytest.mark.slow
def test_no_estimate_is_too_low() -> None:
    for seed in range(3000, 3006):
        content = random_case(seed, ("int8", "float32")[seed % 2]).compiled.file("int8")
        core = CORES[("cortex-m0", "cortex-m4")[seed // 2 % 2]]
        estimated = footprint.estimate(content, core)
        built = footprint.build(content, core, find_toolchain())
        assert built.flash_bytes <= estimated.flash_bytes, seed
        assert built.variable_bytes == estimated.variable_bytes, seed
        assert built.stack_bytes <= estimated.stack_bytes, seed


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in (b"int main(void) { return 0; }", b"/* Neural network */ int x;"):
        with pytest.raises(ModelFileError, match="not a C file of lenet-edge"):
            footprint.estimate(content, CORES["cortex-m4"])
    with pytest.raises(ModelFileError, match="has no C code to compare"):
        find_fits(EXPORTED / "lenet_int8.onnx", ["pico"])


@needs_compiler
def test_errors_of_the_compiler_are_one_line() -> None:
    content = b"/* Neural */\nvoid net_batch(void);\nint x = ;\n"
    with pytest.raises(TargetError, match=r"arm-none-eabi-gcc reports: .*error"):
        footprint.build(content, CORES["cortex-m4"], find_toolchain())


def test_the_stack_is_that_of_the_deepest_path() -> None:
    node = 'node: {{ title: "{0}" label: "{0}\\nfile.c:1:2\\n{1} bytes (static)" }}\n'
    edge = 'edge: {{ sourcename: "{}" targetname: "{}" label: "file.c:3:4" }}\n'
    frames = {"net": 8, "wide": 500, "deep": 300, "end": 300}
    graph = "".join(node.format(*frame) for frame in frames.items())
    graph += 'node: { title: "memcpy" label: "__builtin_memcpy\\n<built-in>" shape : ellipse }\n'
    calls = [("net", "wide"), ("net", "deep"), ("deep", "end"), ("end", "memcpy"), ("end", "deep")]
    graph += "".join(edge.format(*call) for call in calls)
    assert footprint.stack_bytes(graph, "net") == 608
    graph = "".join(edge.format(n, n + 1) for n in range(100_000))
    with pytest.raises(ModelFileError, match="call each other too deeply"):
        footprint.stack_bytes(graph, "0")


@pytest.mark.parametrize(("flash", "ram", "fits", "words"), [
    (262_144, 16_384, True, "100.0%) of"),
    (262_145, 10, False, "1 bytes of flash too many"),
    (10, 16_385, False, "1 bytes of RAM too many"),
    (262_146, 16_386, False, "2 bytes of flash and 2 bytes of RAM too many"),
])  # fmt: skip
def test_a_board_is_full_to_the_last_byte(flash: int, ram: int, fits: bool, words: str) -> None:
    memory = Footprint("cortex-m0", 5, flash - 5, 7, ram - 7, "gcc")
    fit = BoardFit(BOARDS["microbit-v1"], memory)
    assert fit.fits == fits
    assert words in str(fit) or fits
    assert str(fit).startswith("fits on BBC" if fits else "does not fit on BBC")


def test_inspect_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A .tflite file is translated; the figures are estimates, and the exit status is a verdict."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    arguments = ["inspect", str(EXPORTED / "lenet_int8.tflite"), "--board", "pico"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "Fits on Raspberry Pi Pico (Cortex-M0+): it takes at most 6" in words
    assert "Estimated, and rounded up, because there is no compiler for Cortex-M; apt" in words
    assert "Raspberry Pi Pico: The Pico SDK's stack has" in words
    arguments = ["inspect", str(FLOAT), "--board", "microbit-v1", "--board", "pico", "--json", "-"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 3
    small, large = json.loads(done.output)["boards"]
    assert (small["fits"], large["fits"]) == (False, True)
    assert small["flash_left"] < 0
    assert small["board"]["flash_source"].startswith("Zephyr, ")
    assert small["footprint"]["constant_bytes"] == 263_872
