"""The inputs and outputs of .onnx files, against the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.artifacts.onnx_tensors import read_onnx_tensors
from lenet_edge.errors import ModelFileError
from tests.extending import ROOT

EXPORTED = ROOT / "exported" / "lenet_int8.onnx"


def test_inputs_and_outputs(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    types = {
        np.dtype(helper.tensor_dtype_to_np_dtype(number)).name: number
        for number in range(1, 14)
        if number != TensorProto.STRING
    }
    values = [
        helper.make_tensor_value_info(name, number, [2**40, "n", None])
        for name, number in types.items()
    ]
    texts = helper.make_tensor_value_info("texts", TensorProto.STRING, [])
    bare = onnx.ValueInfoProto(name="bare")
    several = helper.make_tensor_sequence_value_info("several", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.ones(3, np.float32), "weights")
    weights_input = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3])
    graph = helper.make_graph(
        [], "graph", [*values, texts, weights_input], [*values, bare, several], [weights]
    )
    path = tmp_path / "every.onnx"
    onnx.save(helper.make_model(graph), path)
    inputs, outputs = read_onnx_tensors(path)
    numbers = tuple(TensorSpec(name, (2**40, None, None), name) for name in types)
    assert inputs == (*numbers, TensorSpec("texts", (), "string"))
    unknown = (TensorSpec(name, (), "unknown") for name in ("bare", "several"))
    assert outputs == (*numbers, *unknown)


def test_an_exported_file() -> None:
    inputs, outputs = read_onnx_tensors(EXPORTED)
    assert inputs == (TensorSpec("image", (None, 28, 28, 1), "float32"),)
    assert outputs == (TensorSpec("logits", (None, 10), "float32"),)


@pytest.mark.parametrize(
    "content", [b"\x08\x07", EXPORTED.read_bytes()[:9999], b"\x3a\x03\x5a\x01"]
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"damaged.onnx is damaged \(.+\); export it again"):
        read_onnx_tensors(path)
