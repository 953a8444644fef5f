"""C files with float arithmetic; the weights of dense layers may be int8."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.calls import MOST_LANES, Calls
from lenet_edge.export.native.network import NativeLayer, Shape
from lenet_edge.export.native.text import prototypes, template

MAX_STACK_BYTES = 4 << 20
# Instruction sets that the C code detects at run time, best first: lanes and CPU features.
LEVELS = {"avx512": (16, ("avx512f",)), "avx2": (8, ("avx2", "fma"))}
# With int8 weights: the headers of vector functions that compilers do not generate by themselves.
_INCLUDES = """\
#ifdef CHOOSE_AT_RUN_TIME
#include <immintrin.h>
#endif
#if LANES == 4 && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#include <arm_neon.h>
#define HAS_NEON 1
#else
#define HAS_NEON 0
#endif
"""
# The C files, each after those that it uses.
_KERNELS = ("part", "pair", "pad", "conv", "pool", "dense")


def write(
    name: str,
    layers: Sequence[NativeLayer],
    image: Shape,
    classes: int,
    int8: bool,
    lanes: int = MOST_LANES,
) -> tuple[str, int]:
    """Return the C file without the comment at its top, and the bytes of stack that it needs.

    Args:
        name: the name of the function.
        layers: the layers that `network.read` returns.
        image: height, width and channels.
        classes: the number of logits.
        int8: whether the weights of dense layers are rounded to int8.
        lanes: floats in the widest vectors of the target; fewer lanes need less padding.

    Raises:
        ModelFileError: the network needs more than `MAX_STACK_BYTES` of stack.
    """
    calls = Calls(int8, lanes)
    body = calls.body(layers, image, classes)
    if calls.stack_bytes > MAX_STACK_BYTES:
        raise ModelFileError(
            f"this network needs {calls.stack_bytes / 2**20:.1f} MiB for its activations, and the"
            f" native format keeps at most {MAX_STACK_BYTES >> 20} MiB, on the stack; choose"
            " another --format"
        )
    helpers = [*(["int8"] if int8 else []), *(["pair"] if "pair" in calls.kernels else [])]
    vectors, scalar = (
        "\n".join(template(f"{name}.c") for name in (kind, *(f"{x}_{kind}" for x in helpers)))
        for kind in ("vectors", "scalar")
    )
    kernels = "\n".join(template(f"{kernel}.c") for kernel in _KERNELS if kernel in calls.kernels)
    kernels = kernels.replace("WEIGHT", "int8_t" if int8 else "float")
    kernels = kernels.replace("load_weights", "load_int8" if int8 else "load")
    run = f"static void run(const float *image, float *logits) {{\n{body}}}\n"
    pixels = image[0] * image[1] * image[2]
    parts = [
        template("start.c"),
        _INCLUDES if int8 else "",
        prototypes(name, "float", pixels, classes),
        *calls.arrays,
        "#ifdef CHOOSE_AT_RUN_TIME\n",
        *(_at_level(f"{vectors}\n{kernels}\n{run}", level) for level in LEVELS),
        "#endif\n",
        f"#if LANES > 1\n{vectors}#else\n{scalar}#endif\n",
        _with_neon(kernels) if int8 and "dense" in calls.kernels else kernels,
        run,
        _entrances(name, pixels, classes),
    ]
    return "\n".join(parts), calls.stack_bytes


def _with_neon(kernels: str) -> str:
    """Return kernels of int8 weights, with `dense_int8_neon.c` as the dense layer of NEON."""
    others = template("dense.c").replace("WEIGHT", "int8_t").replace("load_weights", "load_int8")
    both = f"#if HAS_NEON\n{template('dense_int8_neon.c')}#else\n{others}#endif\n"
    return kernels.replace(others, both)


def _at_level(text: str, level: str) -> str:
    """Return C text for one instruction set: with a suffix to every name, without comments."""
    lanes, needs = LEVELS[level]
    text = re.sub(r"^ */\*.*?\*/\n| /\*.*?\*/", "", text, flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"^(?:INLINE|static) [^(]*?(\w+)\(", text, re.MULTILINE)
    names += re.findall(r"^typedef \w+ (\w+)", text, re.MULTILINE)
    for name in names:
        text = re.sub(rf"\b{name}\b", f"{name}_{level}", text)
    text = re.sub(r"\bLANES\b", str(lanes), text)
    text = re.sub(r"^(INLINE|static)\b", rf"\1 {level.upper()}", text, flags=re.MULTILINE)
    return (
        f"/* ---- {level}: the text further down, for {lanes} lanes ---- */\n\n"
        f'#define {level.upper()} __attribute__((target("{",".join(needs)}")))\n\n{text}'
    )


def _entrances(name: str, pixels: int, classes: int) -> str:
    choices = ""
    for level, (_, needs) in LEVELS.items():
        condition = " && ".join(f'__builtin_cpu_supports("{feature}")' for feature in needs)
        choices += f"  if ({condition})\n    return run_{level};\n"
    return f"""typedef void network(const float *image, float *logits);

static network *best_here(void) {{
#ifdef CHOOSE_AT_RUN_TIME
{choices}#endif
  return run;
}}

void {name}(const float image[{pixels}], float logits[{classes}]) {{
  best_here()(image, logits);
}}

void {name}_batch(const float *images, float *logits, size_t count) {{
  network *const best = best_here();
  for (size_t n = 0; n < count; n++)
    best(images + {pixels} * n, logits + {classes} * n);
}}
"""
