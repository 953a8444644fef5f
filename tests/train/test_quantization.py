"""Quantization-aware training: the exported file computes what the training computed."""

import dataclasses
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.stated_input import NOTHING_STATED
from lenet_edge.artifacts.trained_ranges import TrainedRanges, read_ranges
from lenet_edge.classifier_io import infer_all, to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import ModelFileError
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.runtimes import get_target, open_session
from tests.conftest import LenetEdge, first_images

EXPORTED = Path(__file__).parents[2] / "exported"
pytestmark = pytest.mark.costly


def build_foreign(size: int = 28) -> Any:
    """Build a classifier of somebody else: functional, nested, with most of the covered layers."""
    import tensorflow as tf

    layers = tf.keras.layers
    image = tf.keras.Input((size, size, 1))
    stem = tf.keras.Sequential(
        [
            tf.keras.Input((size, size, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
        ],
        name="stem",
    )
    values = stem(image)
    shortcut = values
    values = layers.ZeroPadding2D(1)(values)
    values = layers.DepthwiseConv2D(3, use_bias=False)(values)
    values = layers.BatchNormalization(scale=False)(values)
    values = layers.Activation("relu")(values)
    values = layers.Conv2D(8, 1, activation="linear")(values)
    values = layers.ReLU()(layers.Add()([values, shortcut]))
    values = layers.AveragePooling2D(2)(values)
    values = layers.SeparableConv2D(12, 3, activation="relu")(values)
    values = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(values))
    values = layers.Dense(10)(values)
    return tf.keras.Model(image, layers.Softmax()(values), name="foreign")


def build_small(*first: Any) -> Any:
    """Build a classifier that trains in a second, with some layers before its own."""
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            *first,
            layers.Conv2D(4, 3, strides=3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


def settings(epochs: int, quantize: str = "int8") -> Any:
    from lenet_edge.train.recipe import FINETUNE
    from lenet_edge.train.saved_state import TrainingSettings

    recipe = dataclasses.replace(FINETUNE, epochs=epochs, augmentation=None)
    return TrainingSettings(recipe, quantize=quantize, start_sha256="0")


def predict_file(path: Path, images: Any) -> Any:
    artifact = load_artifact(path)
    target = {".tflite": "litert-xnnpack", ".onnx": "onnxruntime-cpu"}[path.suffix]
    with closing(open_session(artifact, get_target(target))) as session:
        return infer_all(session, to_model_input(images, artifact), 100)


def scales_in(path: Path) -> list[float]:
    """Return the scales of a .tflite file's tensors with one scale."""
    from lenet_edge.export.native import tflite_graph

    graph = tflite_graph.read(path.read_bytes(), path.name)
    tensors = [tensor for operator in graph.operators for tensor in operator.inputs if tensor]
    return [tensor.scale for tensor in (*tensors, *graph.outputs) if len(tensor.scales) == 1]


def check_integers_in(path: Path, model: Any, ranges: TrainedRanges) -> None:
    """Check the scales, the zero points and the weights of LeNet's .onnx file exactly."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rounded = {
        tuple(arrays[name].item() for name in node.input[1:])
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    limits = np.array(list(ranges.activations.values()), np.float32)
    scales = (limits[:, 1] - limits[:, 0]) / np.float32(255)
    zeros = np.round(-limits[:, 0] / scales)  # of uint8
    assert rounded == set(zip(scales.tolist(), zeros.tolist(), strict=True))
    kernels = [
        [arrays[name] for name in node.input]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in arrays
    ]
    assert len(kernels) == len(ranges.weights) == 5
    for (integers, scale, zero), (name, entry) in zip(kernels, ranges.weights.items(), strict=True):
        kernel = np.asarray(model.get_layer(name).kernel)
        wanted = np.round(kernel / np.array(entry.scales, np.float32))
        order = (3, 2, 0, 1) if wanted.ndim == 4 else (0, 1)
        assert scale.tolist() == list(entry.scales)
        assert np.array_equal(integers.astype(int) - int(zero[0]), wanted.transpose(order)), name


def optimized_operators(path: Path) -> list[str]:
    """Return the operators that ONNX Runtime executes."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    options.log_severity_level = 3  # the saved file fits this machine only
    onnxruntime.InferenceSession(str(path), options)
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    parts = {name: first_images(mnist.load(name), 640) for name in ("train", "test")}
    path = tmp_path / "few.npz"
    arrays = {f"x_{name}": part.images for name, part in parts.items()}
    np.savez(path, **arrays, **{f"y_{name}": part.labels for name, part in parts.items()})
    return path


def test_the_exported_files_predict_what_the_network_predicts(
    tmp_path: Path, test_part: Dataset
) -> None:
    import tensorflow as tf

    from lenet_edge.export.checkpoint import load_checkpoint
    from lenet_edge.export.exporter import export
    from lenet_edge.train import fused_forward, loop

    training = first_images(mnist.load("train"), 1280)
    for precision, bits in (("int8", 8), ("int4", 4)):
        model = load_checkpoint(EXPORTED / "lenet.keras")
        network = FakeQuantizedNetwork(model, precision)
        images = training.images / np.float32(255)
        network.calibrate(np.array_split(images, 10))
        network.round_model()
        pooled = network.forward(images, convolve_and_pool=fused_forward.convolve_and_pool)
        assert np.mean(np.abs(pooled - network(images)) < 1e-3) > 0.99
        ranges = network.trained_ranges()
        assert [ranges.weights[name].bits for name in ("conv1", "conv2", "dense1")] == [8, 8, bits]
        checkpoint = tmp_path / "lenet.keras"
        loop.save_checkpoint(model, checkpoint, training.class_names, ranges=ranges)
        assert load_artifact(checkpoint).settings == (f"quantize={precision}",)
        assert tf.keras.models.load_model(checkpoint).count_params() == 60_074
        network = FakeQuantizedNetwork.load(load_checkpoint(checkpoint), ranges)
        expected = loop.predict_logits(network, test_part)
        assert np.mean(expected.argmax(axis=1) == test_part.labels) > 0.99
        files = {}
        for format, own in (("tflite", precision), ("onnx", "int8")):  # int4 as int8 is exact
            notes: list[str] = []
            (file,) = export(checkpoint, tmp_path, training, first_images(test_part, 100), [format],
                             [own], note=notes.append)  # fmt: skip
            assert f"calibration: trained ranges for {format} {own}" in notes
            assert file.calibration == "trained ranges"
            actual = predict_file(file.path, test_part.images)
            assert np.mean(expected.argmax(axis=1) == actual.argmax(axis=1)) >= 0.9995
            assert np.mean(np.abs(expected - actual) < 1e-3) > 0.99
            files[format] = file.path
        check_integers_in(files["onnx"], model, ranges)
        found = scales_in(files["tflite"])
        wanted = [(high - low) / 255 for low, high in ranges.activations.values()]
        wanted += [entry.scales[0] for entry in ranges.weights.values() if entry.bits == 4]
        assert set(np.array(wanted, np.float32).tolist()) <= set(found)


def test_unbalanced_channels_are_equalized(test_part: Dataset) -> None:
    from lenet_edge.export.checkpoint import load_checkpoint
    from lenet_edge.train import loop
    from lenet_edge.train.equalization import equalize

    model = load_checkpoint(EXPORTED / "lenet.keras")
    random = np.random.default_rng(0)
    for name, following in (("conv1", "conv2"), ("conv2", "dense1"), ("dense1", "dense2")):
        layer, reader = model.get_layer(name), model.get_layer(following)
        factors = np.exp2(random.integers(-4, 5, layer.bias.shape)).astype(np.float32)
        layer.kernel.assign(layer.kernel * factors)
        layer.bias.assign(layer.bias * factors)
        repeated = np.tile(factors, reader.kernel.shape[-2] // len(factors))
        reader.kernel.assign(reader.kernel / repeated[:, np.newaxis])
    images = first_images(mnist.load("train"), 1280).images / np.float32(255)
    judged = first_images(test_part, 1000)
    expected = loop.predict_logits(model, judged)
    network = FakeQuantizedNetwork(model)

    def error() -> float:
        network.calibrate(np.array_split(images, 10))
        return float(np.abs(loop.predict_logits(network, judged) - expected).mean())

    before = error()
    equalize(network, np.array_split(images, 10))
    assert np.allclose(loop.predict_logits(model, judged), expected, atol=1e-3)
    assert error() < before / 3


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_equalization_keeps_the_float_function(fraction: float) -> None:
    """Also of networks with nested models, additions, depthwise layers and dead channels."""
    from lenet_edge.train.equalization import equalize

    random = np.random.default_rng(0)
    model = build_foreign()
    for variable in model.weights:
        dead = random.random(variable.shape) < fraction / 3
        low = 0.5 if "variance" in variable.path or "gamma" in variable.path else -0.5
        variable.assign(np.where(dead, max(low, 0), random.uniform(low, 1, variable.shape)))
    images = random.random((64, 28, 28, 1), np.float32)
    expected = model(images, training=False)
    before = [variable.numpy() for variable in model.weights]
    equalize(FakeQuantizedNetwork(model), np.array_split(images, 3))
    changed = [not np.array_equal(*pair) for pair in zip(before, model.weights, strict=True)]
    assert any(changed)
    assert np.all(np.isfinite(np.concatenate([v.numpy().ravel() for v in model.weights])))
    assert np.allclose(model(images, training=False), expected, atol=1e-5)


def test_finetune_writes_a_checkpoint_with_ranges(
    lenet_edge_here: LenetEdge, few: Path, tmp_path: Path
) -> None:
    """A Rescaling layer at the start becomes the preprocessing."""
    import tensorflow as tf

    from lenet_edge.export.source import load_source

    layers = tf.keras.layers
    first = layers.RandomFlip(), layers.Rescaling(1 / 127.5, -1)
    build_small(*first).save(tmp_path / "small.keras")
    whole = load_source(tmp_path / "small.keras", NOTHING_STATED)
    part = whole.without_rescaling()
    assert part.model is not whole.model
    images = mnist.load("test").images[:8]
    np.testing.assert_allclose(part.predict(images), whole.predict(images), atol=1e-5)
    done = lenet_edge_here(
        "finetune", "small.keras", "--dataset", few, "--epochs", "2", "--quantize", "int4"
    )
    assert done.returncode == 0, done.stderr
    assert "Rescaling layer of small.keras becomes its preprocessing: pixels sc" in done.stderr
    rule = load_artifact(tmp_path / "small_qat.keras").preprocessing
    assert (*rule.scale, *rule.offset) == pytest.approx((1 / 127.5, -1))
    trained = tf.keras.models.load_model(tmp_path / "small_qat.keras")
    assert isinstance(trained.layers[1], layers.Conv2D)
    assert "640 test images right in int4" in done.stdout
    ranges = read_ranges(tmp_path / "small_qat.keras")
    assert ranges is not None
    assert sorted(entry.bits for entry in ranges.weights.values()) == [4, 8]


def test_finetune_resumes_after_ctrl_c(
    lenet_edge_here: LenetEdge, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lenet_edge.flows import recorded_training
    from lenet_edge.train.saved_state import TrainingState

    build_small().save(tmp_path / "small.keras")
    command = ("finetune", "small.keras", "--dataset", few, "--epochs", "2")

    def save_and_stop(state: TrainingState, folder: Path, save: Any = TrainingState.save) -> None:
        save(state, folder)
        raise KeyboardInterrupt

    none = lenet_edge_here(*command, "--resume")
    assert none.returncode == 1
    assert "there is no unfinished training in" in none.stderr
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_and_stop)
        stopped = lenet_edge_here(*command)
    assert stopped.returncode == 130
    assert "go on with the same command and --resume" in stopped.stderr
    again = lenet_edge_here(*command)
    assert again.returncode == 1
    assert "continue it with --resume" in again.stderr
    other = lenet_edge_here(*command, "--resume", "--quantize", "int4")
    assert other.returncode == 1
    assert "with quantize int8, not int4" in other.stderr
    other = lenet_edge_here(*command, "--resume", "--pixel-scale", "1/255")
    assert other.returncode == 1
    assert "with preprocessing pixels of 0 to 255, not pixels scaled to 0..1" in other.stderr

    def remove_and_press(path: Path) -> None:
        path.unlink()
        os.kill(os.getpid(), signal.SIGINT)

    # Ctrl-C while the last file is written comes too late to lose anything.
    monkeypatch.setattr(recorded_training, "remove", remove_and_press)
    resumed = lenet_edge_here(*command, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert read_ranges(tmp_path / "small_qat.keras")


def test_replicas_train_with_rounding(test_part: Dataset) -> None:
    from lenet_edge.train import loop
    from lenet_edge.train.distribution import make_replicas
    from lenet_edge.train.recipe import CLASSIC
    from lenet_edge.train.saved_state import TrainingSettings

    training, test = first_images(mnist.load("train"), 320), first_images(test_part, 100)
    recipe = dataclasses.replace(CLASSIC, epochs=1, batch_size=16)
    rounded = TrainingSettings(recipe, quantize="int4")
    _, history = loop.train(training, test, rounded, replicas=make_replicas("one"))
    assert history.ranges is not None
    assert history.ranges.weights["dense1"].bits == 4


def test_other_precisions_than_that_of_the_training_are_said() -> None:
    from lenet_edge.export.conversion import describe_ranges

    planned = [
        ("tflite", "int8"), ("native", "int8"), ("tflite", "int4"), ("onnx", "int8"),
        ("ncnn", "int8"),
    ]  # fmt: skip
    ranges = TrainedRanges("int4", {}, {})
    assert describe_ranges(ranges, planned) == (
        "calibration: trained ranges for tflite int8, native int8, tflite int4, onnx int8;"
        " calibration: images for ncnn int8, without trained ranges; int8 rounds the dense weights"
        " again, because they were trained for int4; --int4 is exact"
    )
    assert "again" not in describe_ranges(ranges, planned[2:])  # .onnx files store the integers


def test_a_foreign_model_is_trained_and_exported(tmp_path: Path, test_part: Dataset) -> None:
    import tensorflow as tf

    from lenet_edge.export.exporter import export
    from lenet_edge.train import loop

    model = build_foreign()
    model.layers[-2].kernel.assign(3000 * model.layers[-2].kernel)  # predictions that differ
    training = first_images(mnist.load("train"), 4000)
    trained, history = loop.train(
        training, first_images(test_part, 1000), settings(2), start=loop.StartingModel(model)
    )
    ranges = history.ranges
    assert isinstance(ranges, TrainedRanges)
    assert {"stem/conv2d", "image"} <= {name.rstrip("_0123456789") for name in ranges.activations}
    path = tmp_path / "foreign.keras"
    loop.save_checkpoint(trained, path, training.class_names, ranges=ranges)
    test = first_images(test_part, 1000)
    files = export(path, tmp_path, training, test, ["tflite", "onnx"], ["int8"])
    assert [file.calibration for file in files] == ["trained ranges"] * 2
    network = FakeQuantizedNetwork.load(trained, ranges)
    expected = tf.nn.softmax(loop.predict_logits(network, test_part)).numpy()
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > 0.01  # two steps of the int8 probabilities
    assert np.mean(clear) > 0.5
    same, same_onnx = (
        predict_file(file.path, test_part.images).argmax(axis=1) == expected.argmax(axis=1)
        for file in files
    )
    assert np.mean(same[clear]) > 0.999
    assert np.mean(same_onnx) >= 0.999  # its probabilities are not rounded
    operators = optimized_operators(files[1].path)
    assert [operators[0], *operators[-2:]] == ["QuantizeLinear", "DequantizeLinear", "Softmax"]
    integers = ("QLinear", "QGemm", "Pad", "Transpose", "Reshape")  # the last three copy
    assert all(name.startswith(integers) for name in operators[1:-2]), operators


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, test_part: Dataset) -> None:
    """It stops in its last epoch, and again after that epoch is saved.

    In int4, the convolution has weights of 8 bits and the dense layer has weights of 4 bits.
    """
    from lenet_edge.train import loop

    training, test = first_images(mnist.load("train"), 600), first_images(test_part, 100)
    rounded = settings(2, "int4")
    start = build_small()
    first = start.get_weights()

    def train(**options: Any) -> tuple[list[Any], Any]:
        start.set_weights(first)
        model, history = loop.train(
            training, test, rounded, start=loop.StartingModel(start), **options
        )
        return model.get_weights(), history.ranges

    def stop_before_save(progress: loop.TrainingProgress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    def stop_after_save(progress: loop.TrainingProgress) -> None:
        if progress.epoch == 2 and progress.accuracy is not None:
            raise KeyboardInterrupt

    whole = train()
    for stop, resume in ((stop_before_save, False), (stop_after_save, True)):
        with pytest.raises(KeyboardInterrupt):
            train(folder=tmp_path, resume=resume, on_progress=stop)
    resumed = train(folder=tmp_path, resume=True)
    assert whole[1] == resumed[1]
    assert all(np.array_equal(a, b) for a, b in zip(whole[0], resumed[0], strict=True))


def test_uncovered_layers_are_named() -> None:
    import tensorflow as tf

    layers = tf.keras.layers
    for layer, reason in (
        (layers.LayerNormalization(name="own"), r"layer own \(LayerNormalization\) is not covered"),
        (layers.Conv2D(4, 3, activation="gelu", name="own"), "its activation is gelu"),
        (layers.BatchNormalization(name="own"), "does not directly follow"),
        (layers.LeakyReLU(name="own"), r"layer own \(LeakyReLU\)"),
        (layers.ReLU(negative_slope=0.1, name="own"), "its activation is other"),
    ):
        chain = [tf.keras.Input((8, 8, 1)), layers.MaxPooling2D(), layer, layers.Flatten()]
        with pytest.raises(ModelFileError, match=reason):
            FakeQuantizedNetwork(tf.keras.Sequential([*chain, layers.Dense(3)]))
    pooled = tf.keras.Sequential([tf.keras.Input((8, 8, 1)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ModelFileError, match="has no dense layers, whose weights int4 is for"):
        FakeQuantizedNetwork(pooled, "int4")
    image = tf.keras.Input((8,))
    three = tf.keras.Model(image, layers.Add(name="own")([layers.Dense(3)(image)] * 3))
    with pytest.raises(ModelFileError, match=r"layer own \(Add\) .*: it adds 3 tensors, not two"):
        FakeQuantizedNetwork(three)


def test_finetune_names_uncovered_layers_before_it_predicts(
    lenet_edge_here: LenetEdge, tmp_path: Path, few: Path
) -> None:
    import tensorflow as tf

    build_small(tf.keras.layers.LeakyReLU(name="own")).save(tmp_path / "leaky.keras")
    done = lenet_edge_here("finetune", "leaky.keras", "--dataset", few)
    assert done.returncode == 1
    assert "layer own (LeakyReLU) is not covered" in done.stderr.splitlines()[-1]
    assert "it is right on" not in done.stderr


def test_finetune_refuses_images_of_another_shape(
    lenet_edge_here: LenetEdge, tmp_path: Path, few: Path
) -> None:
    build_foreign(32).save(tmp_path / "large.keras")
    done = lenet_edge_here("finetune", tmp_path / "large.keras", "--dataset", few)
    assert done.returncode == 1
    assert "give its own images with --dataset" in done.stderr
    assert not (tmp_path / "large_qat.keras").exists()


def test_finetune_refuses_the_embedded_images_for_a_model_of_others(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    build_small().save(tmp_path / "small.keras")
    done = lenet_edge_here("finetune", tmp_path / "small.keras")
    assert done.returncode == 1
    assert "the images of mnist-train are not those of small.keras; give its own" in done.stderr
    assert "--calibration" not in done.stderr  # an option of export
