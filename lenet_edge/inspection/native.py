"""The layers of a C file, as the comment at its top lists them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import ModelFileError
from lenet_edge.inspection.graph import GraphTensor, ModelGraph
from lenet_edge.inspection.layer import Layer
from lenet_edge.runtimes._native_layers import LISTED_LAYER

_MAX_COMMENT_BYTES = 2**20
_DENSE = ("Dense", "FULLY_CONNECTED")


def read(path: str) -> tuple[Layer, ...]:
    """Return the layers that a C file lists."""
    return read_graph(Path(path)).layers


def read_graph(path: Path) -> ModelGraph:
    """Read the comment at the top of a C file.

    Raises:
        ModelFileError: it lists no layers.
    """
    with path.open("rb") as file:
        comment = file.read(_MAX_COMMENT_BYTES).partition(b"*/")[0].decode("utf-8", "replace")
    layers = tuple(_layer(match) for match in LISTED_LAYER.finditer(comment))
    try:
        contract = json.loads(read_contract(path, "native") or "{}")
        inputs, outputs = (
            tuple(
                GraphTensor(
                    spec["name"],
                    spec["dtype"],
                    tuple(spec["shape"]),
                    spec["scale"],
                    spec["zero_point"],
                )
                for spec in contract[side]
            )
            for side in ("inputs", "outputs")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"it has no contract ({error}); export it again") from error
    if not layers:
        raise ModelFileError("it does not list its layers; export it again")
    kinds = [layer.kind for layer in layers]
    return ModelGraph(
        inputs, outputs, layers, operators={kind: kinds.count(kind) for kind in sorted(set(kinds))}
    )


def _layer(match: re.Match[str]) -> Layer:
    parameters, macs = (int(match[name].replace(",", "")) for name in ("parameters", "macs"))
    sizes = [int(size) for size in match["shape"].split(" x ") if size.strip()]
    kind = match["kind"]
    return Layer(match["name"], kind, (None, *sizes), parameters, macs, kind in _DENSE)
