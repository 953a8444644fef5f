"""The data set that a user names: MNIST, Fashion-MNIST, an .npz file or a folder of images."""

from __future__ import annotations

from pathlib import Path

from lenet_edge.data import fashion_mnist, image_folder, mnist, npz_file
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError


def load(name: str = "mnist", data_dir: Path | None = None) -> tuple[Dataset, Dataset]:
    """Return the training and the test part of a data set.

    Args:
        name: "mnist", "fashion-mnist", an .npz file, or a folder with a folder for each class.
        data_dir: where Fashion-MNIST's IDX files lie; None downloads them, as Keras does.

    Raises:
        DataError: there is no such data set, or it cannot be used.
    """
    if data_dir and name != "fashion-mnist":
        raise DataError("--data-dir is for fashion-mnist alone; name other data with --dataset")
    if name == "mnist":
        return mnist.load("train"), mnist.load("test")
    if name == "fashion-mnist":
        return fashion_mnist.load(data_dir) if data_dir else _download()
    path = Path(name)
    if path.is_dir():
        return image_folder.load(path)
    if path.suffix == ".npz":
        return npz_file.load(path)
    raise DataError(
        f"{name} is no data set; give mnist, fashion-mnist, an .npz file or a folder of images"
    )


def _download() -> tuple[Dataset, Dataset]:
    import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow

    import tensorflow as tf  # isort: skip

    try:
        training, test = tf.keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # urllib's and Keras's own kinds
        raise DataError(
            f"Fashion-MNIST cannot be downloaded ({error}); give the folder of its four IDX files"
            " with --data-dir"
        ) from error
    return fashion_mnist.dataset("train", *training), fashion_mnist.dataset("test", *test)
