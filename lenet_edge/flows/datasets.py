"""Loading of the data set that a user names.

It is MNIST, Fashion-MNIST, an .npz or CSV file, or a folder of images.
"""

from __future__ import annotations

from pathlib import Path

from lenet_edge.artifacts.artifact import TensorSpec, is_described, load_artifact
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.keras_file import read_input_shape
from lenet_edge.artifacts.preprocessing import PIXELS, Preprocessing
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.data import csv_file, fashion_mnist, image_folder, mnist, npz_file
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.summary import DataSummary
from lenet_edge.errors import DataError
from lenet_edge.flows.console import Console
from lenet_edge.support.spelling import did_you_mean


def load(
    name: str = "mnist",
    data_dir: Path | None = None,
    model: Path | None = None,
    stated: StatedInput = NOTHING_STATED,
) -> tuple[Dataset, Dataset]:
    """Return the training images and the test images of a data set.

    Args:
        name: "mnist", "fashion-mnist", the path of an .npz or CSV file, or the path of a folder
            that has one folder of images for each class.
        data_dir: the folder with the IDX files of Fashion-MNIST; None downloads them with Keras.
        model: the checkpoint to whose input the images of a folder are scaled; None means LeNet.
        stated: the facts about the input of `model` that the user states.

    Raises:
        DataError: the data set does not exist or cannot be used.
    """
    if data_dir and name != "fashion-mnist":
        raise DataError("--data-dir is for fashion-mnist only; name other data with --dataset")
    if name == "mnist":
        return mnist.load("train"), mnist.load("test")
    if name == "fashion-mnist":
        return fashion_mnist.load(data_dir) if data_dir else _download()
    path = Path(name)
    if path.is_dir():
        return (
            image_folder.load(path, *_scaling(model, stated)) if model else image_folder.load(path)
        )
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return npz_file.load(path)
    if suffix == ".csv":
        return csv_file.load(path)
    if suffix == ".npy":
        raise DataError(
            f"{path} holds images without labels; save x_train, y_train, x_test and y_test with:"
            " numpy.savez(FILE, x_train=..., ...)"
        )
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"):
        raise DataError(f"{path} is an archive; unpack it and give the folder")
    hint = did_you_mean(name, ("mnist", "fashion-mnist"))
    raise DataError(
        f"{name} is not a data set; "
        + (hint or "give mnist, fashion-mnist, an .npz or CSV file, or a folder of images")
    )


def _scaling(model: Path, stated: StatedInput) -> tuple[tuple[int, int, int | None], Preprocessing]:
    """Return the shape of the images that a checkpoint takes, and the rule to scale them by."""
    if is_described(model):
        artifact = load_artifact(model)
        shape, rule = artifact.inputs[0].shape, artifact.preprocessing
    else:
        shape, rule = _read_shape(model) or (), PIXELS
    size = TensorSpec("image", shape, "float32").image_shape or ()
    rule = stated.change(rule)
    match size:
        case (int() as height, int() as width, (1 | 3) as channels):
            return (height, width, channels), rule
    return (image_folder.SIZE, image_folder.SIZE, None), rule  # the exporter reports the mismatch


def _read_shape(model: Path) -> tuple[int | None, ...] | None:
    """Return the shape of the input of a .keras or .onnx file; None if it is unknown."""
    if check_format(model) == "onnx":
        from lenet_edge.export.onnx_model import read_input_shape as read_onnx_shape

        return read_onnx_shape(model)
    return read_input_shape(model)


def load_and_describe(
    console: Console,
    name: str = "mnist",
    data_dir: Path | None = None,
    model: Path | None = None,
    stated: StatedInput = NOTHING_STATED,
) -> tuple[Dataset, Dataset]:
    """Load a data set as `load` does, and show its summary."""
    if name != "mnist":
        console.note(f"Reading {name} ...")
    training, test = load(name, data_dir, model, stated)
    for line in DataSummary.of(training, test).lines():
        console.note(line)
    return training, test


def _download() -> tuple[Dataset, Dataset]:
    import lenet_edge.model  # noqa: F401  import it first: it silences TensorFlow

    import tensorflow as tf  # isort: skip

    try:
        training, test = tf.keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # urllib and Keras raise many types
        raise DataError(
            f"Fashion-MNIST cannot be downloaded ({error}); give the folder with its four IDX"
            " files with --data-dir"
        ) from error
    return fashion_mnist.make_dataset("train", *training), fashion_mnist.make_dataset("test", *test)
