"""A file that only TensorFlow Lite Micro runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.errors import TargetError
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import load_artifacts
from tests.conftest import LenetEdge


def write_signal_window(path: Path) -> Path:
    """Write a file with one operator of tflite-micro's signal library, which copies 16 values."""
    import flatbuffers
    from flatbuffers import flexbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    def tensor(name: str, shape: list[int], buffer: int) -> schema.TensorT:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, shape, buffer
        made.type = schema.TensorType.INT16
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = "SignalWindow", 1
    weights = schema.BufferT()
    weights.data = np.frombuffer(np.full(16, 1 << 12, np.int16).tobytes(), np.uint8)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1], [2], 0
    operator.customOptions = list(flexbuffers.Dumps({"shift": 12}))
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", [1, 16], 0), tensor("w", [16], 1), tensor("y", [1, 16], 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), weights]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.slow
def test_a_file_that_only_tflite_micro_runs(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    path = write_signal_window(tmp_path / "signal.tflite")
    (artifact,) = load_artifacts([path], tmp_path)
    assert (artifact.inputs[0].shape, artifact.inputs[0].dtype) == ((1, 16), "int16")
    assert (artifact.outputs[0].shape, artifact.batch_size) == ((1, 16), 1)
    session = open_session(artifact, get_target("tflite-micro-cpu"))
    session.prepare(np.arange(16, dtype=np.float32)[np.newaxis])
    session.infer()
    assert session.logits().tolist() == [list(range(16))]
    with pytest.raises(TargetError, match="SignalWindow"):
        open_session(artifact, get_target("litert-xnnpack"))
    # Without --batch-size, a file is measured at its own batch.
    done = lenet_edge_here(
        "bench", "signal.tflite", "--target", "tflite-micro", "--rounds", "1", "--min-time", "0",
        "--max-time", "0.1", "--json", "out.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "signal.tflite is fixed to batches of 1" in done.stderr
    (measured,) = json.loads((tmp_path / "out.json").read_text())["measurements"]
    assert (measured["target"], measured["batch_size"]) == ("tflite-micro-cpu", 1)
