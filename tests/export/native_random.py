"""Compare random graphs as C files with TensorFlow Lite's reference kernels, bit for bit.

Run it with ``python -m tests.export.native_random --count 500``. Another compiler, an emulator or
an instruction set can be chosen, for example
``--cc "aarch64-linux-gnu-gcc -static" --run qemu-aarch64-static`` or ``--without vnni``.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.export.native import compiler
from lenet_edge.export.native.isa import ISAS
from lenet_edge.runtimes.litert import open_reference_kernels
from tests.export.random_graphs import KINDS, RandomGraph

FLAGS = ("-O1", "-ffp-contract=fast", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}
# Compilers need more time for these headers than for most cases.
_INTRINSICS = """
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif
"""
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A graph, its C code, and the inputs to try; each array holds `count` of them."""

    name: str
    content: bytes
    compiled: compiler.Compiled
    inputs: tuple[Values, ...]

    @property
    def count(self) -> int:
        return len(self.inputs[0])


def make_case(name: str, content: bytes, seed: int = 0, count: int = 3) -> Case:
    """Return a .tflite file with its C code and random inputs."""
    compiled = compiler.compile_tflite(content, name, f"{name}.tflite")
    random = np.random.default_rng(seed)
    return Case(
        name, content, compiled, tuple(_inputs(spec, random, count) for spec in compiled.inputs)
    )


def random_case(seed: int, dtype: str, kinds: tuple[str, ...] = KINDS) -> Case:
    """Return a random graph with inputs."""
    random = np.random.default_rng(seed)
    steps, inputs = int(random.integers(1, 12)), 1 + int(random.random() < 0.3)
    content = RandomGraph(random, dtype).build(steps, inputs, kinds)
    name = kinds[0].lower() if len(kinds) == 1 else "g"
    return make_case(f"{name}_{seed}_{dtype}", content, seed)


def _inputs(spec: TensorSpec, random: np.random.Generator, count: int) -> Values:
    shape = (count, *(size or 1 for size in spec.shape))
    if spec.dtype == "float32":
        return random.standard_normal(shape).astype(np.float32)
    limits = np.iinfo(spec.dtype)
    return random.integers(limits.min, limits.max + 1, shape).astype(spec.dtype)


def reference(content: bytes, inputs: Sequence[Values]) -> list[Values]:
    """Return the outputs of TensorFlow Lite's reference kernels."""
    interpreter = open_reference_kernels(content)
    interpreter.allocate_tensors()
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
    results: list[list[Values]] = [[] for _ in outs]
    for n in range(len(inputs[0])):
        for facts, values in zip(ins, inputs, strict=True):
            interpreter.set_tensor(facts["index"], values[n].reshape(facts["shape"]))
        interpreter.invoke()
        for result, facts in zip(results, outs, strict=True):
            result.append(interpreter.get_tensor(facts["index"]).copy())
    return [np.stack(result) for result in results]


def _main(cases: Sequence[Case]) -> str:
    """Return a C program that reads the inputs of all cases and writes their outputs."""
    lines = ["#include <stdint.h>", "#include <stdio.h>", "#include <stdlib.h>"]
    calls = []
    for case in cases:
        specs = [(spec, True) for spec in case.compiled.inputs]
        specs += [(spec, False) for spec in case.compiled.outputs]
        kinds = [f"{'const ' if is_input else ''}{_C_TYPES[spec.dtype]} *"
                 for spec, is_input in specs]  # fmt: skip
        lines.append(f"void {case.name}_batch({', '.join(kinds)}, size_t count);")
        calls.append("  {")
        for number, (spec, is_input) in enumerate(specs):
            size = case.count * int(np.prod([size or 1 for size in spec.shape]))
            kind = _C_TYPES[spec.dtype]
            calls.append(f"    {kind} *t{number} = malloc({size} * sizeof *t{number});")
            if is_input:
                read = f"fread(t{number}, sizeof *t{number}, {size}, stdin)"
                calls.append(f"    if ({read} != {size}) return 1;")
        names = ", ".join(f"t{number}" for number in range(len(specs)))
        calls.append(f"    {case.name}_batch({names}, {case.count});")
        for number, (spec, is_input) in enumerate(specs):
            size = case.count * int(np.prod([size or 1 for size in spec.shape]))
            if not is_input:
                calls.append(f"    fwrite(t{number}, sizeof *t{number}, {size}, stdout);")
            calls.append(f"    free(t{number});")
        calls.append("  }")
    return "\n".join([*lines, "int main(void) {", *calls, "  return 0;", "}", ""])


def cut_levels(text: str, names: Iterable[str]) -> str:
    """Return C text without some of the instruction sets that it chooses at run time."""
    for name in names:
        choice = rf"  if \(.*\)\n    return run_{name};"
        if re.search(choice, text):
            for place in (rf"/\* ---- {name} ---- \*/", choice):
                text = re.sub(rf"^#if .*\n(?={place})", "#if 0\n", text, flags=re.MULTILINE)
    return text


@functools.cache
def unused_levels(without: tuple[str, ...] = ()) -> list[str]:
    """Return the instruction sets of x86 whose kernels do not run on this machine.

    A C file runs the kernels of the best instruction set only.
    """
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    features = set(text.replace("avx512_vnni", "avx512vnni").replace("avx_vnni", "avxvnni").split())
    levels = [isa for isa in ISAS if isa.is_chosen_at_run_time and "CHOOSE_X86" in isa.guard]
    best = next(
        (
            isa.name
            for isa in levels
            if isa.name not in without and features >= set(re.findall(r'"(\w+)"', isa.check))
        ),
        "",
    )
    return [isa.name for isa in levels if isa.name != best]


@functools.cache
def _precompiled(command: tuple[str, ...], flags: tuple[str, ...]) -> tuple[str, ...]:
    """Compile `_INTRINSICS` once; return the flags that include the result.

    Without a result, for example because another compiler has another suffix for it, compilers
    read the header itself.
    """
    folder = tempfile.mkdtemp(prefix="intrinsics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    header = Path(folder, "intrinsics.h")
    header.write_text(_INTRINSICS, encoding="utf-8")
    words = [*command, *flags, "-x", "c-header", str(header), "-o", f"{header}.gch"]
    subprocess.run(words, capture_output=True, timeout=300)
    return "-include", str(header)


def run_cases(
    cases: Sequence[Case],
    folder: Path,
    command: Sequence[str] = ("cc",),
    runner: Sequence[str] = (),
    flags: Sequence[str] = FLAGS,
    without: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> list[list[Values]]:
    """Compile cases into one program, run it, and return the outputs of each case.

    Args:
        cases: the graphs.
        folder: a folder for the C files.
        command: the compiler.
        runner: an emulator, or nothing.
        flags: flags of the compiler.
        without: instruction sets to leave out, as on a processor that lacks them.
        environment: variables of the emulator.
    """
    program = build_cases(cases, folder, command, flags, without)
    return call_program(program, cases, runner, environment)


def build_cases(
    cases: Sequence[Case],
    folder: Path,
    command: Sequence[str] = ("cc",),
    flags: Sequence[str] = FLAGS,
    without: Sequence[str] = (),
) -> Path:
    """Compile cases into one program, and return its path; see `run_cases`."""
    sources = [folder / "main.c", *(folder / f"{case.name}.c" for case in cases)]
    sources[0].write_text(_main(cases), encoding="utf-8")
    for case, path in zip(cases, sources[1:], strict=True):
        unused = {*without, *unused_levels(tuple(without))}
        text = cut_levels(case.compiled.source, unused)
        path.write_text(text, encoding="utf-8")
    program = folder / "program"
    headers = _precompiled(tuple(command), tuple(flags)) if len(cases) > 3 else ()
    built = subprocess.run(
        [*command, *flags, *headers, *map(str, sources), "-o", str(program)],
        capture_output=True, text=True, timeout=590,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:3000]
    return program


def call_program(
    program: Path,
    cases: Sequence[Case],
    runner: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> list[list[Values]]:
    """Run a program of `build_cases`, and return the outputs of each case."""
    fed = b"".join(values.tobytes() for case in cases for values in case.inputs)
    done = subprocess.run(
        [*runner, str(program)], input=fed, capture_output=True, timeout=590, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()[:3000]
    results, at = [], 0
    for case in cases:
        outputs = []
        for spec in case.compiled.outputs:
            shape = (case.count, *(size or 1 for size in spec.shape))
            size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
            outputs.append(np.frombuffer(done.stdout[at : at + size], spec.dtype).reshape(shape))
            at += size
        results.append(outputs)
    assert at == len(done.stdout)
    return results


def differences(case: Case, outputs: Sequence[Values]) -> str:
    """Return how the outputs of a case differ from the reference kernels; "" if they are equal.

    Integers must be equal. Floats may differ by the rounding of their sums.
    """
    for number, (output, wanted) in enumerate(
        zip(outputs, reference(case.content, case.inputs), strict=True)
    ):
        wanted = wanted.reshape(output.shape)  # noqa: PLW2901
        if output.dtype.kind == "f":
            error = np.abs(output - wanted) / max(1.0, float(np.abs(wanted).max()))
            is_right = bool((error < 1e-4).all())
        else:
            is_right = np.array_equal(output, wanted)
        if not is_right:
            wrong = int((output != wanted).sum())
            return f"{case.name}: output {number} differs in {wrong} of {output.size} values"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--dtype", action="append", choices=["int8", "uint8", "float32"])
    parser.add_argument("--kinds", default=",".join(KINDS), help="operators, with commas")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--run", default="")
    parser.add_argument("--flags", default="")
    parser.add_argument("--without", action="append", default=[])
    choices = parser.parse_args(arguments)
    dtypes = choices.dtype or ["int8", "uint8", "float32"]
    wrong = 0
    for first in range(choices.first, choices.first + choices.count, 25):
        seeds = range(first, min(first + 25, choices.first + choices.count))
        kinds = tuple(choices.kinds.split(","))
        cases = [random_case(seed, dtypes[seed % len(dtypes)], kinds) for seed in seeds]
        with tempfile.TemporaryDirectory() as folder:
            results = run_cases(
                cases,
                Path(folder),
                shlex.split(choices.cc),
                shlex.split(choices.run),
                (*FLAGS, *shlex.split(choices.flags)),
                choices.without,
            )
        for case, outputs in zip(cases, results, strict=True):
            report = differences(case, outputs)
            if report:
                wrong += 1
                print(report)
        print(f"{seeds[-1] + 1 - choices.first} graphs, {wrong} wrong", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
