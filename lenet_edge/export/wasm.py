"""Export to WebAssembly: the C of `native`, built by clang into one file that any browser runs.

The file needs SIMD of 128 bits and bulk memory operations, which all current browsers have:
Chrome since 91 and Firefox since 89 (both 2021), Safari since 16.4 (2023). It imports nothing, and
exports its memory, the two functions of the C file, and where free memory begins.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.artifacts.embedded import read_wasm
from lenet_edge.errors import ModelFileError
from lenet_edge.export import native
from lenet_edge.export.embed import embed
from lenet_edge.target import Images

CONVERTER = f"lenet-edge {__version__} wasm"
# Without int8: it is for microcontrollers, and slower in a browser than floats are.
PRECISIONS = ("float32", "dynamic")
_FLAGS = ("--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib", "-nostdlibinc")
# The stack lies lowest, so that what is too much traps instead of writing over the weights.
_LINKED = ("--no-entry", "--strip-debug", "--stack-first", "--export=__heap_base")
# All that the C needs of a library; each call becomes one instruction.
_STRING_H = """#include <stddef.h>
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
"""
_FRAMES_BYTES = 16 << 10  # of stack, for what a compiler puts beside the buffers


def convert(
    model: Any,
    precision: str,
    calibration: Images,
    batch_size: int | None = None,
    name: str = "lenet",
) -> bytes:
    """Return the .wasm file of a sequential Keras classifier; see `native.convert`.

    Raises:
        ModelFileError: a layer is not covered, or clang cannot build the file.
    """
    source, stack_bytes, tensors = native.write(
        model, precision, calibration, batch_size, name, lanes=4
    )
    stack_bytes = -(-(stack_bytes + _FRAMES_BYTES) // 1024) * 1024
    with tempfile.TemporaryDirectory() as folder:
        code, output = Path(folder, f"{name}.c"), Path(folder, f"{name}.wasm")
        code.write_text(source, encoding="utf-8")
        Path(folder, "string.h").write_text(_STRING_H, encoding="utf-8")
        exports = (f"--export={name}", f"--export={name}_batch")
        linked = [f"-Wl,{one}" for one in (*_LINKED, *exports, "-z", f"stack-size={stack_bytes}")]
        command = [compiler(), *_FLAGS, "-isystem", folder, *linked, str(code), "-o", str(output)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            wrong = [line for line in done.stderr.splitlines() if "error" in line] or [""]
            raise ModelFileError(
                f"clang cannot build WebAssembly of it: {' '.join(wrong[0].split())[:200]}; is it a"
                " clang with that target? Debian's is: apt install clang lld"
            )
        return embed(output.read_bytes(), "wasm", json.dumps(tensors, separators=(",", ":")))


def compiler() -> str:
    """Return the path of clang.

    Raises:
        ModelFileError: it, or its linker for WebAssembly, is not installed.
    """
    for program in ("clang", "wasm-ld"):
        if shutil.which(program) is None:
            raise ModelFileError(
                f"--format wasm needs clang and wasm-ld, and there is no {program}; install both"
                " (Debian: apt install clang lld)"
            )
    return shutil.which("clang") or ""


def tensors(content: bytes) -> dict[str, tuple[TensorSpec, ...]]:
    """Return the ``inputs`` and ``outputs`` that a .wasm file made here says it has."""
    facts = json.loads(read_wasm(content) or b"{}")
    return {
        side: tuple(TensorSpec(**spec) for spec in facts[side]) for side in ("inputs", "outputs")
    }
