"""Tests of the diagnosis, on colour images with the channels in the wrong order or position."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import LabelledImages
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.verify.expected import Expected, expected_from_file
from lenet_edge.verify.verify import verify
from tests.conftest import LenetEdge, first_images

pytestmark = pytest.mark.costly

COUNT = 1000
HEIGHT, WIDTH = 12, 10
Images = npt.NDArray[np.float32]


def squares() -> tuple[Images, npt.NDArray[np.int32]]:
    """Create images with a red, green or blue square on the left or the right: six classes."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 0.3, (COUNT, HEIGHT, WIDTH, 3)).astype(np.float32)
    labels = random.integers(0, 6, COUNT).astype(np.int32)
    for image, label in zip(images, labels, strict=True):
        top, left = random.integers(0, HEIGHT - 3), random.integers(0, 2) + 5 * (label // 3)
        image[top : top + 4, left : left + 4, label % 3] += 0.6
    return images, labels


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export variants of one trained classifier of squares to a folder with images.npz.

    rgb is the classifier itself. first takes images with the channels first, and bgr takes BGR
    images. wrong has its filters in another order, so that its predictions are wrong.
    """
    import keras

    from lenet_edge.export.exporter import Options, export

    folder = tmp_path_factory.mktemp("colours")
    images, labels = squares()
    np.savez(folder / "images.npz", images=images, labels=labels)
    np.savez(folder / "first.npz", images=np.moveaxis(images, -1, 1), labels=labels)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((HEIGHT, WIDTH, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(6),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(images, labels, epochs=15, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] > 0.98

    kernel = model.get_weights()[0]

    def save(name: str, new_kernel: Any, shape: tuple[int, ...], *first_layers: Any) -> None:
        twin = keras.models.clone_model(model)
        twin.set_weights([new_kernel, *model.get_weights()[1:]])
        keras.Sequential([keras.Input(shape), *first_layers, twin]).save(folder / f"{name}.keras")

    shape = (HEIGHT, WIDTH, 3)
    save("rgb", kernel, shape)
    save("bgr", kernel[:, :, ::-1], shape)
    save("wrong", kernel[..., ::-1], shape)
    save("first", kernel, (3, HEIGHT, WIDTH), layers.Permute((2, 3, 1)))
    unused = first_images(mnist.load("test"), 10)
    for name, format, precisions in (
        ("rgb", "tflite", ("float32", "int8")),
        *((name, "onnx", ("float32",)) for name in ("rgb", "bgr", "wrong", "first")),
    ):
        data = folder / ("first.npz" if name == "first" else "images.npz")
        export(folder / f"{name}.keras", folder, unused, unused, [format], precisions,
               options=Options(calibration_file=data))  # fmt: skip
    return folder


@functools.cache
def expected_of(folder: Path, name: str) -> Expected:
    """Return the logits of the classifier `name` for the right images."""
    correct = np.load(folder / ("first.npz" if name == "first" else "images.npz"))
    reference = load_artifact(folder / f"{name}_float32.onnx")
    return expected_from_file(reference, LabelledImages(correct["images"], correct["labels"]))


def report_of(folder: Path, file: str, target: str, inputs: Images) -> ParityReport:
    """Verify a file on `inputs`, against the logits of the classifier for the right images."""
    expected = expected_of(folder, file.partition("_")[0])
    pair = Pair(load_artifact(folder / file), get_target(target))
    (report,), skipped = verify([pair], expected=dataclasses.replace(expected, images=inputs))
    assert not skipped
    return report


FILES = [
    ("rgb_float32.onnx", "onnxruntime-cpu"),
    ("rgb_int8.tflite", "litert-xnnpack"),
]
SHAPE = (COUNT, HEIGHT, WIDTH, 3)
FIRST = (COUNT, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(("file", "target"), FILES, ids=[file for file, _ in FILES])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images[..., ::-1], "the channels reversed (BGR for RGB)"),
        (lambda images: np.moveaxis(images, -1, 1).reshape(SHAPE), "read as channels first"),
        (lambda images: np.moveaxis(images.reshape(FIRST), 1, -1), "put channels first, in the"),
    ],
    ids=["bgr", "first as last", "last as first"],
)
def test_the_diagnosis_names_wrong_channels(
    colours: Path, file: str, target: str, spoil: Any, message: str
) -> None:
    report = report_of(colours, file, target, spoil(squares()[0]))
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    assert message in report.diagnosis


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images[:, ::-1], "the channels reversed (BGR for RGB)"),
        (lambda images: np.moveaxis(images, 1, -1).reshape(FIRST), "read as channels last"),
        (lambda images: np.moveaxis(images.reshape(SHAPE), -1, 1), "put channels last, in the"),
    ],
    ids=["bgr", "last as first", "first as last"],
)
def test_the_diagnosis_names_wrong_channels_of_a_channels_first_model(
    colours: Path, spoil: Any, message: str
) -> None:
    inputs = spoil(np.moveaxis(squares()[0], -1, 1))
    report = report_of(colours, "first_float32.onnx", "onnxruntime-cpu", inputs)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    assert message in report.diagnosis


@pytest.mark.parametrize(("file", "target"), [*FILES, ("first_float32.onnx", "onnxruntime-cpu")])
def test_the_right_images_pass(colours: Path, file: str, target: str) -> None:
    images = squares()[0]
    if file.startswith("first"):
        assert report_of(colours, file, target, np.moveaxis(images, -1, 1)).passed
    assert report_of(colours, file, target, images).passed  # arranged for the input of the file


@pytest.mark.parametrize(
    ("name", "diagnosis"),
    [("bgr", "the channels reversed (BGR for RGB) it agrees on 100.0%"), ("wrong", "None")],
)
def test_a_model_for_bgr_images_is_told_from_a_wrong_model(
    colours: Path, tmp_path: Path, lenet_edge_here: LenetEdge, name: str, diagnosis: str
) -> None:
    done = lenet_edge_here(
        "verify", colours / f"{name}_float32.onnx", "--target", "onnxruntime",
        "--reference", colours / "rgb_float32.tflite", "--data", colours / "images.npz",
        "--json", "out.json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert diagnosis in str(report.diagnosis)


def test_channels_first_images_are_arranged(colours: Path, lenet_edge_here: LenetEdge) -> None:
    done = lenet_edge_here(
        "verify", colours / "rgb_float32.onnx", "--target", "onnxruntime",
        "--reference", colours / "rgb_float32.tflite", "--data", colours / "first.npz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
