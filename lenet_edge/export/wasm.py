"""Export to WebAssembly: the C of `native`, compiled by clang to one file that browsers run.

The file needs 128-bit SIMD and bulk memory operations. All current browsers have them: Chrome
since 91 and Firefox since 89 (both 2021), Safari since 16.4 (2023). The file imports nothing. It
exports its memory, the two functions of the C file, and the start of free memory.
"""

from __future__ import annotations

import json
import os
import re
import shutil

from lenet_edge import __version__
from lenet_edge.errors import ModelFileError
from lenet_edge.export import native
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.embed import embed
from lenet_edge.export.native.text import identifier
from lenet_edge.support.child_program import run_program
from lenet_edge.support.temporary import temporary_folder

CONVERTER = f"lenet-edge {__version__} wasm"
PRECISIONS = ("float32", "dynamic", "int8", "int4")
_FLAGS = ("--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib", "-nostdlibinc")
# The stack comes first in memory, so that a stack overflow traps and cannot overwrite the weights.
_LINKER_OPTIONS = ("--no-entry", "--strip-debug", "--stack-first", "--export=__heap_base")
# The only library functions that the C code calls; each call becomes one instruction.
_STRING_H = """#include <stddef.h>
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
"""
_FRAMES_BYTES = 16 << 10  # stack for the compiler's own variables, beside the buffers


def convert(request: ConversionRequest) -> Converted:
    """Convert a classifier to a .wasm file.

    Raises:
        ModelFileError: a layer is not supported, or clang cannot build the file.
    """
    name = identifier(request.name)
    compiled = native.write(request, name, lanes=4)
    stack_bytes = _FRAMES_BYTES + compiled.stack_bytes
    if gathered := re.search(r"^#define MOST_INPUTS (\d+)", compiled.source, re.MULTILINE):
        stack_bytes += 8 * int(gathered[1])  # a convolution's inputs, in `convolve_lanes.c`
    stack_bytes = -(-stack_bytes // 1024) * 1024
    with temporary_folder() as folder:
        code, output = folder / f"{name}.c", folder / f"{name}.wasm"
        code.write_text(compiled.source, encoding="utf-8")
        (folder / "string.h").write_text(_STRING_H, encoding="utf-8")
        exports = (f"--export={name}", f"--export={name}_batch")
        options = (*_LINKER_OPTIONS, *exports, "-z", f"stack-size={stack_bytes}")
        linker = [f"-Wl,{option}" for option in options]
        command = [
            compiler(),
            *_FLAGS,
            "-isystem",
            str(folder),
            *linker,
            str(code),
            "-o",
            str(output),
        ]
        process = run_program(command, folder)
        if process.returncode:
            errors = [line for line in process.stderr.splitlines() if "error" in line] or [""]
            raise ModelFileError(
                f"clang cannot build WebAssembly of it: {' '.join(errors[0].split())[:200]};"
                " install a clang with the wasm32 target (Debian: apt install clang lld)"
            )
        contract = json.dumps(compiled.contract(), separators=(",", ":"))
        content = embed(output.read_bytes(), "wasm", contract)
        return Converted(content, tensors=(compiled.inputs, compiled.outputs))


def compiler() -> str:
    """Return the path of clang.

    Raises:
        ModelFileError: clang or its WebAssembly linker is not installed.
    """
    for program in ("clang", "wasm-ld"):
        if shutil.which(program) is None:
            raise ModelFileError(
                f"--format wasm needs clang and wasm-ld, and there is no {program}; install both"
                " (Debian: apt install clang lld)"
            )
    return os.path.abspath(shutil.which("clang") or "")
