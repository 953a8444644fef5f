"""Files of Keras models: their safety check, and copies of old ones that Keras 3 can load.

A .keras file is a zip archive of a graph in JSON and weights in HDF5. Before Keras 3 the graph had
other names, and before Keras 2.12 a model was one HDF5 file, usually named .h5.

A graph may name Python code: pickled functions (Lambda), classes of any installed module, and other
files on the disk. Keras has a safe mode, which had security holes more than once. The check accepts
only layers that Keras itself defines. For archives it needs only the standard library and ends
before TensorFlow starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.preprocessing import PIXELS, UNIT, Preprocessing
from lenet_edge.artifacts.trained_ranges import MEMBER as _RANGES
from lenet_edge.errors import MissingPackageError, ModelFileError
from lenet_edge.support.temporary import temporary_folder

_GRAPH, _METADATA = "config.json", "metadata.json"
_REQUIRED = {_GRAPH, _METADATA, "model.weights.h5"}
_MEMBERS = _REQUIRED | {_RANGES}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_GRAPH = "model_config"  # the attribute of an HDF5 file that holds the graph
_DIVIDES_PIXELS = 0.1  # a first layer with a smaller factor takes 0 to 255
_MAX_GRAPH_BYTES = 2**24
_MAX_BYTES = 2**31
_MAX_RATIO = 100  # unpacked size / file size; weights do not shrink by more than a tenth

_OWN = re.compile(
    r"(tf_)?keras(\.(layers|models|activations|constraints|initializers|regularizers|dtype_policies"
    r"|losses|metrics|optimizers(\.schedules)?"  # a nested model has them: Keras compiles it
    r"|random|mixed_precision|(src\.)?engine\.\w+|src\.(models|ops|applications)\.\w+))?"
)
# Classes that hold code or load models with code. `_READERS` read vocabularies from any path.
_CODE = {"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer",
         "FlaxLayer"}  # fmt: skip
_READERS = {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}
# Settings of Keras 2 that Keras 3 refuses, for the classes whose name matches. In these classes
# they had no effect on inference, or Keras 2 accepted only the default.
_DROPPED = (
    (re.compile(r"Depthwise|Separable|Transpose"), {"groups"}),
    (re.compile(r"Separable"), {f"kernel_{x}" for x in ("initializer", "regularizer",
                                                       "constraint")}),
    (re.compile(r"LSTM|GRU|RNN"), {"time_major", "implementation", "ragged"}),
    (re.compile(r"Random"), {"rng_type"}),
    (re.compile(r"InputLayer"), {"optional", "ragged", "sparse"}),
)  # fmt: skip
_KEPT = (("time_major", True),)  # Keras 3 refuses it, because its layers would swap the axes


def check_keras_file(path: Path) -> None:
    """Check that a .keras file is complete, unpacks to a plausible size and contains no code.

    An HDF5 file is only recognized here. `loadable` checks it, because that needs h5py.

    Raises:
        ModelFileError: the file is damaged, too large, or names code or classes outside Keras.
    """
    if _is_hdf5(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            # The compile settings may hold pickled functions; lenet-edge never loads them.
            graph = {**json.loads(archive.read(_GRAPH)), "compile_config": None}
            damaged = archive.testzip()
        _check_graph(path, graph)
    except ModelFileError:
        raise
    except Exception as error:  # zipfile, the decompressors and json each raise their own
        raise _damaged(path, error) from error
    if damaged:
        raise ModelFileError(f"{path} is damaged (in {damaged}); save it again")


def keras_version(path: Path) -> str | None:
    """Return the version of Keras that wrote a .keras archive, None if the archive has none."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        return str(json.loads(archive.read(_METADATA))["keras_version"])
    return None


@contextlib.contextmanager
def loadable(path: Path) -> Iterator[Path]:
    """Yield a file with the model at `path` that the installed Keras 3 can load.

    This is `path` itself for an archive of Keras 3. For a file of Keras 2 it is a temporary copy
    with the names and settings of Keras 3, and for HDF5 with the suffix that Keras 3 expects.

    Raises:
        ModelFileError: an HDF5 file is damaged, has no graph, contains code, or refers to other
            files.
        MissingPackageError: h5py is not installed, and the file is HDF5.
    """
    is_hdf5 = _is_hdf5(path)
    if not is_hdf5 and not (keras_version(path) or "3").startswith("2."):
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / ("model.h5" if is_hdf5 else "model.keras")
        try:
            (_copy_hdf5 if is_hdf5 else _copy_archive)(path, copy)
        except (ModelFileError, MissingPackageError):
            raise
        except Exception as error:  # zipfile, json and h5py each raise their own
            raise _damaged(path, error) from error
        yield copy


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def _copy_archive(path: Path, copy: Path) -> None:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == _GRAPH:
                graph = {**json.loads(content), "compile_config": None}
                content = json.dumps(_modernize(graph)).encode()
            target.writestr(name, content)


def _copy_hdf5(path: Path, copy: Path) -> None:
    try:
        import h5py
    except ImportError:
        raise MissingPackageError("h5py", "host") from None
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        if _HDF5_GRAPH not in file.attrs:
            raise ModelFileError(
                f"{path} holds weights without a model; save the whole model:"
                " model.save('model.keras')"
            )
        text = file.attrs[_HDF5_GRAPH]
        if len(text) > _MAX_GRAPH_BYTES:
            raise ValueError(f"its graph has {len(text):,} bytes")
        graph = json.loads(text)
        _check_graph(path, graph)
        _check_links(path, h5py, file)
        file.attrs.pop("training_config", None)
        file.attrs[_HDF5_GRAPH] = json.dumps(_modernize(graph)).encode()


def _check_links(path: Path, h5py: Any, file: Any) -> None:
    """Check that every object of an HDF5 file is in this file; links are not followed.

    Raises:
        ModelFileError: a link or the data of an array may lead to another file.
    """
    pending = [file]
    while pending:
        group = pending.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"{path} has a link ({name}); save the model again")
            child = group[name]
            if isinstance(child, h5py.Group):
                pending.append(child)
            elif child.external or child.is_virtual:
                raise ModelFileError(
                    f"{path} keeps {name} in another file; save the model again as one file"
                )


def _modernize(node: Any) -> Any:
    """Return the graph of a Keras 2 model in the terms of Keras 3."""
    if isinstance(node, list):
        return [_modernize(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: _modernize(value) for name, value in node.items()}
    config = node.get("config")
    if "class_name" not in node or not isinstance(config, dict):
        return node
    kind = str(node["class_name"])
    shape = config.pop("batch_input_shape", None)
    if kind == "InputLayer" and shape is not None:
        config["batch_shape"] = shape
    if kind == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    for pattern, names in _DROPPED:
        if pattern.search(kind):
            for name in names & set(config):
                if (name, config[name]) not in _KEPT:
                    del config[name]
    if kind in ("Functional", "Model"):
        _modernize_connections(config)
        if "module" in node:
            node |= {"module": "keras.src.models.functional", "registered_name": "Functional"}
            node["class_name"] = "Functional"
    return node


def _modernize_connections(config: dict[str, Any]) -> None:
    """Change the references between the layers of a Keras 2 graph to those of Keras 3.

    A reference is [layer, node, tensor]. In Keras 2 a nested model had its first node from its own
    construction. In Keras 3 its first node is its first call.
    """
    models = {layer.get("name") for layer in config["layers"] if "layers" in layer["config"]}

    def lower(reference: list[Any]) -> None:
        if reference[0] in models and reference[1] > 0:
            reference[1] -= 1

    for layer in config["layers"]:
        for node in layer.get("inbound_nodes", ()):
            for reference in node:
                lower(reference)
    for end in ("input_layers", "output_layers"):
        for reference in config[end]:
            lower(reference)
        if len(config[end]) == 1:  # Keras 3 would make a list of one tensor of it
            (config[end],) = config[end]


def _damaged(path: Path, error: Exception) -> ModelFileError:
    if isinstance(error, RecursionError):
        return ModelFileError(f"{path} is nested too deeply; check where it came from")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelFileError(f"{path} is damaged ({reason}); save it again")


def _check_graph(path: Path, graph: Any) -> None:
    if "class_name" not in graph:
        raise ValueError("it has no model")
    for module, name in _names(graph):
        _check_name(path, module, name)


def read_preprocessing(path: Path) -> Preprocessing | None:
    """Return the preprocessing that the first layer in a .keras or .h5 file implies.

    Args:
        path: a file that `check_keras_file` accepts.

    Returns:
        See `implied_preprocessing`; None for a file without a readable graph.
    """
    try:
        return implied_preprocessing(_read_graph(path))
    except Exception:  # zipfile, json and h5py each raise their own; Keras will report the fault
        return None


def read_input_shape(path: Path) -> tuple[int | None, ...] | None:
    """Return the shape of the input of a .keras file, with its batch; None if the file has none.

    Args:
        path: a file that `check_keras_file` accepts.
    """
    try:
        shape = _find_input_shape(_read_graph(path))
    except Exception:  # zipfile, json and h5py each raise their own; Keras will report the fault
        return None
    if not shape or not all(size is None or isinstance(size, int) for size in shape):
        return None
    return tuple(shape)


def _read_graph(path: Path) -> Any:
    if _is_hdf5(path):
        import h5py

        with h5py.File(path) as file:
            return json.loads(file.attrs[_HDF5_GRAPH])
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(_GRAPH))


def _find_input_shape(node: Any) -> list[int | None] | None:
    """Return the first shape of an input in a graph; the layers are in the order of the data."""
    if isinstance(node, dict):
        for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
            shape = node.get(key)
            if isinstance(shape, list):
                return shape
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, map(_find_input_shape, children)), None)


def implied_preprocessing(graph: Any, variance: Any = None) -> Preprocessing | None:
    """Return the preprocessing that the first layer of a model implies; None for other layers.

    A Rescaling or Normalization layer takes values of 0 to 255 if it makes them much smaller, and
    otherwise values of 0 to 1.

    Args:
        graph: the graph of the model, {"config": {"layers": ...}}.
        variance: the variances of an adapted Normalization layer, which are no part of the graph.
    """
    try:
        name, config = _first_layer(graph)
        if name == "Rescaling":
            factor = min(map(abs, _flat(config["scale"])))
        elif name == "Normalization":
            values = config.get("variance") if variance is None else variance
            factor = max(_flat(values)) ** -0.5
        else:
            return None
        rule = PIXELS if 0 < factor < _DIVIDES_PIXELS else UNIT
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, RecursionError):
        return None  # the graph is foreign; other sources remain
    return dataclasses.replace(rule, origin="read", detail=f"its first layer, {name}")


def _flat(values: Any) -> list[float]:
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in _flat(value)]
    return [float(values)]


def _first_layer(graph: Any) -> tuple[str, dict[str, Any]]:
    """Return the class and the settings of the first layer that computes, in nested models too."""
    passive = {"InputLayer", "Resizing", "Reshape", "Permute", "CenterCrop", "ZeroPadding2D"}
    layers = graph["config"]["layers"]
    for layer in layers:
        name = layer["class_name"]
        if "layers" in layer["config"]:
            return _first_layer(layer)
        if name not in passive and not name.startswith("Random"):
            return name, layer["config"]
    raise ValueError("the model has no layers")


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    unexpected = next((name for name in names if name not in _MEMBERS), None)
    if unexpected is not None or len(set(names)) != len(names):
        raise ModelFileError(
            f"{path} holds {unexpected or 'a file twice'!r:.100}, and a .keras file has only"
            f" {', '.join(sorted(_REQUIRED))}; check where it came from"
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
    if name.endswith("OpLambda"):
        raise ModelFileError(
            f"{path} has an operation outside of a layer ({name}), which Keras 3 cannot load; use a"
            " layer for it, such as Rescaling for x / 255, and save the model again"
        )
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
