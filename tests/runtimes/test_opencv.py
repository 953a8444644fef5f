"""OpenCV, in a folder of its own where this Python does not have it.

OpenCV 5 requires NumPy 2, and the tflite-runtime of the other tests an older NumPy. Both work with
NumPy 1.26.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.runtimes import get_target, open_session
from tests import needs
from tests.extending import ROOT
from tests.runtimes.any_model import opened
from tests.runtimes.test_any_model import write_onnx

TESTS = (
    "tests/runtimes/test_conformance.py",
    "tests/runtimes/test_any_model.py",
    "tests/runtimes/test_opencv.py",
)


@needs.opencv
@pytest.mark.parametrize(("kind", "engine"), [("Relu", ""), ("NonZero", ", new engine")])
def test_the_result_names_the_new_engine(tmp_path: Path, kind: str, engine: str) -> None:
    import cv2
    from onnx import TensorProto, helper

    output: tuple[Any, ...] = ("y", TensorProto.FLOAT, ["n"])
    if kind == "NonZero":
        output = ("y", TensorProto.INT64, [1, "count"])
    node = helper.make_node(kind, ["x"], ["y"])
    path = write_onnx(tmp_path / "one.onnx", [node], [("x", TensorProto.FLOAT, ["n"])], [output])
    with closing(open_session(opened(path), get_target("opencv-cpu"))) as session:
        session.prepare(np.ones(2, np.float32))
        assert session.runtime_version == f"{cv2.__version__}{engine}"


@needs.opencv
def test_each_session_sets_the_number_of_threads_of_the_process() -> None:
    import cv2

    artifact, target = load_artifact(ROOT / "exported/lenet_float32.onnx"), get_target("opencv-cpu")
    images = np.zeros((1, 28, 28, 1), np.float32)
    with closing(open_session(artifact, target, 1)) as one:
        with closing(open_session(artifact, target, 2)) as two:
            for session, threads in ((one, 1), (two, 2), (one, 1)):
                session.prepare(images)
                assert cv2.getNumThreads() == threads


@pytest.mark.slow
@pytest.mark.skipif(find_spec("cv2") is not None, reason="the other tests run on OpenCV")
def test_contract_of_all_runtimes_and_parity(exports: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run(
        [*install, str(packages), "opencv-python-headless>=5"], check=True, timeout=300
    )  # fmt: skip
    # The tests take the exports from the parent of their folder, as processes of xdist do.
    (tmp_path / "exported").symlink_to(exports)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{packages}:{ROOT}",
        "PYTEST_XDIST_WORKER": "of test_opencv.py",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pytest_ = ("pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    tested = run(
        *pytest_, "--basetemp", str(tmp_path / "inner"), *TESTS, "-k", "opencv", "-m", "not slow"
    )
    assert " skipped" not in tested
    files = [str(exports / f"lenet_{precision}.onnx") for precision in ("float32", "int8")]
    verified = run("lenet_edge", "verify", *files, "--target", "opencv-cpu")
    assert verified.count("opencv-cpu") == verified.count(" pass") == 2
