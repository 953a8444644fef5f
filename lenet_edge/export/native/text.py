"""Text of the C files: arrays, names, the comment at the top, and the header."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.preprocessing import Preprocessing
from lenet_edge.support.printable import make_printable

_WIDTH = 100
_MARK = " * lenet_edge: "  # the contract follows; `artifacts.embedded` reads it
# Words that no function or parameter may have as its name: keywords of C and C++, which may include
# the header; macros of GCC; and functions of the C library.
_RESERVED_WORDS = (
    "alignas alignof and asm auto bitand bitor bool break case catch char class compl concept const"
    " constexpr continue decltype default delete do double else enum explicit export extern false"
    " float for friend goto if inline int long main mutable namespace new noexcept not nullptr"
    " operator or private protected public register requires restrict return short signed sizeof"
    " static struct switch template this throw true try typedef typeid typename typeof union"
    " unsigned using virtual void volatile while xor"
    " i386 linux unix"
    " abort abs ceil cos exit exp fabs floor fmax fmin free index labs log malloc pow printf puts"
    " read round signal sin sqrt tan time trunc write"
)
RESERVED = frozenset(_RESERVED_WORDS.split())
# Names of arrays, structs, macros and functions that are made for a network.
_GENERATED = re.compile(
    r"(in|out|constant|layer|walk|convolution|depthwise|dense|pool|elements|mean|resize)"
    r"(_float)?\d+(_\w+)?|\w+_(vnni|avxvnni|avx2|avx512|dotprod|neon|wasm)"
    r"|VNNI|AVXVNNI|AVX2|AVX512|DOTPROD|MOST_INPUTS"
)


def template(name: str) -> str:
    """Return the text of a C file in this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def identifier(stem: str) -> str:
    """Return the name of the C function for a checkpoint's file name without suffix.

    Names that the C files use, and names that C forbids, get the prefix ``net_``.
    """
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    texts = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.c"))
    is_used = re.search(rf"\b{name}(_batch)?\b", f"{texts} network run best_here")
    is_free = name not in RESERVED and not is_used and not _GENERATED.fullmatch(name)
    return name if is_free and re.match(r"[a-zA-Z]", name) else f"net_{name}"


def array(kind: str, name: str, values: npt.NDArray[Any], aligned: bool = False) -> str:
    """Return the definition of a constant array in row-major order."""
    floats = values.dtype.kind == "f"
    texts = [c_float(value) if floats else str(value) for value in values.ravel().tolist()]
    lines, line = [], " "
    for text in texts:
        if len(line) + len(text) + 2 > _WIDTH:
            lines.append(line)
            line = " "
        line += f" {text},"
    lines.append(line)
    align = "_Alignas(64) " if aligned else ""
    body = "\n".join(lines)
    return f"static {align}const {kind} {name}[{values.size}] = {{\n{body}\n}};\n"


def c_float(value: float) -> str:
    """Return a float32 as a constant of C."""
    text = f"{np.float32(value):.9g}"  # nine digits identify every float32
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def layer_line(kind: str, name: str, shape: Sequence[int], parameters: int, macs: int) -> str:
    """Return the line of a comment that describes a layer; `inspection.native` reads it."""
    sizes = " x ".join(map(str, shape))
    name = re.sub(r"[*\\?]|[^ -~]", "_", name)[:80]
    return f"{kind} {name}: {sizes}, {parameters:,} parameters, {macs:,} MACs"


def top(
    name: str,
    precision: str,
    bytes_needed: int,
    contract: dict[str, Any],
    is_static: bool,
    layers: Sequence[str],
) -> str:
    """Return the comment at the top of a file, which contains the contract.

    Args:
        name: the name of the function.
        precision: the precision of the file.
        bytes_needed: memory for the tensors.
        contract: the contract.
        is_static: whether that memory is static, instead of on the stack.
        layers: a line about each layer.
    """
    place = "static memory" if is_static else "stack"
    return "\n".join(
        [
            f"/* Neural network {name}, {precision}, as one C file that needs no library.",
            " *",
            " * Made by lenet-edge; do not edit. Build it with: cc -O3 -ffp-contract=fast -c",
            f" * It keeps nothing between calls, and needs {bytes_needed:,} bytes of {place}.",
            " * Its layers:",
            *(f" * - {layer}" for layer in layers),
            " *",
            _contract_line(json.dumps(contract, separators=(",", ":"))),
            " */",
            "",
        ]
    )


def _contract_line(contract: str) -> str:
    """Return the line with the contract.

    Labels and tensor names may come from a foreign file. Escape the slashes, so that no name can
    end the comment or look like the start of another.
    """
    return _MARK + contract.replace("/", "\\u002f").replace("??", "?\\u003f")


def with_contract(content: bytes, contract: str) -> bytes:
    """Return a C file with another contract in the comment at its top."""
    facts = json.loads(contract)
    rule = Preprocessing(**facts["preprocessing"])
    about = [
        f" * Checkpoint: sha256 {facts['parent_sha256']}.",
        *([f" * Labels: {comment_text(', '.join(facts['labels']))}."] if facts["labels"] else []),
        f" * A pixel p of 0 to 255 goes in as {rule.expression('p')}.",
        *([" * The channels have the order BGR."] if rule.channels == "bgr" else []),
        " *",
    ]
    lines = content.decode("utf-8").split("\n")
    mark = next(number for number, text in enumerate(lines) if text.startswith(_MARK))
    if not any(text.startswith(" * Checkpoint:") for text in lines[:mark]):
        lines[mark:mark] = about
        mark += len(about)
    lines[mark] = _contract_line(contract)
    return "\n".join(lines).encode("utf-8")


def comment_text(text: str) -> str:
    """Return text for a comment: one line that cannot end it, nor show it in another order."""
    line = re.sub(r"\s+", " ", make_printable(text))
    return re.sub(r"\?\?+", "?", re.sub(r"[/\\]", "|", line))


def quantization_comment(rule: Preprocessing) -> str:
    """Return the line of a comment with the computation of a quantized input."""
    value = rule.expression("p")
    value = f"({value})" if any(rule.offset) else value
    return f" * A pixel p of 0 to 255 goes in as round({value} / INPUT_SCALE) + INPUT_ZERO_POINT."


def prototypes(name: str, kind: str, pixels: int, classes: int) -> str:
    """Return the declarations of the functions for one image and for a batch."""
    return (
        f"void {name}(const {kind} image[{pixels}], {kind} logits[{classes}]);\n"
        f"void {name}_batch(const {kind} *images, {kind} *logits, size_t count);\n"
    )


def _is_classifier(artifact: Artifact) -> bool:
    """Return whether a file has one output, a vector."""
    return len(artifact.outputs) == 1 and len(artifact.outputs[0].shape) == 2


def _tensor_comments(artifact: Artifact) -> list[str]:
    """Return the lines of a comment that describe the inputs and the outputs."""
    image = artifact.inputs[0]
    if not _is_classifier(artifact) or len(artifact.inputs) != 1 or len(image.shape) != 4:
        return [
            f" * {side} {comment_text(spec.name)}: {spec.dtype},"
            f" {' x '.join(str(size or 'batch') for size in spec.shape)}."
            for side, specs in (("Input", artifact.inputs), ("Output", artifact.outputs))
            for spec in specs
        ]
    height, width, channels = image.shape[1:]
    rule = artifact.preprocessing
    return [
        f" * Images are {height} x {width} x {channels}: height, width, channels. The largest logit"
        " is the class.",
        f" * A pixel p of 0 to 255 goes in as {rule.expression('p')}."
        if image.scale is None
        else quantization_comment(rule),
    ]


def header(artifact: Artifact) -> str:
    """Return the text of the .h file of an exported .c file."""
    source = artifact.path.read_text(encoding="utf-8")
    prototypes = re.search(
        r"^void \w+\(.*\nvoid (\w+)_batch\(.*\n(?:void \w+\(.*\n)?", source, re.MULTILINE
    )
    assert prototypes
    name = prototypes[1]
    upper = name.upper()
    lines = [
        f"/* {comment_text(artifact.name)}, sha256 {artifact.sha256}. Made by lenet-edge; do not"
        " edit.",
        " *",
        *_tensor_comments(artifact),
    ]
    if artifact.preprocessing.channels == "bgr":
        lines.append(" * The channels have the order BGR.")
    lines += [" */", f"#ifndef {upper}_H", f"#define {upper}_H", "", "#include <stddef.h>"]
    specs = (*artifact.inputs, *artifact.outputs)
    if any(spec.dtype != "float32" for spec in specs):
        lines += ["#include <stdint.h>", ""]
    for side, tensors in (("INPUT", artifact.inputs), ("OUTPUT", artifact.outputs)):
        for number, spec in enumerate(tensors):
            if spec.scale is not None:
                label = f"{upper}_{side}{number if len(tensors) > 1 else ''}"
                lines += [
                    f"#define {label}_SCALE {c_float(spec.scale)}",
                    f"#define {label}_ZERO_POINT ({spec.zero_point})",
                ]
    arena = re.search(rf"^#define {upper}_ARENA_BYTES \d+$", source, re.MULTILINE)
    lines += ["", f"#define {upper}_NUM_CLASSES {artifact.outputs[0].shape[-1]}"] if (
        _is_classifier(artifact)
    ) else [""]  # fmt: skip
    if arena:
        lines.append(arena[0])
    if artifact.labels:
        quoted = ", ".join(
            '"' + re.sub(r'(["\\?])', r"\\\1", " ".join(label.split())) + '"'
            for label in artifact.labels
        )
        lines.append(f"#define {upper}_LABELS {{{quoted}}}")
    lines += ["", "#ifdef __cplusplus", 'extern "C" {', "#endif", prototypes[0].rstrip()]
    lines += ["#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
    return "\n".join(lines)
