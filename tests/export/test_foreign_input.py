"""Tests of the input of Keras models from elsewhere: stated, read, inferred, tested, or asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.preprocessing import PIXELS, SIGNED, UNIT, Preprocessing
from lenet_edge.data import mnist
from tests.conftest import LenetEdge

pytestmark = pytest.mark.costly

EXPORTED = Path(__file__).parents[2] / "exported"
FLOATS = (mnist.load("test").images[:300] / 255).astype(np.float32)
LABELS = mnist.load("test").labels[:300]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """LeNet without its manifest, as a tutorial trains it: on pixels / 255, and without a word."""
    return Path(shutil.copy(EXPORTED / "lenet.keras", tmp_path / "foreign.keras"))


def rule_of(path: Path) -> Preprocessing:
    return load_artifact(path).preprocessing


def export(run: LenetEdge, *options: str, status: int = 0) -> list[str]:
    done = run("export", "foreign.keras", "--format", "tflite", "--output-dir", "out", *options)
    assert done.returncode == status, done.stderr
    return done.stderr.splitlines()


def agreement(folder: Path, name: str) -> float:
    """Return the agreement of a file, fed as its manifest says, with the recorded logits."""
    from lenet_edge.artifacts.reference import reference_for
    from lenet_edge.classifier_io import infer_all, to_model_input
    from lenet_edge.data.evaluation_images import evaluation_data
    from lenet_edge.runtimes import get_target, open_session

    artifact = load_artifact(folder / "out" / name)
    reference = reference_for(artifact)
    images = evaluation_data(reference).images[:300]
    session = open_session(artifact, get_target("litert-xnnpack"))
    classes = infer_all(session, to_model_input(images, artifact), 100).argmax(axis=1)
    return float((classes == reference.logits[:300].argmax(axis=1)).mean())


def test_accuracy_on_mnist_tells_the_scale(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    lines = export(lenet_edge_here, "--int8")
    rule = rule_of(tmp_path / "out" / "foreign_int8.tflite")
    assert (rule.scale, rule.offset, rule.origin) == (UNIT.scale, UNIT.offset, "tested")
    assert rule.resize is None  # predict cuts out digits
    assert "with pixels scaled to 0..1 it is right on 99." in "\n".join(lines)
    spec = load_artifact(tmp_path / "out" / "foreign_int8.tflite").inputs[0]
    assert spec.scale == pytest.approx(1 / 255, rel=0.01)  # its author feeds x / 255
    assert load_artifact(tmp_path / "out" / "foreign_int8.tflite").labels == mnist.CLASS_NAMES
    assert agreement(tmp_path, "foreign_int8.tflite") > 0.98


@pytest.mark.parametrize("scaling", ["0..1", "-1..1"])
def test_float_images_tell_the_scale(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge, scaling: str
) -> None:
    values = FLOATS if scaling == "0..1" else FLOATS * 2 - 1
    np.savez(tmp_path / "own.npz", images=values)
    lines = export(lenet_edge_here, "--int8", "--calibration", "own.npz")
    rule, expected = rule_of(tmp_path / "out" / "foreign_int8.tflite"), UNIT
    if scaling == "-1..1":
        expected = SIGNED
    assert (rule.scale, rule.offset, rule.origin) == (expected.scale, expected.offset, "inferred")
    assert any("foreign_int8.tflite agrees with foreign.keras on" in line for line in lines)
    assert agreement(tmp_path, "foreign_int8.tflite") > 0.95
    done = lenet_edge_here("verify", "out/foreign_int8.tflite", "--target", "litert-xnnpack",
                           "--min-agreement", "90", "--max-accuracy-drop", "5")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_data_set_of_floats_tells_the_scale(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    np.savez(tmp_path / "data.npz", x_train=FLOATS[:200], y_train=LABELS[:200],
             x_test=FLOATS[200:], y_test=LABELS[200:])  # fmt: skip
    export(lenet_edge_here, "--dataset", "data.npz")
    rule = rule_of(tmp_path / "out" / "foreign_float32.tflite")
    assert (rule.scale, rule.origin) == (UNIT.scale, "inferred")
    assert agreement(tmp_path, "foreign_float32.tflite") == 1


def test_unlabelled_pixels_leave_a_question(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    np.savez(tmp_path / "pixels.npz", images=mnist.load("test").images[:300])
    lines = export(lenet_edge_here, "--calibration", "pixels.npz")
    question = (
        "foreign.keras does not say what it takes; fed pixels of 0 to 255 (say otherwise with"
        " --pixel-scale, --mean and --std)"
    )
    assert question in lines
    done = lenet_edge_here("verify", "out/foreign_float32.tflite", "--target", "litert-xnnpack",
                           "--max-accuracy-drop", "5", "--min-agreement", "90",
                           "--json", "out.json")  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    (report,) = json.loads((tmp_path / "out.json").read_text())["parity"]
    assert report["verdict"] == "inconclusive"
    assert report["reasons"][0].startswith("foreign_float32.tflite does not say what it takes")
    # The user answers the question.
    assert export(lenet_edge_here, "--calibration", "pixels.npz", "--pixel-scale", "1/255")
    rule = rule_of(tmp_path / "out" / "foreign_float32.tflite")
    assert (rule.scale, rule.origin) == (UNIT.scale, "said")


def bars() -> tuple[Any, Any]:
    """Images of ten classes of the shape of MNIST that are no digits: a bar in one of ten rows."""
    labels = np.arange(300) % 10
    images = np.random.default_rng(0).integers(0, 60, (300, 28, 28, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 6 + 2 * label, 4:24] += 180
    return images, labels


def test_other_ten_classes_are_judged_on_their_images(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    import keras
    import tensorflow as tf

    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10)]
    )
    images, labels = bars()
    means = np.stack([(images[labels == k] / 255).mean(axis=0).ravel() for k in range(10)])
    model.layers[-1].set_weights([means.T, -0.5 * (means**2).sum(axis=1)])
    model.save(tmp_path / "foreign.keras")
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    lines = export(lenet_edge_here, "--int8", "--calibration", "own.npz")
    assert (
        "foreign_int8.tflite agrees with foreign.keras on 100.0% of 300 images of own.npz" in lines
    )
    rule = rule_of(tmp_path / "out" / "foreign_int8.tflite")
    assert (rule.scale, rule.origin) == (PIXELS.scale, "read")
    Image.fromarray(images[3, ..., 0]).save(tmp_path / "bar.png")
    facts = load_artifact(tmp_path / "out" / "foreign_int8.tflite").to_json()
    pixels = prediction.load_pixels(facts, "x", str(tmp_path / "bar.png"), "path")
    np.testing.assert_array_equal(pixels, images[3])  # no digit is cut out
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (tmp_path / "bars.tflite").write_bytes(converter.convert())  # without manifest and contract
    done = lenet_edge_here("predict", "bar.png", "--model", "bars.tflite", "--json", "-")
    assert json.loads(done.stdout)["images"][0]["label"] == "3"
    assert agreement(tmp_path, "foreign_int8.tflite") == 1
    alarm = (
        "ALARM: int8 is calibrated with images of mnist-test, which are not those of foreign.keras,"
        " so its files may be wrong; give its own with --calibration"
    )
    assert alarm in export(lenet_edge_here, "--int8")
    packed = lenet_edge_here("bundle", "out/foreign_int8.tflite")
    assert packed.returncode == 0, packed.stderr  # all 300 images, although 4,000 are the default


def write_own(folder: Path, kind: str) -> str:
    """Write 60 labelled digits as a folder of images, a CSV file or an .npy file."""
    images, labels = mnist.load("test").images[:60], LABELS[:60]
    if kind == "folder":
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / "own" / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / "own" / str(label) / f"{i}.png")
        (folder / "own" / "0" / "photo.heic").write_bytes(b"x")
        return "own"
    if kind == "csv":
        rows = np.column_stack([labels, images.reshape(60, -1)])
        header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
        np.savetxt(folder / "own.csv", rows, "%d", ",", header=header, comments="")
        return "own.csv"
    np.save(folder / "own.npy", images)
    return "own.npy"


@pytest.mark.parametrize("kind", ["folder", "csv", "npy"])
def test_calibration_images_have_the_forms_of_other_tools(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge, kind: str
) -> None:
    own = write_own(tmp_path, kind)
    options = ["--calibration", own, "--pixel-scale", "1/255"]
    lines = export(lenet_edge_here, "--int8", *options)
    assert load_artifact(tmp_path / "out" / "foreign_int8.tflite").calibration == (
        f"60 images of {own}"
    )
    done = lenet_edge_here("verify", "out/foreign_int8.tflite", "--target", "litert-xnnpack",
                           "--reference", "out/foreign_float32.tflite", "--data", own,
                           "--json", "-")  # fmt: skip
    (report,) = json.loads(done.stdout)["parity"]
    assert report["num_samples"] == 60
    if kind != "npy":
        assert report["reference_accuracy"] > 0.95
    left_out = "Left out, because only PNG and JPEG files are used: 1 .heic"
    assert (left_out in lines) == (left_out in done.stderr.splitlines()) == (kind == "folder")


def test_the_folder_of_a_foreign_model_is_scaled_to_its_input(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    """Export a perfect classifier of bright and dark photos of 12 x 16 pixels in colour."""
    import keras

    random = np.random.default_rng(0)
    for name, brightness in (("bright", 190), ("dark", 60)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(40):
            pixels = (brightness + random.integers(-30, 30, (60, 50, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((12, 16, 3)), *layers])
    model.set_weights([np.array([[1.0, -1.0]] * 3), np.array([-1.5, 1.5])])
    model.save(tmp_path / "foreign.keras")
    export(lenet_edge_here, "--int8", "--dataset", "photos", "--pixel-scale", "1/255")
    artifact = load_artifact(tmp_path / "out" / "foreign_int8.tflite")
    assert artifact.labels == ("bright", "dark")
    done = lenet_edge_here("verify", "out/foreign_int8.tflite", "--target", "litert-xnnpack",
                           "--json", "-")  # fmt: skip
    (report,) = json.loads(done.stdout)["parity"]
    assert (report["num_samples"], report["reference_accuracy"], report["candidate_accuracy"]) == (
        12,
        1,
        1,
    )


def test_stated_labels_may_be_of_other_classes_than_mnist(
    foreign: Path, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    names = tuple("abcdefghij")
    (tmp_path / "names.txt").write_text("\n".join(names))
    np.savez(tmp_path / "data.npz", x_train=FLOATS[:200], y_train=LABELS[:200],
             x_test=FLOATS[200:], y_test=LABELS[200:])  # fmt: skip
    lines = export(lenet_edge_here, "--labels", "names.txt")
    assert any("the images of mnist-test do not fit foreign.keras" in line for line in lines)
    export(lenet_edge_here, "--labels", "names.txt", "--dataset", "data.npz")
    artifact = load_artifact(tmp_path / "out" / "foreign_float32.tflite")
    assert (artifact.labels, artifact.preprocessing.scale) == (names, UNIT.scale)
