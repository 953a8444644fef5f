"""A delegate that loads, is used and is wrong fails parity, where the CPU passes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lenet_edge.results import BenchRun
from tests.conftest import LenetEdge

SOURCE = Path(__file__).with_name("toy_delegate.c")
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


def build(path: Path, bias: float) -> Path:
    command = [
        "gcc",
        "-O2",
        "-shared",
        "-fPIC",
        f"-DBIAS={float(bias)}f",
        "-o",
        str(path),
        str(SOURCE),
    ]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
@pytest.mark.parametrize(("bias", "status"), [(5.0, 3), (0.0, 0)])
def test_a_wrong_delegate_fails(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path, runtime: str, bias: float, status: int
) -> None:
    library = build(tmp_path / "libtoy.so", bias)
    file = exports / "lenet_float32.tflite"
    done = lenet_edge(
        "verify", file, "--target", runtime, "--delegate", library, "--json", "o.json"
    )
    assert done.returncode == status, done.stderr + done.stdout
    (report,) = BenchRun.load(tmp_path / "o.json").parity
    assert report.target == f"{runtime}-libtoy"
    assert (report.nodes_taken, report.nodes_total) == (1, 8)
    assert report.passed == (bias == 0)
    assert report.max_abs_error == pytest.approx(bias, abs=1e-3)
    done = lenet_edge("verify", file, "--target", runtime)
    assert done.returncode == 0, done.stdout


def test_a_delegate_that_takes_nothing_proves_nothing(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    library = build(tmp_path / "libtoy.so", 0)
    done = lenet_edge("verify", exports / "lenet_int8.tflite", "--target", "litert",
                      "--delegate", library)  # fmt: skip
    assert done.returncode == 3
    assert "took none of the 8 nodes" in " ".join(done.stdout.split())


def test_what_is_no_delegate(lenet_edge: LenetEdge, exports: Path, tmp_path: Path) -> None:
    file = exports / "lenet_float32.tflite"
    done = lenet_edge("verify", file, "--target", "litert", "--delegate", "none.so")
    assert "none.so: no such file" in done.stderr.splitlines()[-1]
    (tmp_path / "text.so").write_text("no library")
    done = lenet_edge("verify", file, "--target", "litert", "--delegate", "text.so")
    assert done.returncode == 3
    assert "cannot be loaded" in " ".join(done.stdout.split())
    done = lenet_edge("verify", file, "--target", "openvino", "--delegate", "text.so")
    assert "litert and tflite-runtime alone" in done.stderr.splitlines()[-1]
