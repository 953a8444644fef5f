"""Write a network as C in floats; its dense layers' weights may be int8."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.calls import MOST_LANES, Calls
from lenet_edge.export.native.network import Layer, Shape
from lenet_edge.export.native.text import prototypes, template

MAX_STACK_BYTES = 4 << 20
# Instruction sets that are asked for at run time, the best first: lanes, and what it is to have.
LEVELS = {"avx512": (16, ("avx512f",)), "avx2": (8, ("avx2", "fma"))}
# The C texts, in the order in which they need each other.
_KERNELS = ("part", "pair", "pad", "conv", "pool", "dense")


def write(
    name: str,
    layers: Sequence[Layer],
    image: Shape,
    classes: int,
    int8: bool,
    lanes: int = MOST_LANES,
) -> tuple[str, int]:
    """Return the C file without the comment at its top, and the bytes of stack that it needs.

    Args:
        name: of the function.
        layers: as `network.read` gives them.
        image: height, width and channels.
        classes: how many logits there are.
        int8: whether the dense layers' weights are rounded to int8.
        lanes: of the widest vectors it will be built for; fewer are fewer zeros as padding.

    Raises:
        ModelFileError: it needs more stack than a thread can be expected to have.
    """
    calls = Calls(int8, lanes)
    body = calls.body(layers, image, classes)
    if calls.stack_bytes > MAX_STACK_BYTES:
        raise ModelFileError(
            f"this network needs {calls.stack_bytes / 2**20:.1f} MiB for its activations, and the"
            f" native format keeps at most {MAX_STACK_BYTES >> 20} MiB, on the stack; choose"
            " another --format"
        )
    helpers = [one for one, wanted in (("int8", int8), ("pair", "pair" in calls.kernels)) if wanted]
    vectors, scalar = (
        "\n".join(template(f"{one}.c") for one in (kind, *(f"{one}_{kind}" for one in helpers)))
        for kind in ("vectors", "scalar")
    )
    kernels = "\n".join(template(f"{one}.c") for one in _KERNELS if one in calls.kernels)
    kernels = kernels.replace("WEIGHT", "int8_t" if int8 else "float")
    kernels = kernels.replace("load_weights", "load_int8" if int8 else "load")
    run = f"static void run(const float *image, float *logits) {{\n{body}}}\n"
    pixels = image[0] * image[1] * image[2]
    parts = [
        template("start.c"),
        "#ifdef CHOOSE_AT_RUN_TIME\n#include <immintrin.h>\n#endif\n" if int8 else "",
        prototypes(name, "float", pixels, classes),
        *calls.arrays,
        "#ifdef CHOOSE_AT_RUN_TIME\n",
        *(_at_level(f"{vectors}\n{kernels}\n{run}", level) for level in LEVELS),
        "#endif\n",
        f"#if LANES > 1\n{vectors}#else\n{scalar}#endif\n",
        kernels,
        run,
        _entrances(name, pixels, classes),
    ]
    return "\n".join(parts), calls.stack_bytes


def _at_level(text: str, level: str) -> str:
    """Return C text with names of its own, for one instruction set, without the comments."""
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
        asked = " && ".join(f'__builtin_cpu_supports("{one}")' for one in needs)
        choices += f"  if ({asked})\n    return run_{level};\n"
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
