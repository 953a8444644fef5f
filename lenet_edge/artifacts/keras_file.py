"""What may be in a .keras file: looked at with the standard library, before TensorFlow starts.

Such a file is a zip archive of a graph in JSON and weights in HDF5, and its graph may name Python
code: pickled functions (Lambda), classes of any installed module, other files on the disk. Keras
has a safe mode, which had holes more than once; here nothing but Keras's own layers gets as far.
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
_MAX_RATIO = 100  # of what is unpacked to the file; weights do not shrink by more than a tenth

_OWN = re.compile(
    r"keras(\.(layers|models|activations|constraints|initializers|regularizers|dtype_policies"
    r"|losses|metrics|optimizers(\.schedules)?"  # of a model within a model, which Keras compiles
    r"|random|src\.(models|ops|applications)\.\w+))?"
)
# Code in a file; other models, with code of theirs; and words that are read from any path.
_CODE = {"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer",
         "FlaxLayer"}  # fmt: skip
_READERS = {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}


def check(path: Path) -> None:
    """Make sure that a .keras file is whole, unpacks to what it should and brings no code.

    Raises:
        ModelFileError: it is not, does not, or does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            # Pickled functions that are only compiled with are not looked at by anybody here.
            graph = {**json.loads(archive.read(_GRAPH)), "compile_config": None}
            damaged = archive.testzip()
        names = list(_names(graph))
        if "class_name" not in graph:
            raise ValueError("there is no model in it")
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
    found = archive.infolist()
    names = [one.filename for one in found]
    strange = next((name for name in names if name not in _MEMBERS), None)
    if strange is not None or len(set(names)) != len(names):
        raise ModelFileError(
            f"{path} holds {strange or 'a file twice'!r:.100}, and a .keras file has"
            f" {', '.join(sorted(_MEMBERS))} alone; check where it came from"
        )
    sizes = {one.filename: one.file_size for one in found}
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
    """Yield the module and the class of everything that Keras would make."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                # Without the key it is one of Keras's words for tensors and the like.
                yield str(one.get("module", "keras")), str(one["class_name"])
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_name(path: Path, module: str, name: str) -> None:
    if name in _CODE:
        raise ModelFileError(
            f"{path} brings code of its own ({name}), and code in a file is never run here;"
            " build the model from Keras's own layers"
        )
    if name in _READERS:
        raise ModelFileError(f"{path} has a {name} layer, which reads other files; leave it out")
    if not _OWN.fullmatch(module):
        raise ModelFileError(
            f"{path} asks for {name}, which is none of Keras's own (its module is {module}), and"
            " nothing else is made from a file; build the model from Keras's layers"
        )
