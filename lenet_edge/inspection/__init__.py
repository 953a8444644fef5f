"""Graph of a model file: its layers with their parameters and multiplications, inputs and outputs.

One module reads each file format. The rows of `lenet_edge.formats` name the modules. They are
imported on use, so that a board never imports the reader of Keras files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lenet_edge import formats, worker
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError
from lenet_edge.inspection.graph import GraphReader, ModelGraph
from lenet_edge.inspection.layer import Layer, LayerReader, total

__all__ = ["Layer", "ModelGraph", "inspect", "inspect_graph", "layers_of", "total"]


def inspect(path: Path) -> list[Layer]:
    """Return the layers of a model file's main graph, read in a fresh process.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: no installed package can read it.
    """
    return list(inspect_graph(path).layers)


def inspect_graph(path: Path) -> ModelGraph:
    """Return the graph of a model file, read in a fresh process.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: no installed package can read it.
    """
    try:
        return ModelGraph.from_json(worker.run(read_graph.bind(path, check_format(path))))
    except MissingPackageError:
        raise
    except LenetEdgeError as error:
        raise ModelFileError(f"{path} cannot be inspected: {error}") from error


@worker.function
def read(path: Path, format: str) -> list[dict[str, Any]]:
    """Return the fields of each `Layer` of a model file."""
    return [vars(layer) for layer in layers_of(path, format)]


@worker.function
def read_graph(path: Path, format: str) -> dict[str, Any]:
    """Return the fields of the `ModelGraph` of a model file."""
    reference = formats.BY_NAME[format].graph
    if reference is None:
        return ModelGraph.of_layers(tuple(layers_of(path, format))).to_json()
    reader: GraphReader = formats.load(reference)
    return reader(path).to_json()


def layers_of(path: Path, format: str) -> list[Layer]:
    """Return the layers of a model file, read in this process.

    Raises:
        ModelFileError: the format has no reader.
        MissingPackageError: no installed package can read the file.
    """
    reference = formats.BY_NAME[format].layers
    if reference is None:
        raise ModelFileError(
            f"{format} files cannot be inspected; inspect the model file that it was made from"
        )
    reader: LayerReader = formats.load(reference)
    return list(reader.read(str(path)))
