"""Tests of the estimates for NPUs by Arm's compiler Vela."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import TargetError
from lenet_edge.npu_estimate import estimate_npu
from tests.conftest import LenetEdge


def test_an_int8_file_runs_on_the_npu(exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_int8.tflite")
    small, large = (estimate_npu(artifact, f"ethos-u55-{macs}") for macs in (32, 256))
    for estimate in (small, large):
        assert estimate.artifact_sha256 == artifact.sha256
        assert (estimate.nodes_taken, estimate.nodes_total) == (8, 8)
        assert 199_968 <= estimate.macs < 250_000  # with padding
        assert 1e-6 < estimate.latency_s < 1e-2
        assert estimate.off_chip_flash_bytes > 50_000  # the weights
    assert large.latency_s < small.latency_s


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet_float32.tflite", "runs none of the 8 nodes of lenet_float32.tflite"),
        ("lenet_int8.onnx", "lenet_int8.onnx is onnx; Vela compiles only .tflite files"),
    ],
)
def test_a_file_that_the_npu_cannot_run_is_an_error(
    exported: Callable[[str], Artifact], name: str, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        estimate_npu(exported(name), "ethos-u55-128")


def test_the_command_prints_the_estimate(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    file = exports / "lenet_int8.tflite"
    done = lenet_edge("estimate", file, "--accelerator", "ethos-u65-256", "--json", "o.json")
    assert done.returncode == 0, done.stderr
    (estimate,) = json.loads((tmp_path / "o.json").read_text())
    assert f"{estimate['latency_s'] * 1e6:.0f}" in done.stdout
    assert "not measured; do not rank them" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = lenet_edge("estimate", file, "--accelerator", "ethos-u1")
    assert done.returncode == 2
    assert "is not one of 'ethos-u55-32'" in done.stderr
    (tmp_path / "bad.tflite").write_bytes(file.read_bytes()[:5000])
    done = lenet_edge("estimate", tmp_path / "bad.tflite")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
