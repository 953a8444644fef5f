"""Compare random graphs on emulated Cortex-M cores with TensorFlow Lite, bit for bit.

Run it with ``python -m tests.cortex_m.random_graphs --count 100 --core cortex-m4``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import CORES, Core
from lenet_edge.microcontrollers.program import build_program
from tests.export.native_random import Case, Values, differences, random_case
from tests.export.random_graphs import KINDS

_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t"}
_AT_ONCE = 20
FLAGS = ("-O1", "-Wall", "-Wextra", "-Werror")


def run_cases(cases: Sequence[Case], core: Core, folder: Path) -> list[list[Values]]:
    """Return the outputs of cases, which are one program for the core."""
    sources = [folder / "all.c", *(folder / f"{case.name}.c" for case in cases)]
    for case, source in zip(cases, sources[1:], strict=True):
        source.write_text(case.compiled.source, encoding="utf-8")
    lines = ["#include <stddef.h>", "#include <stdint.h>", "void all(const int8_t *, int8_t *);"]
    calls, places = [], [0, 0]
    for case in cases:
        kinds, arguments = [], []
        for is_output, specs in enumerate((case.compiled.inputs, case.compiled.outputs)):
            for spec in specs:
                kind = f"{'' if is_output else 'const '}{_C_TYPES[spec.dtype]} *"
                kinds.append(kind)
                side = "out" if is_output else "in"
                arguments.append(f"({kind})({side} + {places[is_output]})")
                places[is_output] += case.count * int(np.prod([size or 1 for size in spec.shape]))
        lines.append(f"void {case.name}_batch({', '.join(kinds)}, size_t count);")
        calls.append(f"  {case.name}_batch({', '.join(arguments)}, {case.count});")
    lines += ["void all(const int8_t *in, int8_t *out) {", *calls, "}", ""]
    sources[0].write_text("\n".join(lines), encoding="utf-8")
    inputs = np.frombuffer(b"".join(each.tobytes() for case in cases for each in case.inputs), "i1")
    program = build_program(sources, "all", core, folder, [places[0]], [places[1]], flags=FLAGS)
    outputs = emulator.run(program, inputs[np.newaxis], folder, options=()).outputs[0].tobytes()
    results, at = [], 0
    for case in cases:
        result: list[Values] = []
        for spec in case.compiled.outputs:
            shape = (case.count, *(size or 1 for size in spec.shape))
            values = np.frombuffer(outputs, spec.dtype, int(np.prod(shape)), at)
            result.append(values.reshape(shape))
            at += values.nbytes
        results.append(result)
    return results


def count_wrong(seeds: Sequence[int], core: Core, kinds: tuple[str, ...] = KINDS) -> int:
    """Return the number of random graphs that differ on a core; print them."""
    if core.name == "cortex-m0":  # its board has 16 kB of RAM; its code runs on a larger one
        core = replace(CORES["cortex-m3"], name=core.name)
    wrong = 0
    for first in range(0, len(seeds), _AT_ONCE):
        cases = [random_case(seed, ("int8", "uint8")[seed % 4 == 3], kinds)
                 for seed in seeds[first : first + _AT_ONCE]]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            results = run_cases(cases, core, Path(folder))
        for case, outputs in zip(cases, results, strict=True):
            if report := differences(case, outputs):
                wrong += 1
                print(report)
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--core", choices=CORES, default="cortex-m4")
    parser.add_argument("--kinds", default=",".join(KINDS), help="operators, with commas")
    choices = parser.parse_args(arguments)
    seeds = range(choices.first, choices.first + choices.count)
    wrong = count_wrong(seeds, CORES[choices.core], tuple(choices.kinds.split(",")))
    print(f"{choices.count} graphs, {wrong} wrong on {choices.core}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
