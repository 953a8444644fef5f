"""The int8 kernels of every x86 instruction set, forced one by one, and those of WebAssembly.

Processors without AVX-512 or VNNI run these kernels too: `emulated/immintrin.h` replaces their
instructions by C.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.export import wasm
from lenet_edge.export.native.isa import ISAS
from tests.export.native_random import (
    Case,
    Values,
    cut_levels,
    differences,
    make_case,
    random_case,
    run_cases,
)
from tests.needs import BUILD_WASM, require

EMULATED = Path(__file__).with_name("emulated")
LENET = Path(__file__).parents[3] / "exported" / "lenet_int8.tflite"
FLAGS = ("-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-isystem", str(EMULATED))
LEVELS = ("vnni", "avxvnni", "avx2")
KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD")


def emulate(case: Case, level: str) -> Case:
    """Return a case whose C file has one instruction set and needs no more than AVX2."""
    others = (isa.name for isa in ISAS if isa.is_chosen_at_run_time and isa.name != level)
    text = cut_levels(case.compiled.source, others)
    assert f"return run_{level};" in text
    text = re.sub(rf"^  if \(.*\)\n(    return run_{level};)", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r'target\("[^"]*"\)', 'target("avx2,fma")', text)
    return replace(case, compiled=replace(case.compiled, source=text))


def make_cases() -> list[Case]:
    cases = [random_case(seed, "int8", (kind,)) for kind in KINDS for seed in range(2)]
    cases += [random_case(10, "uint8", (kind,)) for kind in KINDS]
    return [*cases, make_case("lenet", LENET.read_bytes(), count=20)]


@pytest.mark.needs("gcc")
@pytest.mark.costly
@pytest.mark.parametrize("level", [pytest.param("vnni", marks=pytest.mark.slow), *LEVELS[1:]])
def test_each_instruction_set_is_exact(level: str, tmp_path: Path) -> None:
    if " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX2")
    # Graphs whose weights need nine bits have no kernels for vectors.
    cases = [
        emulate(case, level)
        for case in make_cases()
        if f"return run_{level};" in case.compiled.source
    ]
    assert len(cases) > 7
    outputs = run_cases(cases, tmp_path, ("gcc",), flags=FLAGS)
    reports = [differences(case, found) for case, found in zip(cases, outputs, strict=True)]
    assert not any(reports), [report for report in reports if report]


@pytest.mark.costly
def test_webassembly_is_exact(tmp_path: Path) -> None:
    require(*BUILD_WASM)
    reports = [differences(case, run_wasm(case, tmp_path)) for case in make_cases()]
    assert not any(reports), [report for report in reports if report]


def run_wasm(case: Case, folder: Path) -> list[Values]:
    """Return the outputs of a case with int8 tensors, compiled to WebAssembly."""
    import wasmtime

    source, output = folder / f"{case.name}.c", folder / f"{case.name}.wasm"
    source.write_text(case.compiled.source, encoding="utf-8")
    (folder / "string.h").write_text(wasm._STRING_H, encoding="utf-8")
    flags = [*wasm._FLAGS, "-O1", "-isystem", str(folder), "-Wall", "-Wextra", "-Werror"]
    options = [*wasm._LINKER_OPTIONS, f"--export={case.name}_batch", "-z", "stack-size=262144"]
    command = ["clang", *flags, *(f"-Wl,{option}" for option in options), source, "-o", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[:3000]
    store = wasmtime.Store()
    module = wasmtime.Module.from_file(store.engine, str(output))
    exports: Any = wasmtime.Instance(store, module, []).exports(store)
    memory, address = exports["memory"], exports["__heap_base"].value(store)
    tensors = list(case.inputs)
    for spec in case.compiled.outputs:
        shape = (case.count, *(size or 1 for size in spec.shape))
        tensors.append(np.zeros(shape, spec.dtype))
    addresses = []
    for tensor in tensors:
        addresses.append(address)
        address += -(-tensor.nbytes // 64) * 64
    memory.grow(store, address // 65536 + 1)
    for tensor, place in zip(tensors, addresses, strict=True):
        memory.write(store, tensor.tobytes(), place)
    exports[f"{case.name}_batch"](store, *addresses, case.count)
    return [
        np.frombuffer(
            bytes(memory.read(store, place, place + tensor.nbytes)), tensor.dtype
        ).reshape(tensor.shape)
        for tensor, place in zip(tensors, addresses, strict=True)
    ][len(case.inputs) :]
