"""Starts of a .tflite graph, cut after an operator, made by changes of the bytes of the file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lenet_edge.artifacts.embedded import elements, field, u32

# Source: tensorflow/lite/schema/schema.fbs.
_SUBGRAPHS, _SIGNATURES, _OUTPUTS, _OPERATORS = 2, 7, 2, 3
_ALIGNMENT = 16


def cut(content: bytes, operators: int, outputs: Sequence[int]) -> bytes:
    """Return a .tflite file whose main graph ends after some operators.

    Args:
        content: the whole file.
        operators: the number of operators to keep.
        outputs: the tensors that become the outputs of the graph.
    """
    changed = bytearray(content)
    model = u32(content, 0)
    graph = elements(content, field(content, model, _SUBGRAPHS))[0]
    _shorten(changed, field(content, graph, _OPERATORS), operators)
    _shorten(changed, field(content, model, _SIGNATURES), 0)  # they name the old outputs
    # The list of outputs may have to grow, so a new one follows the file.
    changed += bytes(-len(changed) % _ALIGNMENT)
    at = field(content, graph, _OUTPUTS)
    struct.pack_into("<I", changed, at, len(changed) - at)
    return bytes(changed + struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs))


def _shorten(changed: bytearray, at: int, count: int) -> None:
    """Set the length of the vector that the field at offset `at` refers to."""
    if at:
        struct.pack_into("<I", changed, at + u32(bytes(changed[at : at + 4]), 0), count)
