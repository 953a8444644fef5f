"""Program that packs the original MNIST files: python -m lenet_edge.data.mnist FOLDER."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from lenet_edge.data import idx
from lenet_edge.data.mnist import FILES, FOLDER, MD5
from lenet_edge.errors import DataError
from lenet_edge.support.files import atomic_write


def pack(source: Path) -> None:
    """Check the four files in `source` against their published MD5 sums, and pack them.

    Args:
        source: the folder with the uncompressed IDX files.

    Raises:
        DataError: a file is not the published file.
    """
    for part, names in FILES.items():
        arrays = []
        for name in names:
            content = (source / name).read_bytes()
            if hashlib.md5(content).hexdigest() != MD5[name]:
                raise DataError(
                    f"{source / name} is not the published file (its MD5 sum differs);"
                    " download and decompress it again"
                )
            arrays.append(idx.decode(content, name))
        with atomic_write(FOLDER / f"{part}.npz") as temporary:
            np.savez_compressed(temporary, images=arrays[0], labels=arrays[1])


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
