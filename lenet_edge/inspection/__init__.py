"""What a model is made of: its layers, their parameters and their multiplications.

One file a format, found by its name, so that a board never meets the reader of Keras's.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import check_format
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError
from lenet_edge.inspection.layer import Layer

__all__ = ["Layer", "inspect", "layers_of"]


def inspect(path: Path) -> list[Layer]:
    """Return the layers of a .keras, .tflite or .onnx file, read in a process of its own.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: nothing that is installed can read it.
    """
    try:
        found = worker.run(read.bind(path, check_format(path)))
    except MissingPackageError:
        raise
    except LenetEdgeError as error:
        raise ModelFileError(f"{path} cannot be inspected: {error}") from error
    return [Layer(**{**one, "output_shape": tuple(one["output_shape"])}) for one in found]


@worker.function
def read(path: Path, format: str) -> list[dict[str, Any]]:
    """Return the fields of each `Layer` of a model file."""
    return [vars(layer) for layer in layers_of(path, format)]


def layers_of(path: Path, format: str) -> list[Layer]:
    """Return the layers of a file, read in this very process.

    Raises:
        ModelFileError: it is of a format that has no reader.
        MissingPackageError: nothing that is installed can read it.
    """
    if importlib.util.find_spec(f"{__name__}.{format}") is None:
        raise ModelFileError(
            f"there is no reader of {format} files; inspect the .keras or .tflite file it is from"
        )
    reader = importlib.import_module(f"{__name__}.{format}")
    return list(reader.read(str(path)))
