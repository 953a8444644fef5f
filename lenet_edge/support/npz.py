"""Arrays in .npz files: written whole; of anybody's, none is unpickled or unpacks without end."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.support.files import atomic_write

MAX_BYTES = 2**30  # unpacked; the 70,000 images of MNIST are 55 million


def read(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file by their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .npz file, is damaged, or too large.
    """
    if not path.is_file():
        raise FileNotFoundError
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
        if size > max_bytes:
            raise ValueError(f"its arrays are {size:,} bytes, and the limit is {max_bytes:,}")
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:  # NumPy, zipfile and the decompressors each raise their own
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # a member that is no .npy file comes as its bytes
            raise ValueError(f"{name} is no array")
    return found


def write(path: Path, arrays: Mapping[str, Any], compress: bool = True) -> None:
    """Write arrays, or what becomes one, by their names, atomically.

    Raises:
        LenetEdgeError: the folder cannot be written to, or the disk is full.
    """
    stored = io.BytesIO()  # a zip file that meets a full disk complains once more as it goes
    (np.savez_compressed if compress else np.savez)(stored, **arrays)
    with atomic_write(path) as temporary:
        temporary.write_bytes(stored.getbuffer())
