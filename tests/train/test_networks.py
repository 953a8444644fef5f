"""Tests of the networks beside LeNet: training with BatchNorm, resuming, distilling, seeds."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge import networks
from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.head import Head
from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing, apply
from lenet_edge.artifacts.trained_ranges import read_ranges
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError, UsageError
from lenet_edge.flows.seeds import SeedSummary, can_resume, train_seeds
from lenet_edge.networks import Architecture, Block
from lenet_edge.train import loop
from lenet_edge.train.distribution import make_replicas
from lenet_edge.train.input_values import to_input_values
from lenet_edge.train.recipe import BEST
from lenet_edge.train.saved_state import History, TrainingSettings
from lenet_edge.train.teacher import Teacher
from tests.conftest import LenetEdge, first_images

pytestmark = pytest.mark.costly

# Most of the time of a short training is the compilation of its network.
SMALL = Architecture((Block(8, stride=2), Block(16, stride=2, depthwise=True)), "flatten")
TINY = Architecture((Block(4, stride=4),), "flatten")


@pytest.fixture(scope="module")
def training() -> Dataset:
    return first_images(mnist.load("train"), 1280)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "few.npz"
    data = mnist.load("train")
    np.savez(path, x_train=data.images[:400], y_train=data.labels[:400],
             x_test=data.images[-200:], y_test=data.labels[-200:])  # fmt: skip
    return path


def settings(**changes: Any) -> TrainingSettings:
    recipe = dataclasses.replace(
        BEST, augmentation=None, validation_images=0, batch_size=16, epochs=3
    )
    return TrainingSettings(recipe, network=SMALL, **changes)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("lenet", 60_074), ("ds-cnn", 22_218), ("mobilenet-tiny", 220_970), ("resnet-8", 78_138)],
)
def test_the_networks_take_images_of_any_shape(name: str, parameters: int) -> None:
    assert networks.build(name, 10, (28, 28, 1)).count_params() == parameters
    assert f"{parameters:,} parameters" in networks.SUMMARIES[name]
    assert networks.build(name, 3, (33, 40, 3)).output_shape == (None, 3)


@pytest.mark.parametrize(("name", "size"), [("lenet", 4), ("cnn-3k", 14)])
def test_images_that_are_too_small_are_one_line(name: str, size: int) -> None:
    with pytest.raises(DataError, match=rf"{size} x {size} pixels are too small for {name}; give"):
        networks.build(name, 10, (size, size, 1))


def test_batchnorm_resumes_bit_for_bit_and_the_average_is_accurate(
    training: Dataset, test_part: Dataset, tmp_path: Path
) -> None:
    """The moving statistics, and their average, belong to the saved state."""
    test = first_images(test_part, 1000)
    whole, history = loop.train(training, test, settings())

    class Killed(Exception):
        pass

    def kill(progress: loop.TrainingProgress) -> None:
        if progress.accuracy is not None and progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        loop.train(training, test, settings(), tmp_path, on_progress=kill)
    resumed, _ = loop.train(training, test, settings(), tmp_path, resume=True)
    for expected, value in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert expected.tobytes() == value.tobytes()
    assert History.load(tmp_path).settings == settings().on(training)
    assert history.test_accuracy is not None
    assert history.test_accuracy > 0.6  # with the initial statistics, it is near 10 %


def test_replicas_refuse_batchnorm(training: Dataset) -> None:
    with pytest.raises(UsageError, match="cannot train a network with BatchNorm; leave --strategy"):
        loop.train(training, training, settings(), replicas=make_replicas("one"))


def test_a_history_of_an_older_training_opens(tmp_path: Path) -> None:
    recipe = dataclasses.asdict(BEST)
    old = {"recipe": recipe, "seed": 3, "data_sha256": "0" * 64}
    (tmp_path / "history.json").write_text(json.dumps({"settings": old, "dataset": "mnist-train"}))
    assert History.load(tmp_path).settings == TrainingSettings(BEST, 3, "0" * 64, "lenet")


def test_seeds_give_the_median_and_resume(
    training: Dataset, test_part: Dataset, tmp_path: Path
) -> None:
    """A third training is added. The second is done again, as if it was killed.

    The trainings have a teacher, and are quantized.
    """
    training, test = first_images(training, 320), first_images(test_part, 200)
    teacher = Teacher(networks.build(TINY, 10, (28, 28, 1)), UNIT, Head.LOGITS, "f" * 64)
    output, reported = tmp_path / "mine.keras", list[loop.TrainingProgress]()

    report: Callable[[loop.TrainingProgress], None] = reported.append

    def train(
        resume: bool, epochs: int = 1, count: int = 3
    ) -> tuple[Artifact, History, SeedSummary]:
        recipe = dataclasses.replace(settings().recipe, epochs=epochs)
        chosen = TrainingSettings(
            recipe, 1, network=TINY, quantize="int8", teacher_sha256=teacher.sha256
        )
        return train_seeds(output, training, test, chosen, count, resume, report, teacher)

    train(resume=False, count=2)
    with pytest.raises(LenetEdgeError, match=r"seed-1.keras was trained with epochs 1, not 2"):
        train(resume=True, epochs=2)
    assert not can_resume(output)
    artifact, history, seeds = train(resume=True)
    assert list(seeds.accuracies) == [1, 2, 3]
    assert seeds.accuracies[seeds.median_seed] == sorted(seeds.accuracies.values())[1]
    assert seeds.to_json()["mean"] == pytest.approx(np.mean(list(seeds.accuracies.values())))
    assert [(p.epoch, p.epochs) for p in reported if p.accuracy] == [(1, 2), (2, 2), (3, 3)]
    folder = tmp_path / "mine.seeds"
    assert load_artifact(output) == artifact
    assert artifact.sha256 == load_artifact(folder / f"seed-{seeds.median_seed}.keras").sha256
    assert History.load(tmp_path / "mine.training") == history
    assert read_ranges(output) == history.ranges is not None
    assert history.settings.teacher_sha256 == teacher.sha256

    before = weights(folder / "seed-2.keras")
    (folder / "seeds.json").unlink()
    (folder / "seed-2.keras").unlink()
    with pytest.raises(LenetEdgeError, match="unfinished trainings; continue them with --resume"):
        train(resume=False)
    with pytest.raises(LenetEdgeError, match=r"seed-1.keras was trained with epochs 1, not 2"):
        train(resume=True, epochs=2)
    assert train(resume=True)[2] == seeds
    assert weights(folder / "seed-2.keras") == before
    with pytest.raises(LenetEdgeError, match="there are no unfinished trainings in"):
        train(resume=True)
    files = {path: path.read_bytes() for path in folder.rglob("*.keras")}

    def stop(progress: loop.TrainingProgress) -> None:
        raise KeyboardInterrupt

    # Ctrl-C before the first epoch is done keeps the models of the earlier trainings.
    report = stop
    with pytest.raises(KeyboardInterrupt):
        train(resume=False)
    assert {path: path.read_bytes() for path in folder.rglob("*.keras")} == files
    assert not can_resume(output)


def weights(path: Path) -> bytes:
    import tensorflow as tf

    arrays = tf.keras.models.load_model(path).get_weights()
    return b"".join(array.tobytes() for array in arrays)


@pytest.mark.slow
def test_a_network_with_batchnorm_is_trained_distilled_exported_and_verified(
    lenet_edge_here: LenetEdge, exports: Path, few: Path, tmp_path: Path
) -> None:
    command = ("train", "--dataset", str(few), "--epochs", "1", "--batch-size", "100",
               "--network", "ds-cnn", "--output", "mine.keras")  # fmt: skip
    done = lenet_edge_here(
        *command, "--seeds", "2", "--teacher", exports / "lenet.keras", "--json", "result.json"
    )
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"The teacher classifies (.*)% of 400 training images", done.stderr)
    assert accuracy is not None
    assert float(accuracy[1]) > 90
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["network"] == "ds-cnn"
    assert result["seeds"]["median_seed"] in (1, 2)
    assert f"the median is seed {result['seeds']['median_seed']}" in done.stdout

    formats = ("--format", "tflite", "--format", "onnx", "--format", "native", "--format", "ncnn")
    images = ("--dataset", few, "--output-dir", "out")
    assert lenet_edge_here("export", "mine.keras", *formats, *images).returncode == 0
    names = ("float32.tflite", "float32.onnx", "native_float32.c", "ncnn_float32.param")
    files = [tmp_path / "out" / f"mine_{name}" for name in names]
    checked = lenet_edge_here("verify", *files, "--json", "verdicts.json")
    assert checked.returncode in (0, 4), checked.stderr  # 200 images may be too few
    reports = json.loads((tmp_path / "verdicts.json").read_text())["parity"]
    assert {Path(report["candidate"]).suffix for report in reports} == {f.suffix for f in files}
    for report in reports:
        assert report["max_abs_error"] < 1e-4
        assert report["verdict"] != "fail"
    parallel = lenet_edge_here(*command, "--seeds", "2", "--strategy", "one")
    assert parallel.returncode == 2
    assert "--teacher and --seeds train in one process" in parallel.stderr


def test_a_teacher_of_other_images_or_classes_is_an_error(
    lenet_edge_here: LenetEdge, exports: Path, few: Path, tmp_path: Path
) -> None:
    with np.load(few) as stored:
        wide = {name: stored[name] for name in stored}
    np.savez(tmp_path / "two.npz", **{**wide, "y_train": wide["y_train"] % 2,
                                      "y_test": wide["y_test"] % 2})  # fmt: skip
    wide["x_train"], wide["x_test"] = (
        np.pad(wide[name], ((0, 0), (0, 0), (2, 2), (0, 0))) for name in ("x_train", "x_test")
    )
    np.savez(tmp_path / "wide.npz", **wide)
    for dataset, message in (
        ("two.npz", "has 10 outputs (logits), and the images have 2 classes"),
        ("wide.npz", r"takes images of (28, 28, 1), not of (28, 32, 1)"),
    ):
        done = lenet_edge_here(
            "train",
            "--dataset",
            dataset,
            "--teacher",
            exports / "lenet.keras",
            "--output",
            "a.keras",
        )
        assert done.returncode == 1
        assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "a.keras").exists()


def test_a_teacher_gets_its_own_preprocessing(training: Dataset) -> None:
    """Logits of probabilities, values of -1 to 1 and swapped channels equal those of the model."""
    import tensorflow as tf

    image = tf.keras.Input((4, 4, 3))
    logits = tf.keras.layers.Dense(5)(tf.keras.layers.Flatten()(image))
    model = tf.keras.Model(image, logits)
    softmax = tf.keras.Model(image, tf.keras.layers.Softmax()(logits))
    rule = Preprocessing((1 / 127.5,), (-1.0,), channels="bgr")
    images = np.random.default_rng(0).random((8, 4, 4, 3), np.float32)
    expected = model(images[..., ::-1] * 2 - 1)
    np.testing.assert_allclose(
        Teacher(model, rule, Head.LOGITS, "").logits(images), expected, atol=1e-5
    )
    swapped = dataclasses.replace(UNIT, channels="bgr")
    np.testing.assert_array_equal(to_input_values(images, swapped), images[..., ::-1])
    gray = dataclasses.replace(rule, channels="gray")
    np.testing.assert_allclose(to_input_values(images, gray), apply(255 * images, gray), atol=1e-5)
    soft = Teacher(softmax, rule, Head.SOFTMAX, "").soft_labels(images)
    np.testing.assert_allclose(soft, tf.nn.softmax(expected / 4), atol=1e-5)
