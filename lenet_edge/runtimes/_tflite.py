"""What the runtimes with a TFLite `Interpreter` share; they differ only in where it comes from."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from lenet_edge.artifact import TensorSpec
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.target import Delegation, Images, Logits, Target, dequantize, quantize


class InterpreterSession:
    """A Session over a `tflite.Interpreter`, whichever package it is from."""

    def __init__(self, interpreter: Any, target: Target, runtime_version: str) -> None:
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise TargetError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs;"
                " lenet-edge runs classifiers with one of each"
            )
        self._interpreter = interpreter
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._batch_size = int(inputs[0]["shape"][0])
        self.inputs = (_spec(inputs[0]),)
        self.outputs = (_spec(outputs[0]),)
        self.runtime_version = runtime_version
        self.delegation = _delegation(interpreter, target)

    def prepare(self, images: Images) -> None:
        """Quantize the images and copy them into the input tensor, resized if need be."""
        if len(images) != self._batch_size:
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
            self._batch_size = len(images)
        self._interpreter.set_tensor(self._input, quantize(images, self.inputs[0]))

    def infer(self) -> None:
        """Invoke the interpreter."""
        self._interpreter.invoke()

    def logits(self) -> Logits:
        """Copy the output tensor out and dequantize it."""
        return dequantize(self._interpreter.get_tensor(self._output), self.outputs[0])

    def close(self) -> None:
        """Drop the interpreter, and with it the model."""
        del self._interpreter


def load_library(target: Target, load_delegate: Any) -> list[Any]:
    """Return the external delegate that a target names, loaded; an empty list where it names none.

    Raises:
        TargetError: the library cannot be loaded, or is no delegate, or finds no device.
    """
    if target.library is None:
        return []
    try:
        return [load_delegate(target.library)]
    except (OSError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TargetError(
            f"the delegate {target.library} cannot be loaded: {reason}; give a shared library for"
            " this machine that has tflite_plugin_create_delegate"
        ) from error


def plain_interpreter(path: str) -> Any:
    """Return an allocated interpreter without delegates that keeps every tensor's values.

    Raises:
        MissingPackageError: neither LiteRT nor tflite-runtime is installed.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
        interpreter = module.Interpreter(
            path,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        return interpreter
    raise MissingPackageError("ai_edge_litert", "litert")


def _spec(details: dict[str, Any]) -> TensorSpec:
    signature = details.get("shape_signature", details["shape"])
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=details["name"],
        shape=tuple(None if size < 0 else int(size) for size in signature),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) or None,  # 0.0 stands for "not quantized"
        zero_point=int(zero_point) if scale else None,
    )


def _delegation(interpreter: Any, target: Target) -> Delegation | None:
    """Count the nodes that delegates replaced.

    The interpreter keeps the replaced nodes in its list and appends one DELEGATE node for each
    partition. A node is taken when it lies between a partition's outputs and its inputs.
    """
    if target.delegate is None:
        return None
    operators = interpreter._get_ops_details()
    nodes = [node for node in operators if node["op_name"] != "DELEGATE"]
    producer = {tensor: node for node in nodes for tensor in node["outputs"]}
    taken: set[int] = set()
    for partition in operators:
        if partition["op_name"] != "DELEGATE":
            continue
        borders = set(partition["inputs"])
        waiting = list(partition["outputs"])
        while waiting:
            node = producer.get(waiting.pop())
            if node is not None and node["index"] not in taken:
                taken.add(node["index"])
                waiting += [tensor for tensor in node["inputs"] if tensor not in borders]
    return Delegation(target.delegate, nodes_total=len(nodes), nodes_taken=len(taken))
