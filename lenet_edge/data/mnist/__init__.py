"""MNIST inside the package, without a download: 60,000 training images and 10,000 test images.

The two .npz files hold the data of the four original IDX files: a test encodes them again and
compares the result with the MD5 sums in `MD5`. A board needs only ``test.npz``. To create the .npz
files from the original files, run ``python -m lenet_edge.data.mnist FOLDER``.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from lenet_edge.data.dataset import Dataset

FOLDER = Path(__file__).parent
CLASS_NAMES = tuple("0123456789")
TEST = "mnist-test"  # name of the part that every board has

# Published file names of (images, labels) of each part, and the published MD5 sum of each file.
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
    """Load one part of MNIST.

    Returns:
        Images, uint8 of shape (N, 28, 28, 1), and labels, int32 of shape (N,).
    """
    with np.load(FOLDER / f"{part}.npz", allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return Dataset(f"mnist-{part}", images[..., np.newaxis], labels.astype(np.int32), CLASS_NAMES)
