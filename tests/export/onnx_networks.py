"""ONNX models as PyTorch's exporters write them: channels first, with computed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow

import onnx  # isort: skip
import tensorflow as tf  # isort: skip
from onnx import helper, numpy_helper  # isort: skip

FLATTENS = ("chain", "constant", "flatten")


class Network:
    """A graph under construction; each method adds a node and returns the name of its output."""

    def __init__(self, shape: Sequence[int | str], seed: int = 0) -> None:
        self.shape, self.value = shape, "input"
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(seed)

    def constant(self, array: Any) -> str:
        name = f"onnx::constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; without inputs it reads the value of the node before."""
        number = len(self.nodes)
        names = [f"/layer{number}/{kind}_output_{index}" for index in range(outputs)]
        inputs = inputs or (self.value,)
        self.nodes.append(
            helper.make_node(kind, inputs, names, f"/layer{number}/{kind}", **attributes)
        )
        self.value = names[0]
        return names[0]

    def conv(self, filters: int, channels: int, size: int, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        shape = (filters, channels // group, size, size)
        fan_in = size * size * channels // group
        weights = self.random.standard_normal(shape).astype(np.float32) * (2 / fan_in) ** 0.5
        bias = self.random.standard_normal(filters).astype(np.float32) * 0.1
        names = self.constant(weights), self.constant(bias)
        attributes.setdefault("kernel_shape", [size, size])
        return self.add("Conv", self.value, *names, **attributes)

    def normalize(self, channels: int) -> str:
        """Add a batch normalization."""
        scale, bias, mean = (self.random.standard_normal(channels) for _ in range(3))
        variance = self.random.random(channels) + 0.5
        arrays = (1 + scale * 0.1, bias * 0.1, mean * 0.1, variance)
        names = [self.constant(array.astype(np.float32)) for array in arrays]
        return self.add("BatchNormalization", self.value, *names, epsilon=1e-5)

    def gemm(self, weights: Any, bias: Any) -> str:
        names = self.constant(weights), self.constant(bias)
        return self.add("Gemm", self.value, *names, alpha=1.0, beta=1.0, transB=1)

    def dense(self, outputs: int, inputs: int) -> str:
        weights = self.random.standard_normal((outputs, inputs)).astype(np.float32)
        bias = self.random.standard_normal(outputs).astype(np.float32) * 0.1
        return self.gemm(weights * inputs**-0.5, bias)

    def flatten(self, kind: str) -> str:
        """Join all axes after the batch in one of the ways of `FLATTENS`."""
        if kind == "flatten":
            return self.add("Flatten", axis=1)
        if kind == "constant":
            return self.add("Reshape", self.value, self.constant(np.array([-1, self.features])))
        image = self.value
        self.add("Shape")
        self.add("Gather", self.value, self.constant(np.array(0)), axis=0)
        self.add("Unsqueeze", self.value, self.constant(np.array([0])))
        self.add("Concat", self.value, self.constant(np.array([-1])), axis=0)
        return self.add("Reshape", image, self.value, allowzero=0)

    features = 400  # of a LeNet, after its last pool

    def save(
        self,
        path: Path,
        output_shape: Sequence[int | str] | None = None,
        opset: int = 17,
        check: bool = True,
    ) -> Path:
        """Write the model, its last value as its output; its shape is inferred by default."""
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info("input", kind, self.shape)],
            [helper.make_tensor_value_info(self.value, kind, output_shape)],
            self.constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=8 if opset < 19 else 9,
            producer_name="pytorch",
            producer_version="2.9.0",
        )
        if output_shape is None:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
        return path


def write_lenet(
    path: Path,
    checkpoint: Path,
    flatten: str = "chain",
    batch: int | str = "batch",
    opset: int = 17,
) -> Path:
    """Write a LeNet with the weights of a Keras checkpoint."""
    layers = tf.keras.models.load_model(checkpoint, compile=False).layers
    weights = {layer.name: [w.numpy() for w in layer.weights] for layer in layers if layer.weights}
    network = Network((batch, 1, 28, 28))
    for name in ("conv1", "conv2"):
        kernel, bias = weights[name]
        names = network.constant(kernel.transpose(3, 2, 0, 1)), network.constant(bias)
        network.add("Conv", network.value, *names, kernel_shape=[3, 3], strides=[1, 1])
        network.add("Relu")
        network.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, ceil_mode=0)
    network.flatten(flatten)
    kernel, bias = weights["dense1"]
    rows = kernel.reshape(5, 5, 16, -1).transpose(3, 2, 0, 1).reshape(-1, 400)
    network.gemm(rows, bias)
    for name in ("dense2", "logits"):
        network.add("Relu")
        kernel, bias = weights[name]
        network.gemm(kernel.T, bias)
    return network.save(path, (batch, 10), opset)


def write_two_inputs(path: Path) -> Path:
    """Write a model of an image and a vector, whose outputs are an image and a vector."""
    network = Network(("batch", 3, 8, 6))
    network.conv(4, 3, 3, pads=[1] * 4)
    image = network.add("Relu")
    network.add("GlobalAveragePool")
    network.add("Flatten", axis=1)
    network.add("Concat", network.value, "state", axis=1)
    vector = network.dense(5, 4 + 7)
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        network.nodes,
        "main_graph",
        [
            helper.make_tensor_value_info("input", kind, network.shape),
            helper.make_tensor_value_info("state", kind, ("batch", 7)),
        ],
        [
            helper.make_tensor_value_info(image, kind, ("batch", 4, 8, 6)),
            helper.make_tensor_value_info(vector, kind, ("batch", 5)),
        ],
        network.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path
