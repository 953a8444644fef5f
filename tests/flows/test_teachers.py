"""Tests of `train --teacher`: the file, and the preprocessing that the file does not state."""

from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError
from lenet_edge.flows.display import CallbackConsole, ProgressEvent
from tests.conftest import LenetEdge
from tests.foreign_models import ForeignModel

pytestmark = pytest.mark.costly
NAMES = ("a", "b", "c", "d")


def test_the_accuracy_of_a_teacher_decides_its_preprocessing(tmp_path: Path) -> None:
    from lenet_edge.flows.teachers import load_teacher

    for rule, text in (("unit", "scaled to 0..1"), ("signed", "-1..1"), ("pixels", "of 0 to 255")):
        kind = ForeignModel("keras", rule, "softmax", "rgb")
        pixels, labels = kind.images(400)
        events: list[ProgressEvent] = []
        training, console = Dataset("l", pixels, labels, NAMES), CallbackConsole(events.append)
        teacher = load_teacher(kind.save(tmp_path), training, console)
        predicted = teacher.logits(pixels / np.float32(255)).numpy().argmax(axis=1)
        assert (predicted == labels).all()
        assert text in events[-1].detail


def test_a_teacher_of_unknown_preprocessing_is_a_question(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    """The model tells red from blue, at any scale of the pixels."""
    import tensorflow as tf

    from lenet_edge.flows.teachers import load_teacher

    path = tmp_path / "redder.keras"
    average = tf.keras.layers.GlobalAveragePooling2D()
    dense = tf.keras.layers.Dense(2, use_bias=False)
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), average, dense])
    dense.kernel.assign([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    model.save(path)
    labels = np.arange(200, dtype=np.int32) % 2
    pixels = np.zeros((200, 8, 8, 3), np.uint8)
    pixels[labels == 0, ..., 0] = pixels[labels == 1, ..., 2] = 200
    training = Dataset("colours", pixels, labels, ("red", "blue"))
    with pytest.raises(DataError, match=r"does not say what it takes: .* lenet-edge describe"):
        load_teacher(path, training, CallbackConsole(lambda event: None))
    assert lenet_edge_here("describe", path, "--pixel-scale", "1/255").returncode == 0
    teacher = load_teacher(path, training, CallbackConsole(lambda event: None))
    assert float(teacher.logits(pixels[:1] / np.float32(255)).numpy().max()) < 1


def test_a_teacher_that_is_no_keras_file_is_one_line_before_the_data(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    network = ForeignModel("onnx-nhwc", "unit", "softmax", "gray").save(tmp_path)
    for name, status, message in (
        (network, 2, "is not a Keras model; give a .keras or .h5 file"),
        ("saved", 1, "saved is a SavedModel folder, whose code lenet-edge does not run"),
        ("none.keras", 1, "none.keras: no such file; make the files with: lenet-edge train"),
    ):
        done = lenet_edge_here("train", "--teacher", name)
        assert done.returncode == status
        (line,) = done.stderr.splitlines()
        assert message in line
