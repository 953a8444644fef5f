"""ExecuTorch: the contract of all runtimes, on files that PyTorch exports."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import write_manifest
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import load_artifacts
from tests import needs
from tests.conftest import LenetEdge
from tests.extending import ROOT
from tests.pte_models import LARGEST_BATCH, write_lenet, write_pte
from tests.runtimes.any_model import opened
from tests.runtimes.observe import observe
from tests.runtimes.test_any_model import DTYPES, RANKS, shape_of

pytestmark = [pytest.mark.costly, needs.executorch]
TARGET = "executorch-cpu"
ONNX = ROOT / "exported" / "lenet_float32.onnx"


def run(path: Path, values: Any) -> list[Any]:
    with closing(open_session(opened(path), get_target(TARGET))) as session:
        session.prepare(values)
        session.infer()
        return list(session.outputs().values())


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lenet(tmp_path_factory.mktemp("pte") / "lenet.pte")


def test_contract(lenet: Path, tmp_path: Path) -> None:
    images = to_input(mnist.load("test").images[:100])
    (artifact,) = load_artifacts([lenet], lenet.parent)
    write_manifest(artifact)
    facts = observe(lenet, TARGET, images, tmp_path / "recorded.npz")
    recorded = np.load(tmp_path / "recorded.npz")
    with closing(open_session(opened(ONNX), get_target("onnxruntime-cpu"))) as session:
        session.prepare(images)
        session.infer()
        expected = session.logits()
    for name, part in (
        ("together", expected), ("ones", expected[:7]), ("seven", expected[:7]),
        ("ones_again", expected[:7]), ("after_a_change", recorded["before"]),
        ("kept", recorded["before"]), ("first_of_two", expected[:7]),
        ("second_of_two", expected[7:12]), ("after_the_other_closed", expected[:7]),
    ):  # fmt: skip
        np.testing.assert_allclose(recorded[name], part, atol=1e-4)
    assert facts["wrong_shape_fails"]
    assert facts["closed_cannot_infer"]
    assert not facts["still_mapped"]
    assert tuple(facts["inputs"][0]["shape"]) == (None, 28, 28, 1)
    assert tuple(facts["outputs"][0]["shape"]) == (None, 10)


def test_bench_and_verify_against_onnx(lenet: Path, lenet_edge: LenetEdge) -> None:
    verified = lenet_edge("verify", lenet, "--reference", ONNX)
    assert verified.returncode == 0, verified.stderr
    assert TARGET in verified.stdout
    measured = lenet_edge("bench", lenet, "--batch-size", 1, "--json", "-")
    assert measured.returncode == 0, measured.stderr
    (measurement,) = json.loads(measured.stdout)["measurements"]
    assert measurement["target"] == TARGET


def test_batches(lenet: Path, tmp_path: Path) -> None:
    message = f"takes a batch of 1 to {LARGEST_BATCH}, not {LARGEST_BATCH + 1}"
    with pytest.raises(TargetError, match=message):
        run(lenet, np.zeros((LARGEST_BATCH + 1, 28, 28, 1), np.float32))
    fixed = write_lenet(tmp_path / "fixed.pte", batch=2)
    (logits,) = run(fixed, np.zeros((2, 28, 28, 1), np.float32))
    assert logits.shape == (2, 10)
    with pytest.raises(TargetError, match="the input input takes shape 2 x 28 x 28 x 1, not 1 x"):
        run(fixed, np.zeros((1, 28, 28, 1), np.float32))


def test_one_number_of_threads(lenet: Path) -> None:
    target = get_target(TARGET)
    with closing(open_session(opened(lenet), target, 1)):
        with pytest.raises(TargetError, match="one number of threads for all open files"):
            open_session(opened(lenet), target, 2)
    for num_threads in (2, 1):
        with closing(open_session(opened(lenet), target, num_threads)) as session:
            for batch in (100, 1, 100):
                session.prepare(np.zeros((batch, 28, 28, 1), np.float32))
                session.infer()
                assert session.logits().shape == (batch, 10)


def test_two_inputs_and_outputs(tmp_path: Path) -> None:
    import torch

    examples = (torch.zeros(128, 4), torch.zeros(128, 4), torch.tensor(3))
    path = write_pte(tmp_path / "two.pte", lambda a, b, c: (a + b, a * c), examples, free=True)
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), np.float32)
    values = {"input_0": a, "input_1": b, "input_2": np.array(3)}
    total, scaled = run(path, values)
    np.testing.assert_array_equal(total, a + 1)
    np.testing.assert_array_equal(scaled, a * 3)
    del values["input_2"]
    with pytest.raises(TargetError, match="no array for input_2"):
        run(path, values)
    with pytest.raises(TargetError, match="the input input_0 takes shape any x 4, not 2 x 3"):
        run(path, {"input_0": a[:, :3], "input_1": b[:, :3], "input_2": np.array(3)})


def test_types_and_ranks(tmp_path: Path) -> None:
    import torch

    types = [getattr(torch, dtype) for dtype in DTYPES]
    examples = tuple(torch.zeros(shape_of(rank), dtype=type) for type in types for rank in RANKS)
    path = write_pte(
        tmp_path / "every.pte", lambda *values: tuple(v.unsqueeze(0) for v in values), examples,
        lowered=False,
    )  # fmt: skip
    arrays = [np.ones(tuple(each.shape), str(each.dtype).split(".")[1]) for each in examples]
    outputs = run(path, {f"input_{number}": array for number, array in enumerate(arrays)})
    for array, output in zip(arrays, outputs, strict=True):
        assert output.dtype == array.dtype
        np.testing.assert_array_equal(output, array[None])


@pytest.mark.parametrize("damage", ["half", "zeros"])
def test_a_damaged_file_is_refused(
    lenet: Path, tmp_path: Path, lenet_edge: LenetEdge, damage: str
) -> None:
    content = lenet.read_bytes()
    path = tmp_path / "damaged.pte"
    half = content[: len(content) // 2]
    path.write_bytes(half if damage == "half" else content[:8].ljust(len(content), b"\0"))
    done = lenet_edge("bench", path)
    assert done.returncode == 1
    assert "damaged.pte" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
