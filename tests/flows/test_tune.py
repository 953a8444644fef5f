"""tune: the front is a front, the winner is on it or ties with it, and the file is whole."""

import dataclasses
import json
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact, describe, load_artifact
from lenet_edge.bench.interleave import InterleavedRatio
from lenet_edge.flows.tune import Candidate, Parity, _mark_front
from tests.conftest import LenetEdge


def candidate(artifact: Artifact, drop: float, latency: float, size: int) -> Candidate:
    parity = Parity(0.99, drop, 1.0, 0)
    ratio = InterleavedRatio(latency, latency, latency, 1e-5 * latency)
    return Candidate(dataclasses.replace(artifact, size_bytes=size), {}, parity, ratio)


def test_the_front_leaves_out_what_is_beaten(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"x")
    artifact = describe(
        tmp_path / "a.tflite", precision="mixed", batch_size=None, inputs=(), outputs=(),
        parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip
    costs = [
        (0.0, 1.0, 100, False),
        (0.0, 0.5, 100, True),
        (0.02, 0.6, 100, False),  # the one above it is better in two and equal in one
        (0.02, 0.4, 100, True),
        (0.02, 0.6, 90, True),
        (0.0, 0.5, 100, True),  # equal to another: neither beats the other
    ]
    marked = _mark_front([candidate(artifact, *cost[:3]) for cost in costs])
    assert [one.on_front for one in marked] == [cost[3] for cost in costs]


@pytest.mark.slow
def test_tune(exports: Path, tmp_path: Path, lenet_edge: LenetEdge) -> None:
    done = lenet_edge("tune", exports / "lenet.keras", "--output-dir", tmp_path, "--json", "-")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts == json.loads((tmp_path / "lenet_mixed.tune.json").read_text())
    assert (tmp_path / "lenet_mixed.tune.png").read_bytes()[1:4] == b"PNG"
    assert facts["num_tried"] == 3**5 + 1
    assert facts["candidates"][0]["name"] == "float32.tflite"
    for one in facts["candidates"]:
        assert one["accuracy_drop"] <= 0.05
        assert one["top1_agreement"] >= 0.999
    winner = load_artifact(tmp_path / "lenet_mixed.tflite")
    assert winner.precision == "mixed"
    assert winner.sha256 == facts["winner"]["sha256"]
    chosen = {one["name"]: one for one in facts["candidates"]}[facts["winner"]["candidate"]]
    layers = tuple(f"{k}={v}" for k, v in chosen["precisions"].items())
    assert winner.settings[-len(layers) :] == layers
    assert winner.size_bytes < facts["candidates"][0]["size_bytes"]
    # The tests' machine may be noisy; that int8 weights are no slower than float ones is not.
    assert chosen["ratio_to_float32"]["median"] < 1
    assert facts["winner"]["test"]["accuracy_drop"] <= 0.2


def test_a_target_that_runs_no_tflite(exports: Path, lenet_edge: LenetEdge) -> None:
    done = lenet_edge("tune", exports / "lenet.keras", "--target", "onnxruntime-cpu")
    assert done.returncode == 1
    assert "onnxruntime-cpu runs no .tflite files" in done.stderr
