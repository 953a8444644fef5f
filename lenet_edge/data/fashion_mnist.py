"""Fashion-MNIST: images of ten kinds of clothing, in the format and sizes of MNIST.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms", 2017.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge.data import idx, mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError
from lenet_edge.support.regular_file import open_regular_file

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_MAX_BYTES = 2**28  # of a file, unpacked; the largest has 47 million


def load(folder: Path) -> tuple[Dataset, Dataset]:
    """Load the training part and the test part from the four IDX files in `folder`.

    Each file may be compressed with gzip, and then has the suffix ``.gz``.

    Raises:
        DataError: a file is missing or damaged.
    """
    return (
        make_dataset("train", *(_read(folder, name) for name in mnist.FILES["train"])),
        make_dataset("test", *(_read(folder, name) for name in mnist.FILES["test"])),
    )


def make_dataset(
    part: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
) -> Dataset:
    """Create a data set from images and labels.

    Args:
        part: "train" or "test".
        images: uint8 of shape (N, 28, 28).
        labels: uint8 of shape (N,).
    """
    return Dataset(
        f"fashion-mnist-{part}", images[..., np.newaxis], labels.astype(np.int32), CLASS_NAMES
    )


def _read(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    for path in (folder / name, folder / f"{name}.gz"):
        try:
            with open_regular_file(path) as file:
                unpacked = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
                content = unpacked.read(_MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path} cannot be read ({reason}); download it again") from error
        if len(content) > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES:,} bytes; download it again")
        return idx.decode(content, name)
    raise DataError(
        f"{folder} has no {name} (or {name}.gz); give the folder that has it with --data-dir"
    )
