"""Tests of `tune`: the Pareto front, the chosen file and the result file."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, describe_file, load_artifact
from lenet_edge.artifacts.head import Head
from lenet_edge.bench.interleave import InterleavedRatio
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.flows.mixes import Mix, MixParity, mark_front
from tests.conftest import LenetEdge


def mix(artifact: Artifact, drop: float, latency: float, size: int) -> Mix:
    parity = MixParity(0.99, drop, 1.0, 0)
    ratio = InterleavedRatio(latency, latency, latency, 1e-5 * latency)
    return Mix(dataclasses.replace(artifact, size_bytes=size), {}, parity, ratio)


def test_mixes_are_compared_by_the_head_that_the_files_state() -> None:
    """Scores of 0 to 1 look like independent probabilities, of which the first changes here."""
    reference = np.tile(np.array([[0.6, 0.9]], np.float32), (10, 1))
    logits = np.tile(np.array([[0.4, 0.9]], np.float32), (10, 1))
    labels = np.ones(10, np.int32)
    assert MixParity.of(reference, logits, labels, Head.LOGITS).top1_agreement == 1
    assert MixParity.of(reference, logits, labels, Head.SIGMOIDS).top1_agreement == 0


def test_the_front_has_no_dominated_mix(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"x")
    artifact = describe_file(
        tmp_path / "a.tflite", precision="mixed", batch_size=None, inputs=(), outputs=(),
        parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip
    costs = [
        (0.0, 1.0, 100, False),
        (0.0, 0.5, 100, True),
        (0.02, 0.6, 100, False),  # dominated by the mix above: better in two costs, equal in one
        (0.02, 0.4, 100, True),
        (0.02, 0.6, 90, True),
        (0.0, 0.5, 100, True),  # equal to the second mix: neither dominates the other
    ]
    marked = mark_front([mix(artifact, *cost[:3]) for cost in costs])
    assert [mix.on_front for mix in marked] == [cost[3] for cost in costs]


def write_small_network(path: Path) -> None:
    """Train a network of three layers for a few seconds: LeNet's 243 mixes take three minutes."""
    import tensorflow as tf

    from lenet_edge.train import loop

    layers, training = tf.keras.layers, mnist.load("train")
    model = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(to_input(training.images), training.labels, 128, verbose=0)
    loop.save_checkpoint(model, path, training.class_names)


@pytest.mark.slow
def test_tune(tmp_path: Path, lenet_edge: LenetEdge) -> None:
    """The command of docs/pick-a-file.md, which tunes exported/lenet.keras."""
    write_small_network(tmp_path / "exported" / "lenet.keras")
    done = lenet_edge("tune", "--output-dir", "tuned", "--json", "-")
    assert done.returncode == 0, done.stderr
    facts, tuned = json.loads(done.stdout), tmp_path / "tuned"
    assert facts == json.loads((tuned / "lenet_mixed.tune.json").read_text())
    assert (tuned / "lenet_mixed.tune.png").read_bytes()[1:4] == b"PNG"
    assert facts["num_tried"] == 3**3 + 1
    assert facts["candidates"][0]["name"] == "float32.tflite"
    for candidate in facts["candidates"]:
        assert candidate["accuracy_drop"] <= 0.05
        assert candidate["top1_agreement"] >= 0.999
    winner = load_artifact(tuned / "lenet_mixed.tflite")
    assert winner.precision == "mixed"
    assert winner.sha256 == facts["winner"]["sha256"]
    by_name = {candidate["name"]: candidate for candidate in facts["candidates"]}
    chosen = by_name[facts["winner"]["candidate"]]
    layers = tuple(f"{k}={v}" for k, v in chosen["precisions"].items())
    assert winner.settings[-len(layers) :] == layers
    assert winner.size_bytes < facts["candidates"][0]["size_bytes"]
    # This holds on a noisy machine too: int8 weights are not slower than float weights.
    assert chosen["ratio_to_float32"]["median"] < 1
    assert facts["winner"]["test"]["accuracy_drop"] <= 0.2


def test_a_target_that_cannot_run_tflite_is_an_error(exports: Path, lenet_edge: LenetEdge) -> None:
    done = lenet_edge("tune", exports / "lenet.keras", "--target", "onnxruntime-cpu")
    assert done.returncode == 1
    assert "onnxruntime-cpu runs no .tflite files" in done.stderr
