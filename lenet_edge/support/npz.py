"""Read and write .npz files. Reads reject pickles and limit the unpacked size."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lenet_edge.support.files import atomic_write

MAX_BYTES = 2**30  # unpacked; the 70,000 images of MNIST take 55 million bytes


def read_arrays(path: Path | BinaryIO, max_bytes: int = MAX_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file, or of an open one, by name.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, too large or not an .npz file.
    """
    if isinstance(path, Path) and not path.is_file():
        raise FileNotFoundError
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max_bytes:
            raise ValueError(f"its arrays are {size:,} bytes, and the limit is {max_bytes:,}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:  # NumPy, zipfile and the decompressors raise many types
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # np.load returns other members as bytes
            raise ValueError(f"{name} is not an array")
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, Any], compress: bool = True) -> None:
    """Write arrays, or values that NumPy converts to arrays, by name; the write is atomic.

    Raises:
        LenetEdgeError: the folder cannot be written to, or the disk is full.
    """
    # In memory first: on a full disk, closing a zip file would raise a second error.
    packed = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(packed, **arrays)
    with atomic_write(path) as temporary:
        temporary.write_bytes(packed.getbuffer())
