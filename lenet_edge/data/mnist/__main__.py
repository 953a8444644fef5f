"""Pack the four original MNIST files into the package: python -m lenet_edge.data.mnist FOLDER."""

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
    """Check the four files in `source` against their published md5 sums, then pack them.

    Raises:
        DataError: one of them is not the published file.
    """
    for part, names in FILES.items():
        arrays = []
        for name in names:
            content = (source / name).read_bytes()
            if hashlib.md5(content).hexdigest() != MD5[name]:
                raise DataError(f"{source / name} is not the published file (another md5 sum)")
            arrays.append(idx.decode(content, name))
        with atomic_write(FOLDER / f"{part}.npz") as temporary:
            np.savez_compressed(temporary, images=arrays[0], labels=arrays[1])


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
