"""Export for microcontrollers: an int8 .tflite file as a C array, with its arena size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.text import quantization_comment
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.runtimes.tflite_micro import ALIGNMENT, MicroSession
from lenet_edge.support.files import atomic_write
from lenet_edge.target import Images, quantize

NUM_IMAGES = 100


def write(artifact: Artifact, images: Images) -> tuple[Path, int]:
    """Write ``<name>.c`` and ``<name>.h`` beside an int8 .tflite file.

    First a worker runs the file in TensorFlow Lite for Microcontrollers. It finds the smallest
    arena and compares the logits with LiteRT's.

    Args:
        artifact: a full-integer int8 .tflite file.
        images: float32 of shape (N, height, width, channels), scaled as in training.

    Returns:
        The path of the .c file, and the size of the arena in bytes, measured with 64-bit
        pointers. A 32-bit microcontroller needs slightly less.

    Raises:
        MissingPackageError: tflite-micro is not installed.
        TargetError: tflite-micro cannot run the file.
        ModelFileError: its logits differ from LiteRT's.
    """
    result = worker.run(try_micro.bind(artifact.path, images[:NUM_IMAGES].tolist()))
    if result["largest_difference"] > 1:
        raise ModelFileError(
            f"{artifact.path} gives other logits in tflite-micro than in LiteRT, by up to"
            f" {result['largest_difference']} steps; ship the .tflite file instead"
        )
    symbol = re.sub(r"\W", "_", artifact.path.stem)
    if symbol[0].isdigit():
        symbol = f"_{symbol}"
    for suffix, text in (
        (".h", _header(artifact, symbol, result["arena_bytes"])),
        (".c", _source(artifact, symbol)),
    ):
        with atomic_write(artifact.path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return artifact.path.with_suffix(".c"), result["arena_bytes"]


def _header(artifact: Artifact, symbol: str, arena_bytes: int) -> str:
    image, logits = artifact.inputs[0], artifact.outputs[0]
    upper = symbol.upper()
    quoted = ", ".join('"' + re.sub(r'(["\\])', r"\\\1", label) + '"' for label in artifact.labels)
    shape = ", ".join(str(size or 1) for size in image.shape)
    lines = [
        f"/* {artifact.name}, sha256 {artifact.sha256}. Made by lenet-edge; do not edit.",
        " *",
        f" * Input: int8 of shape ({shape}), batch, height, width, channels.",
        quantization_comment(artifact.preprocessing),
        f" * Output: int8 of shape (1, {logits.shape[-1]}); the largest is the class.",
        " */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "/* Bytes of tensor arena, measured on a 64-bit machine; 32 bits need somewhat less. */",
        f"#define {upper}_ARENA_SIZE {arena_bytes}",
        f"#define {upper}_SIZE {artifact.size_bytes}",
        f"#define {upper}_INPUT_SCALE {image.scale:.9g}f",
        f"#define {upper}_INPUT_ZERO_POINT ({image.zero_point})",
        f"#define {upper}_OUTPUT_SCALE {logits.scale:.9g}f",
        f"#define {upper}_OUTPUT_ZERO_POINT ({logits.zero_point})",
        f"#define {upper}_NUM_CLASSES {logits.shape[-1]}",
        *([f"#define {upper}_LABELS {{{quoted}}}"] if artifact.labels else []),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        f"extern const unsigned char {symbol}[{upper}_SIZE];",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _source(artifact: Artifact, symbol: str) -> str:
    content = artifact.path.read_bytes()
    rows = (content[start : start + 16] for start in range(0, len(content), 16))
    values = "\n".join("  " + ", ".join(f"{byte:#04x}" for byte in row) + "," for row in rows)
    return (
        f'#include "{artifact.path.stem}.h"\n\n'
        f"__attribute__((aligned({ALIGNMENT})))\n"
        f"const unsigned char {symbol}[{symbol.upper()}_SIZE] = {{\n{values}\n}};\n"
    )


@worker.function
def try_micro(path: Path, images: list[Any]) -> dict[str, int]:
    """Return the smallest arena, and the largest difference from LiteRT's logits in steps."""
    artifact, values = load_artifact(path), np.array(images, np.float32)
    micro = open_session(artifact, get_target("tflite-micro-cpu"))
    litert = open_session(artifact, get_target("litert-reference"))
    assert isinstance(micro, MicroSession)
    outputs = []
    # LiteRT's logits are quantized with the scale of the manifest, which the header repeats.
    for session, spec in ((micro, micro.output_specs[0]), (litert, artifact.outputs[0])):
        session.prepare(values)
        session.infer()
        outputs.append(quantize(session.logits(), spec).astype(int))
    largest = int(np.abs(outputs[0] - outputs[1]).max())
    return {"arena_bytes": micro.arena_bytes, "largest_difference": largest}
