"""MNIST inside the package: 60,000 training and 10,000 test images, no download.

The two .npz files hold the four original IDX files, byte for byte: a test encodes them again and
compares the md5 sums in `MD5`. A board needs only ``test.npz``. To make them again from the
original files: ``python -m lenet_edge.data.mnist FOLDER``.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from lenet_edge.data.dataset import Dataset

FOLDER = Path(__file__).parent
CLASS_NAMES = tuple("0123456789")
TEST = "mnist-test"  # the name of the part that is on every board

# The published names and sums of (images, labels) of each part.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load(part: Literal["train", "test"]) -> Dataset:
    """Return one part of MNIST: images uint8 (N, 28, 28, 1), labels int32 (N,)."""
    with np.load(FOLDER / f"{part}.npz", allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return Dataset(f"mnist-{part}", images[..., np.newaxis], labels.astype(np.int32), CLASS_NAMES)
