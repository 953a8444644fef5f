"""Arm's compiler is asked, and what it says is told as an estimate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import TargetError
from lenet_edge.npu_estimate import estimate_npu
from tests.conftest import LenetEdge


def test_an_int8_file_runs_whole(exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_int8.tflite")
    small, large = (estimate_npu(artifact, f"ethos-u55-{macs}") for macs in (32, 256))
    for one in (small, large):
        assert one.artifact_sha256 == artifact.sha256
        assert (one.nodes_taken, one.nodes_total) == (8, 8)
        assert 199_968 <= one.macs < 250_000  # it pads
        assert 1e-6 < one.latency_s < 1e-2
        assert one.off_chip_flash_bytes > 50_000  # the weights
    assert large.latency_s < small.latency_s


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lenet_float32.tflite", "takes none of the 8 nodes of lenet_float32.tflite"),
        ("lenet_int8.onnx", "lenet_int8.onnx is onnx; Vela compiles .tflite files"),
    ],
)
def test_what_it_does_not_take(exported: Callable[[str], Artifact], name: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        estimate_npu(exported(name), "ethos-u55-128")


def test_the_command(lenet_edge: LenetEdge, exports: Path, tmp_path: Path) -> None:
    file = exports / "lenet_int8.tflite"
    done = lenet_edge("estimate", file, "--accelerator", "ethos-u65-256", "--json", "o.json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads((tmp_path / "o.json").read_text())
    assert f"{one['latency_s'] * 1e6:.0f}" in done.stdout
    assert "not measured; do not rank them" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = lenet_edge("estimate", file, "--accelerator", "ethos-u1")
    assert done.returncode == 2
    assert "is not one of 'ethos-u55-32'" in done.stderr
    (tmp_path / "bad.tflite").write_bytes(file.read_bytes()[:5000])
    done = lenet_edge("estimate", tmp_path / "bad.tflite")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
