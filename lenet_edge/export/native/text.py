"""Text of the C files: arrays, names, the comment at the top, and the header."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.preprocessing import Preprocessing

_WIDTH = 100
_MARK = " * lenet_edge: "  # the contract follows; `artifacts.embedded` reads it
_KEYWORDS = (
    "auto break case char const continue default do double else enum extern float for goto if"
    " inline int long register restrict return short signed sizeof static struct switch typedef"
    " union unsigned void volatile while main"
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
    is_used = re.search(rf"\b{name}(_batch)?\b", f"{texts} {_KEYWORDS} network run best_here")
    return f"net_{name}" if is_used or not re.match(r"[a-zA-Z]", name) else name


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


def top(
    name: str,
    precision: str,
    bytes_needed: int,
    contract: dict[str, Any],
    is_static: bool = False,
) -> str:
    """Return the comment at the top of a file, which contains the contract.

    Args:
        name: the name of the function.
        precision: the precision of the file.
        bytes_needed: memory for the tensors.
        contract: the contract.
        is_static: whether that memory is static, instead of on the stack.
    """
    place = "static memory" if is_static else "stack"
    return "\n".join(
        [
            f"/* Neural network {name}, {precision}, as one C file that needs no library.",
            " *",
            " * Made by lenet-edge; do not edit. Build it with: cc -O3 -ffp-contract=fast -c",
            f" * It keeps nothing between calls, and needs {bytes_needed:,} bytes of {place}.",
            " *",
            _MARK + json.dumps(contract, separators=(",", ":")),
            " */",
            "",
        ]
    )


def with_contract(content: bytes, contract: str) -> bytes:
    """Return a C file with another contract in the comment at its top."""
    facts = json.loads(contract)
    rule = Preprocessing(**facts["preprocessing"])
    # Escape the slashes, so that no label can end the comment or look like the start of another.
    line = _MARK + contract.replace("/", "\\u002f").replace("??", "?\\u003f")
    about = [
        f" * Checkpoint: sha256 {facts['parent_sha256']}.",
        *([f" * Labels: {_comment(', '.join(facts['labels']))}."] if facts["labels"] else []),
        f" * A pixel p of 0 to 255 goes in as {rule.expression('p')}.",
        *([" * The channels have the order BGR."] if rule.channels == "bgr" else []),
        " *",
    ]
    lines = content.decode("utf-8").split("\n")
    mark = next(number for number, text in enumerate(lines) if text.startswith(_MARK))
    if not any(text.startswith(" * Checkpoint:") for text in lines[:mark]):
        lines[mark:mark] = about
        mark += len(about)
    lines[mark] = line
    return "\n".join(lines).encode("utf-8")


def _comment(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("/", "|").replace("??", "?").replace("\\", "|")


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


def header(artifact: Artifact) -> str:
    """Return the text of the .h file of an exported .c file."""
    source = artifact.path.read_text(encoding="utf-8")
    prototypes = re.search(
        r"^void \w+\(.*\nvoid (\w+)_batch\(.*\n(?:void \w+\(.*\n)?", source, re.MULTILINE
    )
    assert prototypes
    name = prototypes[1]
    upper = name.upper()
    image, logits = artifact.inputs[0], artifact.outputs[0]
    height, width, channels = image.shape[1:]
    lines = [
        f"/* {artifact.name}, sha256 {artifact.sha256}. Made by lenet-edge; do not edit.",
        " *",
        f" * Images are {height} x {width} x {channels}: height, width, channels. The largest logit"
        " is the class.",
    ]
    if image.scale is None:
        lines.append(
            f" * A pixel p of 0 to 255 goes in as {artifact.preprocessing.expression('p')}."
        )
    else:
        lines.append(quantization_comment(artifact.preprocessing))
    if artifact.preprocessing.channels == "bgr":
        lines.append(" * The channels have the order BGR.")
    lines += [" */", f"#ifndef {upper}_H", f"#define {upper}_H", "", "#include <stddef.h>"]
    if image.scale is not None:
        lines += [
            "#include <stdint.h>",
            "",
            f"#define {upper}_INPUT_SCALE {c_float(image.scale)}",
            f"#define {upper}_INPUT_ZERO_POINT ({image.zero_point})",
            f"#define {upper}_OUTPUT_SCALE {c_float(logits.scale or 1)}",
            f"#define {upper}_OUTPUT_ZERO_POINT ({logits.zero_point})",
        ]
    lines += ["", f"#define {upper}_NUM_CLASSES {logits.shape[-1]}"]
    if artifact.labels:
        quoted = ", ".join(
            '"' + re.sub(r'(["\\?])', r"\\\1", " ".join(label.split())) + '"'
            for label in artifact.labels
        )
        lines.append(f"#define {upper}_LABELS {{{quoted}}}")
    lines += ["", "#ifdef __cplusplus", 'extern "C" {', "#endif", prototypes[0].rstrip()]
    lines += ["#ifdef __cplusplus", "}", "#endif", "", "#endif", ""]
    return "\n".join(lines)
