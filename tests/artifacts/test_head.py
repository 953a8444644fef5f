"""Tests of heads: the classes and probabilities that outputs of each kind mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.head import (
    Head,
    class_names,
    head_of,
    head_of_values,
    read_outputs,
    resolve_head,
)
from lenet_edge.artifacts.output_operator import output_operator
from lenet_edge.errors import TargetError
from lenet_edge.flows.predict import Prediction
from lenet_edge.prediction import classify
from lenet_edge.results.parity_report import Bounds
from lenet_edge.selection import load_artifacts
from lenet_edge.verify.parity import compare_logits
from lenet_edge.verify.verdict import judge_parity

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.normal(size=(200, 10)).astype(np.float32) * 4


def softmax(scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    powers = np.exp(scores.astype(float))
    chances: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype("f4")
    return chances


def sigmoid(scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    chances: npt.NDArray[np.float32] = (1 / (1 + np.exp(-scores.astype(float)))).astype("f4")
    return chances


def rounded(chances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities as an 8-bit output holds them."""
    steps: npt.NDArray[np.float32] = np.minimum(np.rint(chances * 256), 255) / 256
    return steps


VALUES_OF_HEADS = {
    Head.LOGITS: SCORES,
    Head.SOFTMAX: rounded(softmax(SCORES)),
    Head.LOGIT: SCORES[:, :1],
    Head.SIGMOID: rounded(sigmoid(SCORES[:, :1])),
    Head.SIGMOIDS: rounded(sigmoid(SCORES)),
}


@pytest.mark.parametrize("head", VALUES_OF_HEADS, ids=lambda head: head.value)
def test_values_show_their_head_and_are_read_once(head: Head) -> None:
    values = VALUES_OF_HEADS[head]
    assert head_of_values(values) is head
    assert resolve_head(head, values) is head
    classes, chances = read_outputs(values, head)
    expected = (SCORES[:, 0] >= 0) if head.is_binary else values.argmax(axis=1)
    assert classes.tolist() == expected.astype(int).tolist()
    if head is Head.SIGMOIDS:
        np.testing.assert_array_equal(chances, values)
    else:
        np.testing.assert_allclose(chances.sum(axis=1), 1, atol=0.03)
        scores = np.concatenate([0 * SCORES[:, :1], SCORES[:, :1]], 1) if head.is_binary else SCORES
        np.testing.assert_allclose(chances, softmax(scores), atol=0.005)
    names = class_names(["cat"] if head.is_binary else [], head, chances.shape[1])
    assert names == (("not cat", "cat") if head.is_binary else tuple("0123456789"))


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "head"),
    [
        ("softmax", (None, 28, 28), (None, 10), Head.SOFTMAX),
        ("other", (None, 28, 28), (None, 10), Head.LOGITS),
        ("log_softmax", (None, 28, 28), (None, 1, 1, 10), Head.LOGITS),
        ("sigmoid", (None, 28, 28), (None, 1), Head.SIGMOID),
        ("sigmoid", (None, 28, 28), (None, 3), Head.SIGMOIDS),
        ("other", (None, 28, 28), (None, 1), Head.LOGIT),
        ("sigmoid", (None, 28, 28, 1), (None, 28, 28, 1), Head.VALUES),
        ("sigmoid", (None, 784), (None, 784), Head.VALUES),
        ("softmax", (None, 64, 64, 3), (None, 64, 64, 21), Head.VALUES),  # a class per pixel
        (None, (None, 28, 28), (None, 10), None),
        ("other", (None, 28, 28), (None, None), None),
    ],
)
def test_the_operator_and_the_shapes_decide(
    operator: str, inputs: Any, outputs: Any, head: Head | None
) -> None:
    assert head_of(operator, inputs, outputs) is head


def test_values_and_labels_rule_heads_out() -> None:
    # Softmax in operators of its own: the last one is a division.
    assert resolve_head(Head.LOGITS, softmax(SCORES)) is Head.SOFTMAX
    amounts = np.abs(SCORES[:, :1]) + 20  # ages have one sign
    assert resolve_head(Head.LOGIT, amounts) is Head.VALUES
    ages = amounts[:, 0].astype(np.int32)
    assert resolve_head(Head.LOGIT, SCORES[:, :1], ages) is Head.VALUES
    binary = (SCORES[:, 0] > 0).astype(np.int32)
    assert resolve_head(Head.LOGIT, SCORES[:, :1], binary) is Head.LOGIT
    assert resolve_head(Head.LOGIT, np.array([[0.3]])) is Head.LOGIT  # one image shows little
    # A manifest may state anything.
    assert resolve_head(Head.SIGMOID, SCORES) is Head.LOGITS


@pytest.mark.parametrize("head", VALUES_OF_HEADS, ids=lambda head: head.value)
def test_the_agreement_of_each_head(head: Head) -> None:
    """Two heads state the same classes; 10 of 200 images are turned to another class."""
    reference = VALUES_OF_HEADS[head]
    candidate = reference.copy()
    scores = head in (Head.LOGITS, Head.LOGIT)
    candidate[:10] = -candidate[:10] if scores else 1 - candidate[:10]
    labels = read_outputs(reference, head)[0].astype(np.int32)
    comparison = compare_logits(reference, candidate, labels, (), head, head)
    assert comparison["head"] == head.value
    assert comparison["top1_agreement"] == 0.95
    assert comparison["reference_accuracy"] == 1
    assert len(comparison["flips"]) == 10
    for flip in comparison["flips"]:
        assert flip.was != flip.now
        assert 0 <= flip.confidence <= 1
    assert len(comparison["per_class"]) == (2 if head.is_binary else 10)
    if head.is_binary:
        named = compare_logits(reference, candidate, labels, ["cat"], head)
        assert [counts.name for counts in named["per_class"]] == ["not cat", "cat"]
    assert comparison["reference_confidence"] <= 1
    same = compare_logits(reference, reference, labels, (), head, head)
    assert (same["top1_agreement"], same["snr_db"]) == (1, None)


def test_one_more_class_of_a_set_is_another_answer() -> None:
    reference = np.tile(np.array([[0.9, 0.2, 0.4]], np.float32), (100, 1))
    candidate = reference.copy()
    candidate[7, 2] = 0.6  # the most probable class stays 0
    comparison = compare_logits(reference, candidate, head=Head.SIGMOIDS)
    (flip,) = comparison["flips"]
    assert (flip.index, flip.was, flip.now, flip.confidence) == (7, 0, 2, pytest.approx(0.6))
    assert comparison["top1_agreement"] == 0.99


def test_scores_are_compared_with_probabilities() -> None:
    comparison = compare_logits(SCORES, softmax(SCORES), None, (), Head.LOGITS, Head.SOFTMAX)
    assert comparison["top1_agreement"] == 1
    assert comparison["max_abs_error"] < 1e-6


def test_agreement_by_chance_raises_an_alarm() -> None:
    bounds = Bounds(None, 99)
    others = RANDOM.permutation(SCORES)
    verdict, reasons = judge_parity(compare_logits(SCORES, others), bounds)
    assert verdict == "fail"
    assert reasons[0].startswith("ALARM: it agrees on ")
    shifted = compare_logits(SCORES, np.roll(SCORES, 1, axis=1))
    assert "ALARM: it agrees on 0.00 %" in judge_parity(shifted, bounds)[1][0]
    worse = SCORES.copy()
    worse[:20] = -worse[:20]
    verdict, reasons = judge_parity(compare_logits(SCORES, worse), bounds)
    assert (verdict, "ALARM" in reasons[0]) == ("fail", False)


def test_one_class_for_all_images_shows_nothing() -> None:
    """Wrong input values often have this effect, on both models alike."""
    constant = np.tile(SCORES[:1], (200, 1))
    comparison = compare_logits(constant, constant)
    verdict, reasons = judge_parity(comparison, Bounds(None, 99))
    assert verdict == "inconclusive"
    assert "one class for all 200 images" in reasons[0]
    labels = np.full(200, constant[0].argmax(), np.int32)  # here the images are of one class
    assert judge_parity(compare_logits(constant, constant, labels), Bounds(None, 99))[0] == "pass"


def write_onnx(path: Path, bias: list[float], *operators: str) -> Path:
    """Write a model of 8 x 8 pixels that returns a bias, through some operators."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": np.zeros((64, len(bias)), "f4"), "b": np.array(bias, "f4")}
    nodes = [
        helper.make_node("Flatten", ["x"], ["0"]),
        helper.make_node("Gemm", ["0", "w", "b"], ["1"]),
        *(
            helper.make_node(operator, [f"{number}"], [f"{number + 1}"])
            for number, operator in enumerate(operators, start=1)
        ),
    ]
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(bias)])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("bias", "operators", "label", "confidence"),
    [
        ([0.0, 3.0, 1.0], (), "1", np.e**3 / (1 + np.e**3 + np.e)),
        ([0.0, 3.0, 1.0], ("Softmax", "Identity"), "1", np.e**3 / (1 + np.e**3 + np.e)),
        ([0.0, 3.0, 1.0], ("LogSoftmax",), "1", np.e**3 / (1 + np.e**3 + np.e)),
        ([2.0], ("Sigmoid",), "1", 1 / (1 + np.e**-2)),
        ([-2.0], ("Sigmoid",), "0", 1 / (1 + np.e**-2)),
        ([0.3], (), "1", 1 / (1 + np.e**-0.3)),
        ([-1.0, 2.0, 1.0], ("Sigmoid",), "1", 1 / (1 + np.e**-2)),
    ],
)
def test_predictions_of_each_head(
    tmp_path: Path, bias: list[float], operators: tuple[str, ...], label: str, confidence: float
) -> None:
    """No probability passes through softmax a second time."""
    path = write_onnx(tmp_path / "head.onnx", bias, *operators)
    (artifact,) = load_artifacts([path], tmp_path)
    pixels = np.zeros((8, 8, 1), np.uint8).tolist()
    fields = classify(artifact.to_json(), "onnxruntime-cpu", pixels)
    assert fields["label"] == label
    assert fields["confidence"] == pytest.approx(confidence, abs=1e-6)
    independent = len(bias) == 3 and operators == ("Sigmoid",)
    assert fields["labels"] == (["1", "2"] if independent else None)
    prediction = Prediction("image", "file", "target", **fields)
    if independent:
        assert prediction.describe() == "1 + 2  (1 88.1 %, 2 73.1 %, 0 26.9 %)"
        assert prediction.to_json()["labels"] == ["1", "2"]
    else:
        assert sum(fields["probabilities"].values()) == pytest.approx(1)
        assert prediction.describe().split() == [label, f"{100 * confidence:.1f}", "%"]


def test_a_model_without_classes_predicts_nothing(tmp_path: Path) -> None:
    (artifact,) = load_artifacts([write_onnx(tmp_path / "a.onnx", [0.5] * 64, "Sigmoid")], tmp_path)
    pixels = np.zeros((8, 8, 1), np.uint8).tolist()
    with pytest.raises(TargetError, match="returns 64 values for an image and no classes"):
        classify(artifact.to_json(), "onnxruntime-cpu", pixels)


def test_the_operator_of_a_tflite_file(exported: Callable[[str], Any]) -> None:
    golden = Path(__file__).parents[1] / "golden" / "metadata" / "with_metadata.tflite"
    assert output_operator(golden, "tflite") == "softmax"
    assert exported("lenet_int8.tflite").head == "logits"
    assert output_operator(golden, "keras") is None


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_damaged_file_has_no_known_operator(tmp_path: Path, format: str) -> None:
    content = (Path(__file__).parents[1] / "golden/metadata/with_metadata.tflite").read_bytes()
    if format == "onnx":
        content = write_onnx(tmp_path / "whole.onnx", [0.0, 1.0], "Softmax").read_bytes()
    path, random = tmp_path / f"damaged.{format}", np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content[: random.integers(len(content) // 2, len(content))])
        for at in random.integers(0, len(damaged), 4):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        output_operator(path, format)  # no error
    path.write_bytes(b"")
    assert output_operator(path, format) is None


@pytest.mark.costly
def test_heads_of_keras_models() -> None:
    import tensorflow as tf

    from lenet_edge.export.checkpoint import keras_head

    layers = tf.keras.layers

    def head(*ends: Any, shape: Any = (8, 8, 1)) -> str | None:
        model = tf.keras.Sequential([tf.keras.Input(shape), layers.Flatten(), *ends])
        nested = tf.keras.Sequential([tf.keras.Input(shape), model])
        assert keras_head(nested) == keras_head(model)
        return keras_head(model)

    assert head(layers.Dense(3, activation="softmax")) == "softmax"
    assert head(layers.Dense(3), layers.Softmax()) == "softmax"
    assert head(layers.Dense(3), layers.Activation("softmax"), layers.Reshape((3,))) == "softmax"
    assert head(layers.Dense(3)) == "logits"
    assert head(layers.Dense(3, activation="sigmoid")) == "sigmoids"
    assert head(layers.Dense(1, activation="sigmoid")) == "sigmoid"
    assert head(layers.Dense(1)) == "logit"
    assert head(layers.Dense(64, activation="sigmoid"), layers.Reshape((8, 8, 1))) == "values"
