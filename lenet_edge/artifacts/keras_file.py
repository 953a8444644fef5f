"""Safety check of .keras files, with the standard library, before TensorFlow starts.

A .keras file is a zip archive of a graph in JSON and weights in HDF5. Its graph may name Python
code: pickled functions (Lambda), classes of any installed module, and other files on the disk.
Keras has a safe mode, which had security holes more than once. This check accepts only layers that
Keras itself defines.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_edge.errors import ModelFileError

_GRAPH = "config.json"
_MEMBERS = {_GRAPH, "metadata.json", "model.weights.h5"}
_MAX_GRAPH_BYTES = 2**24
_MAX_BYTES = 2**31
_MAX_RATIO = 100  # unpacked size / file size; weights do not shrink by more than a tenth

_OWN = re.compile(
    r"keras(\.(layers|models|activations|constraints|initializers|regularizers|dtype_policies"
    r"|losses|metrics|optimizers(\.schedules)?"  # a nested model has them: Keras compiles it
    r"|random|src\.(models|ops|applications)\.\w+))?"
)
# Classes that hold code or load models with code. `_READERS` read vocabularies from any path.
_CODE = {"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer",
         "FlaxLayer"}  # fmt: skip
_READERS = {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}


def check_keras_file(path: Path) -> None:
    """Check that a .keras file is complete, unpacks to a plausible size and contains no code.

    Raises:
        ModelFileError: the file is damaged, too large, or names code or classes outside Keras.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            # The compile settings may hold pickled functions; lenet-edge never loads them.
            graph = {**json.loads(archive.read(_GRAPH)), "compile_config": None}
            damaged = archive.testzip()
        names = list(_names(graph))
        if "class_name" not in graph:
            raise ValueError("it has no model")
    except ModelFileError:
        raise
    except RecursionError:
        raise ModelFileError(f"{path} is nested too deeply; check where it came from") from None
    except Exception as error:  # zipfile, the decompressors and json each raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelFileError(f"{path} is damaged ({reason}); save it again") from error
    if damaged:
        raise ModelFileError(f"{path} is damaged (in {damaged}); save it again")
    for module, name in names:
        _check_name(path, module, name)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    unexpected = next((name for name in names if name not in _MEMBERS), None)
    if unexpected is not None or len(set(names)) != len(names):
        raise ModelFileError(
            f"{path} holds {unexpected or 'a file twice'!r:.100}, and a .keras file has only"
            f" {', '.join(sorted(_MEMBERS))}; check where it came from"
        )
    sizes = {member.filename: member.file_size for member in members}
    total = sum(sizes.values())
    if (
        total > min(_MAX_BYTES, _MAX_RATIO * path.stat().st_size)
        or sizes.get(_GRAPH, 0) > _MAX_GRAPH_BYTES
    ):
        raise ModelFileError(
            f"{path} would unpack to {total:,} bytes, more than a model of its size can have;"
            " check where it came from"
        )


def _names(graph: Any) -> Iterator[tuple[str, str]]:
    """Yield the module and class of every object that Keras would create."""
    pending = [graph]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                # Keras omits the module for its own classes, such as tensors.
                yield str(node.get("module", "keras")), str(node["class_name"])
            pending += node.values()
        elif isinstance(node, list):
            pending += node


def _check_name(path: Path, module: str, name: str) -> None:
    if name in _CODE:
        raise ModelFileError(
            f"{path} contains code ({name}), and lenet-edge never runs code from a file;"
            " build the model from Keras's own layers"
        )
    if name in _READERS:
        raise ModelFileError(f"{path} has a {name} layer, which reads other files; remove it")
    if not _OWN.fullmatch(module):
        raise ModelFileError(
            f"{path} uses {name} from {module}, which is not part of Keras;"
            " build the model from Keras's own layers"
        )
