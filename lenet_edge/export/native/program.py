"""The text of a C file that is made from a .tflite graph."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native import arena, isa
from lenet_edge.export.native.lowering.steps import (
    Array,
    Buffer,
    KernelCall,
    Place,
    Program,
    Struct,
    root,
)
from lenet_edge.export.native.text import RESERVED, array, c_float, comment_text
from lenet_edge.export.native.tflite_graph import Tensor

STACK_ARENA_BYTES = 4096  # a larger arena is static memory
MAX_ARENA_BYTES = 1 << 28
_MAX_INLINED_CALLS = 12  # more calls share the functions
_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}
# The C text with the structs that kernels share.
_TYPES = {
    "add": "elements", "multiply": "elements", "max_pool": "pool", "average_pool": "pool",
    "mean": "mean", "resize": "resize",
}  # fmt: skip
_WIDE = ("convolve_wide", "depthwise_wide", "dense_wide")


def write(program: Program, name: str) -> tuple[str, int]:
    """Return the C file without the comment at its top, and the bytes of its arena.

    Args:
        program: the steps.
        name: the name of the function.

    Raises:
        ModelFileError: the tensors need too much memory.
    """
    regions = [buffer.region for buffer in program.buffers if buffer.region is not None]
    planned = arena.plan(regions)
    if planned > MAX_ARENA_BYTES:
        raise ModelFileError(
            f"this network needs {planned / 2**20:.0f} MiB for its activations, and the native"
            f" format has at most {MAX_ARENA_BYTES >> 20} MiB; choose another --format"
        )
    size = -(-(planned + arena.SLACK) // 64) * 64
    is_static = size > STACK_ARENA_BYTES
    kernels = list(dict.fromkeys(call.kernel for call in program.calls))
    levels = isa.compiled_levels(kernels)
    run = _run(program)
    is_small = len(program.calls) <= _MAX_INLINED_CALLS
    uses_floats = any(buffer.is_float for buffer in _all_buffers(program))
    parts = [
        isa.plain("common"),
        *([isa.plain("common_float")] if uses_floats else []),
        *(isa.plain(f"types_{kind}") for kind in _types(kernels)),
        f"#define KERNEL {'INLINE' if is_small else 'static'}\n",
        "".join(f"{each};\n" for each in _signatures(program, name, is_static)),
        *(_array(each) for each in program.arrays),
        _most_inputs(program),
        *(_struct(each) for each in program.structs),
        *(
            f"#if {level.guard} && !defined(PLAIN_C)\n"
            + isa.at_level("\n".join([isa.helpers(level), *_at(level, kernels), run]), level)
            + "#endif\n"
            for level in levels
        ),
        isa.selected_helpers(kernels),
        *(_selected(kernel) for kernel in kernels),
        run,
        _entrances(program, name, size, is_static, levels),
    ]
    return "\n".join(part for part in parts if part), size


def _all_buffers(program: Program) -> list[Buffer]:
    places = [each for call in program.calls for each in call.arguments if isinstance(each, Place)]
    return [place.buffer for place in places]


def _most_inputs(program: Program) -> str:
    """Return the size of the buffer that vector kernels gather a convolution's inputs in."""
    sizes = [
        4
        * math.prod(int(str(each.fields[name])) for name in ("run_rows", "run_cols", "run_groups"))
        for each in program.structs
        if each.kind == "convolution"
    ]
    return f"#define MOST_INPUTS {max(sizes)} /* of one output */\n" if sizes else ""


def _at(level: isa.Isa, kernels: Sequence[str]) -> list[str]:
    return [isa.variant(kernel, level) or _plain(kernel) for kernel in kernels]


def _plain(kernel: str) -> str:
    """Return the text of a kernel in plain C; those for wide weights are made from the others."""
    if kernel not in _WIDE:
        return isa.plain(kernel)
    narrow = kernel.removesuffix("_wide")
    text = isa.plain(narrow).replace(f" {narrow}(", f" {kernel}(")
    return re.sub(r"const int8_t \*w = (\w)->weights", r"const int16_t *w = \1->wide", text)


def _selected(kernel: str) -> str:
    return _plain(kernel) if kernel in _WIDE else isa.selected(kernel)


def _types(kernels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_TYPES[kernel] for kernel in kernels if kernel in _TYPES))


def _array(each: Array) -> str:
    slack = " + SLACK" if each.has_slack else ""
    text = array(each.kind, each.name, each.values)
    text = text.replace(
        f"static const {each.kind} {each.name}[{each.values.size}]",
        f"ALIGNED static const {each.kind} {each.name}[{each.values.size}{slack}]",
    )
    return f"#ifdef {each.guard}\n{text}#endif\n" if each.guard else text


def _struct(each: Struct) -> str:
    lines, line = [], "   "
    for name, value in each.fields.items():
        text = f" .{name} = {_value(value)},"
        if len(line) + len(text) > 98:
            lines.append(line)
            line = "   "
        line += text
    lines.append(line)
    for name, (guard, value) in each.guarded.items():
        lines += [f"#ifdef {guard}", f"    .{name} = {value},", "#endif"]
    body = "\n".join(lines)
    return f"static const struct {each.kind} {each.name} = {{\n{body}\n}};\n"


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(map(str, value)) + "}"
    if isinstance(value, float):
        return c_float(value)
    if value == -(2**31):
        return "(-2147483647 - 1)"
    return str(value)


def _parameters(program: Program) -> list[tuple[str, str, Tensor]]:
    """Return type, name and tensor of each parameter of `run`."""
    ins = [(f"const {_C_TYPES[tensor.dtype]} *", f"in{n}", tensor)
           for n, tensor in enumerate(program.inputs)]  # fmt: skip
    outs = [(f"{_C_TYPES[tensor.dtype]} *", f"out{n}", tensor)
            for n, tensor in enumerate(program.outputs)]  # fmt: skip
    return ins + outs


def _run(program: Program) -> str:
    pairs = _parameters(program)
    parameters = ", ".join(f"{kind}{name}" for kind, name, _ in pairs)
    lines = [f"static void run({parameters}, int8_t *arena) {{"]
    used = " ".join(_call(call) for call in program.calls)
    for name in [*(name for _, name, _ in pairs), "arena"]:
        if not re.search(rf"\b{name}\b", used):
            lines.append(f"  (void){name};")
    for call in program.calls:
        if call.comment:
            lines.append(f"  /* {comment_text(call.comment)} */")
        lines.append(f"  {_call(call)}")
    return "\n".join([*lines, "}", ""])


def _call(call: KernelCall) -> str:
    arguments = ", ".join(
        _place(each, call.images) if isinstance(each, Place) else str(each)
        for each in call.arguments
    )
    text = f"{call.kernel}({arguments});"
    if call.images > 1:
        return f"for (int n = 0; n < {call.images}; n++)\n    {text}"
    return text


def _place(place: Place, images: int) -> str:
    buffer = root(place.buffer)
    begin = place.elements
    moves = f" + n * {place.per_image}" if images > 1 else ""
    if buffer.place != "arena":
        return f"{buffer.base}{f' + {begin}' if begin else ''}{moves}"
    assert buffer.region is not None
    if not place.buffer.is_float:
        return f"arena + {buffer.region.offset + begin}{moves}"
    text = f"FLOATS(arena + {buffer.region.offset})"
    return f"{text}{f' + {begin}' if begin else ''}{moves}"


def _names(program: Program) -> list[str]:
    """Return the names of the parameters of the public functions: those of the tensors, if legal.

    The functions for batches have the plural of each name.
    """
    names: list[str] = []
    unavailable = {*RESERVED, *_USED_NAMES}
    for _, fallback, tensor in _parameters(program):
        name = re.sub(r"\W", "_", tensor.name, flags=re.ASCII)
        if (
            not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name)
            or re.fullmatch(r"(in|out)\d+s?", name)
            or not unavailable.isdisjoint((name, _plural(name)))
        ):
            name = fallback
        unavailable |= {name, _plural(name)}
        names.append(name)
    return names


# Names in the bodies of the public functions.
_USED_NAMES = ("arena", "best", "best_here", "count", "memory", "n", "network", "run",
               "int8_t", "uint8_t", "size_t")  # fmt: skip


def _signatures(program: Program, name: str, is_static: bool) -> list[str]:
    """Return the declarations of the public functions.

    With a static arena there is a third function, which gets the arena from its caller.
    """
    pairs = list(zip(_parameters(program), _names(program), strict=True))
    single = ", ".join(
        f"{kind.removesuffix(' *')} {parameter}[{tensor.size}]"
        for (kind, _, tensor), parameter in pairs
    )
    many = ", ".join(f"{kind}{_plural(parameter)}" for (kind, _, _), parameter in pairs)
    signatures = [f"void {name}({single})", f"void {name}_batch({many}, size_t count)"]
    if is_static:
        signatures.append(f"void {name}_batch_in({many}, size_t count, void *arena)")
    return signatures


def _plural(name: str) -> str:
    return name if name.endswith("s") else f"{name}s"


def _entrances(
    program: Program, name: str, size: int, is_static: bool, levels: Sequence[isa.Isa]
) -> str:
    parameters = ", ".join(f"{kind}{each}" for kind, each, _ in _parameters(program))
    choices = "".join(
        f"#if {level.guard} && !defined(PLAIN_C)\n  if ({level.check})\n"
        f"    return run_{level.name};\n#endif\n"
        for level in levels
    )
    single, batch, *more = _signatures(program, name, is_static)
    names = _names(program)
    tensors = [tensor for _, _, tensor in _parameters(program)]
    advanced = ", ".join(
        f"{_plural(each)} + {tensor.size} * n" for each, tensor in zip(names, tensors, strict=True)
    )
    uses_floats = any(buffer.is_float for buffer in program.buffers)
    kind, count = ("float", size // 4) if uses_floats else ("int8_t", size)
    memory = f"_Alignas(64) {kind} memory[{count}];"
    given = "(int8_t *)memory" if uses_floats else "memory"
    loop = (
        "  network *const best = best_here();\n"
        "  for (size_t n = 0; n < count; n++)\n"
        f"    best({advanced}, {{}});\n"
    )
    bodies = [
        "" if is_static else f"  {memory}\n",
        loop.format(given),
        f"  best_here()({', '.join(names)}, {given});\n",
    ]
    parts = [
        f"typedef void network({parameters}, int8_t *arena);\n",
        f"static network *best_here(void) {{\n{choices}  return run;\n}}\n",
        f"static {memory}\n" if is_static else "",
        f"{single} {{\n{bodies[0]}{bodies[2]}}}\n",
        f"{batch} {{\n{bodies[0]}{bodies[1]}}}\n",
    ]
    if more:
        reentrant = loop.format("(int8_t *)arena")
        parts += [
            f"/* For threads: each one brings an arena of {size} bytes, aligned to 64. */\n"
            f"#define {name.upper()}_ARENA_BYTES {size}\n",
            f"{more[0]} {{\n{reentrant}}}\n",
        ]
    return "\n".join(part for part in parts if part)
