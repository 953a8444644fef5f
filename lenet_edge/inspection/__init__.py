"""Layers of a model with their parameters and multiplications; one module per file format.

The rows of `lenet_edge.formats` name the modules. They are imported on use, so that a board never
imports the reader of Keras files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lenet_edge import formats, worker
from lenet_edge.artifacts.artifact import check_format
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError
from lenet_edge.inspection.layer import Layer, LayerReader, total

__all__ = ["Layer", "inspect", "layers_of", "total"]


def inspect(path: Path) -> list[Layer]:
    """Return the layers of a model file, read in a fresh process.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: no installed package can read it.
    """
    try:
        layers = worker.run(read.bind(path, check_format(path)))
    except MissingPackageError:
        raise
    except LenetEdgeError as error:
        raise ModelFileError(f"{path} cannot be inspected: {error}") from error
    return [
        Layer(**{**layer, "output_shape": shape if shape is None else tuple(shape)})
        for layer in layers
        for shape in [layer["output_shape"]]
    ]


@worker.function
def read(path: Path, format: str) -> list[dict[str, Any]]:
    """Return the fields of each `Layer` of a model file."""
    return [vars(layer) for layer in layers_of(path, format)]


def layers_of(path: Path, format: str) -> list[Layer]:
    """Return the layers of a model file, read in this process.

    Raises:
        ModelFileError: the format has no reader.
        MissingPackageError: no installed package can read the file.
    """
    reference = formats.BY_NAME[format].layers
    if reference is None:
        raise ModelFileError(
            f"{format} files cannot be inspected; inspect the .keras or .tflite file that it was"
            " made from"
        )
    reader: LayerReader = formats.load(reference)
    return list(reader.read(str(path)))
