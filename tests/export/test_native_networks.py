"""Tests of C files of other networks: random networks, a second network, unsupported layers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.artifacts.preprocessing import UNIT
from lenet_edge.data import mnist
from lenet_edge.errors import ModelFileError
from lenet_edge.export import native
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.native.text import identifier, with_contract
from tests.conftest import LenetEdge
from tests.export.native_random import cut_levels, unused_levels
from tests.export.test_native import WARNINGS, build, call_batch, keep_one_level
from tests.needs import require
from tests.reference_kernels import predict_batch

Shape = tuple[int, int, int]


def keras() -> Any:
    import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow

    import tensorflow as tf  # isort: skip

    return tf.keras


def network(image: Shape, layers: list[Any]) -> Any:
    k = keras()
    return k.Sequential([k.Input(image, name="image"), *layers])


def request(model: Any) -> ConversionRequest:
    """A request for float32 without calibration images."""
    return ConversionRequest(model, "float32", np.zeros((1, *model.input_shape[1:]), np.float32))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Shape, list[tuple[str, dict[str, Any]]]]:
    """Draw the image shape, and the kinds and settings of the layers of a small network."""
    rows, cols = draw(st.integers(4, 30)), draw(st.integers(4, 30))
    image = (rows, cols, draw(st.sampled_from([1, 1, 3])))
    layers: list[tuple[str, dict[str, Any]]] = []
    sides = st.tuples(st.integers(1, 3), st.integers(1, 3))

    def add(kind: str, window: str, padding: str, **settings: Any) -> bool:
        """Add a layer, if its windows fit into the output of the layer before."""
        nonlocal rows, cols
        size, strides = settings[window], settings["strides"]
        after = [
            -(-n // step) if padding == "same" else (n - length) // step + 1
            for n, length, step in zip((rows, cols), size, strides, strict=True)
        ]
        if min(after) < 1:
            return False
        rows, cols = after
        layers.append((kind, {**settings, "padding": padding}))
        return True

    for _ in range(draw(st.integers(0, 3))):
        classic = draw(st.booleans())  # as in LeNet, which has its own kernels
        kernel = (3, 3) if classic else draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        if not add(
            "Conv2D",
            "kernel_size",
            "valid" if classic else draw(st.sampled_from(["valid", "same"])),
            kernel_size=kernel,
            strides=(1, 1) if classic else draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
            filters=draw(st.integers(1, 20)),
            activation=draw(st.sampled_from([None, "relu"])),
            use_bias=draw(st.booleans()),
            bias_initializer=draw(st.sampled_from(["zeros", "random_normal"])),
        ):
            break
        if classic:
            add("MaxPool2D", "pool_size", "valid", pool_size=(2, 2), strides=(2, 2))
        elif draw(st.booleans()):
            padding = draw(st.sampled_from(["valid", "same"]))
            add("MaxPool2D", "pool_size", padding, pool_size=draw(sides), strides=draw(sides))
        if draw(st.booleans()):
            layers.append(("ReLU", {}))
    layers.append(("Flatten", {}) if draw(st.booleans()) else ("Reshape", {"target_shape": (-1,)}))
    if draw(st.booleans()):
        layers.append(("Dense", {"units": draw(st.integers(1, 300)), "activation": "relu"}))
        layers.append(("Dropout", {"rate": 0.5}))
    layers.append(("Dense", {"units": 10, "bias_initializer": "random_normal"}))
    return image, layers


def like_lenet(rows: int, cols: int) -> tuple[Shape, list[tuple[str, dict[str, Any]]]]:
    """Return two pairs of convolution and pool, which one kernel computes together."""
    layers: list[tuple[str, dict[str, Any]]] = []
    for filters in (5, 19):
        layers += [
            ("Conv2D", {"filters": filters, "kernel_size": 3, "bias_initializer": "random_normal"}),
            ("MaxPool2D", {"pool_size": (2, 2)}),
            ("ReLU", {}),
        ]
    return (rows, cols, 1), [*layers, ("Flatten", {}), ("Dense", {"units": 10})]


@pytest.mark.costly
@settings(max_examples=12)
@given(drawn=networks(), seed=st.integers(0, 2**32 - 1))
@example(drawn=like_lenet(28, 28), seed=0)
@example(drawn=like_lenet(19, 45), seed=1)
@example(drawn=like_lenet(37, 31), seed=2)
def test_random_networks_equal_keras(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[Shape, list[tuple[str, dict[str, Any]]]],
    seed: int,
) -> None:
    require("clang")
    folder = tmp_path_factory.mktemp("random")
    source, library = folder / "net.c", folder / "net.so"
    image, layers = drawn
    keras().utils.set_random_seed(seed)
    model = network(image, [getattr(keras().layers, kind)(**options) for kind, options in layers])
    images = np.random.default_rng(seed).random((5, *image), np.float32)
    source.write_bytes(native.convert(ConversionRequest(model, "float32", images)).content)
    source.write_text(keep_one_level(source.read_text()))
    flags = (*WARNINGS, "-Wno-unused-function", "-O1", "-shared", "-fPIC")
    build("clang", *flags, source, "-o", library)
    # Batch 1: TensorFlow 2.21 computes batches wrong for kernels of one row with strides (1, 2).
    # `predict` would take longer, because it traces the model.
    expected = np.concatenate([model(image[None]) for image in images])
    np.testing.assert_allclose(call_batch(library, images), expected, atol=1e-4, rtol=0)


def three_convolutions() -> Any:
    k = keras().layers
    return network(
        (28, 28, 1),
        [
            k.Conv2D(8, 5, padding="same", activation="relu"),
            k.MaxPool2D(3, 2),
            k.Conv2D(20, 3, strides=2),
            k.ReLU(),
            k.Conv2D(33, (3, 2), activation="relu"),
            k.MaxPool2D(2, padding="same"),
            k.Flatten(),
            k.Dense(150, activation="relu"),
            k.Dense(10),
        ],
    )


@pytest.mark.costly
def test_second_network_exports_and_verifies(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    require("cc")
    keras().utils.set_random_seed(1)
    model = three_convolutions()
    model.save(tmp_path / "second-net.keras")
    np.savez(tmp_path / "images.npz", images=mnist.load("test").images[:500])
    exported = lenet_edge_here("export", "second-net.keras", "--format", "native", "--dynamic",
                               "--int8", "--calibration", "images.npz", "--pixel-scale", "1",
                               "--output-dir", "out")  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    text = (tmp_path / "out" / "second-net_native_int8.c").read_text()
    assert "void second_net(const int8_t image[784], int8_t logits[10]);" in text
    files = [f"out/second-net_native_{precision}.c" for precision in ("float32", "dynamic")]
    verified = lenet_edge_here("verify", *files, "--json", "parity.json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    parity = json.loads((tmp_path / "parity.json").read_text())["parity"]
    reports = {report["candidate"]: report for report in parity}
    assert reports["second-net_native_float32.c"]["top1_agreement"] == 1
    assert reports["second-net_native_float32.c"]["max_abs_error"] < 1e-4


@pytest.mark.costly
def test_second_network_in_int8_equals_tensorflow_lite(tmp_path: Path) -> None:
    from lenet_edge.export import tflite

    require("cc")
    keras().utils.set_random_seed(2)
    model = three_convolutions()
    images = np.random.default_rng(0).random((200, 28, 28, 1), np.float32)
    content = tflite.convert(ConversionRequest(model, "int8", images)).content
    integers = np.random.default_rng(1).integers(-128, 128, images.shape, np.int8)
    source, library = tmp_path / "net.c", tmp_path / "net.so"
    converted = native.convert(ConversionRequest(model, "int8", images, name="net"))
    source.write_text(cut_levels(converted.content.decode(), unused_levels()))
    build("cc", *WARNINGS, "-O1", "-shared", "-fPIC", source, "-o", library)
    np.testing.assert_array_equal(
        call_batch(library, integers, "net"), predict_batch(content, integers)
    )


@pytest.mark.parametrize("precision", ["float32", "dynamic"])
def test_a_chain_with_batchnorm_gets_the_vector_kernels(tmp_path: Path, precision: str) -> None:
    require("cc")
    keras().utils.set_random_seed(4)
    k = keras().layers
    layers = [k.Conv2D(12, 5, 2, use_bias=False), k.BatchNormalization(), k.ReLU(), k.Flatten()]
    model = network((28, 28, 1), [*layers, k.Dense(10)])
    random = np.random.default_rng(0)
    layers[1].set_weights([random.uniform(0.5, 1.5, 12) for _ in range(4)])
    images = random.random((5, 28, 28, 1), np.float32)
    source, library = tmp_path / "lenet.c", tmp_path / "lenet.so"
    code = native.convert(dataclasses.replace(request(model), precision=precision)).content
    assert b"vector_size(" in code
    source.write_bytes(code)
    build("cc", *WARNINGS, "-O1", "-shared", "-fPIC", source, "-o", library)
    expected = model.predict(images, verbose=0)
    tolerance = 1e-4 if precision == "float32" else 0.05
    np.testing.assert_allclose(call_batch(library, images), expected, atol=tolerance, rtol=0)


UNSUPPORTED: dict[str, tuple[Callable[[Any], list[Any]], str]] = {
    "softmax": (lambda k: [k.Flatten(), k.Dense(10, activation="softmax", name="last")],
                r"layer last \(Dense\) is not covered .*softmax"),
    "average pool": (lambda k: [k.AveragePooling2D(2, name="mean"), k.Flatten(), k.Dense(10)],
                     r"layer mean \(AveragePooling2D\) is not covered"),
    "dilation": (lambda k: [k.Conv2D(3, 3, dilation_rate=2, name="wide"), k.Flatten(),
                            k.Dense(10)],
                 r"layer wide \(Conv2D\) is not covered .*dilation"),
    "leaky": (lambda k: [k.Conv2D(3, 3), k.ReLU(negative_slope=0.1, name="leaky"), k.Flatten(),
                         k.Dense(10)],
              r"layer leaky \(ReLU\) is not covered"),
    "ReLU first": (lambda k: [k.ReLU(name="first"), k.Flatten(), k.Dense(10)],
                   r"layer first \(ReLU\) is not covered .*follow"),
    "dense on pixels": (lambda k: [k.Dense(10, name="each")],
                        r"layer each \(Dense\) is not covered"),
    "no dense layer": (lambda k: [k.Conv2D(10, 12), k.Flatten()], "needs a dense layer at the end"),
    "too large": (lambda k: [k.Conv2D(8000, 1), k.MaxPool2D(12), k.Flatten(), k.Dense(2)],
                  "MiB .* on the stack"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_dynamic_names_the_unsupported_layer(case: str) -> None:
    layers, message = UNSUPPORTED[case]
    model = network((12, 12, 1), layers(keras().layers))
    with pytest.raises(ModelFileError, match=f"{message}.*leave out dynamic"):
        native.convert(dataclasses.replace(request(model), precision="dynamic"))


def branches() -> Any:
    """Return a model of branches and of layers that are no part of a chain."""
    k = keras()
    image = k.Input((12, 12, 1))
    wide = k.layers.Conv2D(6, 3, dilation_rate=2, padding="same")(image)
    normal = k.layers.BatchNormalization(name="normal")(wide)
    normal = k.layers.ReLU(negative_slope=0.1)(normal)
    deep = k.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(normal)
    both = k.layers.Add(name="sum")([normal, deep])
    parts = k.layers.Concatenate()([both, k.layers.AveragePooling2D(3, 1, "same")(wide)])
    mean = k.layers.GlobalAveragePooling2D()(parts)
    model = k.Model(image, k.layers.Dense(10, activation="softmax")(mean))
    model.get_layer("normal").set_weights(
        [np.full(6, value, np.float32) for value in (1.5, 0.1, 0.2, 0.7)]
    )
    return model


def test_branches_equal_keras(tmp_path: Path) -> None:
    require("cc")
    keras().utils.set_random_seed(3)
    model = branches()
    images = np.random.default_rng(0).random((5, 12, 12, 1), np.float32)
    source, library = tmp_path / "lenet.c", tmp_path / "lenet.so"
    source.write_bytes(native.convert(request(model)).content)
    build("cc", *WARNINGS, "-O1", "-shared", "-fPIC", source, "-o", library)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(call_batch(library, images), expected, atol=1e-5, rtol=0)
    with pytest.raises(ModelFileError, match=r"only one chain of layers is"):
        native.convert(dataclasses.replace(request(model), precision="dynamic"))


@pytest.mark.costly
def test_command_names_the_uncovered_operator(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    k = keras().layers
    larger = k.UpSampling2D(2, interpolation="bilinear", name="larger")
    network((28, 28, 1), [larger, k.Flatten(), k.Dense(10)]).save(tmp_path / "larger.keras")
    refused = lenet_edge_here("export", "larger.keras", "--format", "native")
    assert refused.returncode == 1
    message = " ".join(refused.stderr.split())
    assert "does not cover parts of larger: RESIZE_BILINEAR (operator 0, " in message
    assert not list((tmp_path / "exported").glob("*.c"))


LABELS = st.lists(st.text(max_size=12) | st.sampled_from(["*/", "/*", "\\", "??/", "a\nb"]),
                  min_size=1, max_size=4)  # fmt: skip


@pytest.fixture(scope="module")
def smallest() -> bytes:
    k = keras().layers
    model = network((4, 4, 1), [k.Flatten(), k.Dense(10)])
    return native.convert(request(model)).content


@settings(max_examples=25)
@given(labels=LABELS)
def test_labels_cannot_end_the_comment(
    tmp_path_factory: pytest.TempPathFactory, smallest: bytes, labels: list[str]
) -> None:
    require("gcc")
    facts = {"labels": labels, "parent_sha256": "0" * 64, "preprocessing": UNIT.to_json()}
    path = tmp_path_factory.mktemp("labels") / "net.c"
    path.write_bytes(with_contract(smallest, json.dumps(facts, separators=(",", ":"))))
    build("gcc", *WARNINGS, "-fsyntax-only", "-DPLAIN_C", path)
    assert json.loads(read_contract(path, "native") or "")["labels"] == labels


@pytest.mark.parametrize(
    ("stem", "name"),
    [("lenet", "lenet"), ("second-net", "second_net"), ("3d", "net_3d"), ("int", "net_int"),
     ("dense", "net_dense"), ("run", "net_run"), ("new", "net_new"), ("walk0", "net_walk0"),
     ("lenet5", "lenet5"), ("run_avx2", "net_run_avx2"), ("", "net_"),
     ("né", "n_"), ("_x", "net__x")],
)  # fmt: skip
def test_function_name_is_valid_c(stem: str, name: str) -> None:
    assert identifier(stem) == name


def test_fixed_batch_is_in_the_contract(exports: Path, tmp_path: Path) -> None:
    from lenet_edge.export.exporter import Options, export

    training, test = mnist.load("train"), mnist.load("test")
    (artifact,) = export(exports / "lenet.keras", tmp_path, training, test, ("native",),
                    options=Options(batch_size=4))  # fmt: skip
    assert artifact.path.name == "lenet_native_float32_b4.c"
    assert load_artifact(artifact.path).inputs[0].shape == (4, 28, 28, 1)
