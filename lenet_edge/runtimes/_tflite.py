"""Session for the runtimes that have a TFLite `Interpreter`: LiteRT, tflite-runtime, TensorFlow."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.runtimes import _delegates
from lenet_edge.target import (
    Delegation,
    Images,
    Logits,
    Target,
    check_one_input_one_output,
    dequantize,
    quantize,
)

# For each operator with weights: the indexes of its matrices among its inputs, those of its biases,
# and those of its state, which is no weight. Source: tensorflow/lite/kernels.
MATRICES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1,),
    "CONV_3D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "FULLY_CONNECTED": (1,),
    "TRANSPOSE_CONV": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
}
BIASES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (2,),
    "CONV_3D": (2,),
    "DEPTHWISE_CONV_2D": (2,),
    "FULLY_CONNECTED": (2,),
    "TRANSPOSE_CONV": (3,),
    "SVDF": (3,),
    "RNN": (3,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (3,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (12, 13, 14, 15, 17),
}
STATES: dict[str, tuple[int, ...]] = {
    "SVDF": (4,),
    "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19),
}
# Operators that run other subgraphs, which the interpreter does not list.
NESTED = ("WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE")
# Operators that multiply matrices in a number of steps that is not counted.
_UNCOUNTED = (
    *NESTED,
    "LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "CONV_3D_TRANSPOSE",
    "STABLEHLO_CONVOLUTION",
    "STABLEHLO_DOT_GENERAL",
    "STABLEHLO_CUSTOM_CALL",
)


class InterpreterSession:
    """Session over a TFLite `Interpreter` from any of its packages."""

    def __init__(self, interpreter: Any, target: Target, runtime_version: str) -> None:
        interpreter.allocate_tensors()
        input_details, output_details = only_tensors(interpreter)
        self._interpreter = interpreter
        self._input, self._output = input_details["index"], output_details["index"]
        self._batch_size = int(input_details["shape"][0])
        self.inputs = (tensor_spec(input_details),)
        self.outputs = (tensor_spec(output_details),)
        self.runtime_version = runtime_version
        self.delegation = delegation_of(interpreter, target.delegate) if target.delegate else None

    def prepare(self, images: Images) -> None:
        """Quantize the images and copy them into the input tensor, resized if necessary."""
        if len(images) != self._batch_size:
            expected = self.inputs[0].shape[1:]
            # TensorFlow's interpreter would crash.
            if None not in expected and images.shape[1:] != expected:
                raise TargetError(f"the model takes images of {expected}, not {images.shape[1:]}")
            self._interpreter.resize_tensor_input(self._input, images.shape)
            self._interpreter.allocate_tensors()
            self._batch_size = len(images)
        self._interpreter.set_tensor(self._input, quantize(images, self.inputs[0]))

    def infer(self) -> None:
        """Invoke the interpreter."""
        self._interpreter.invoke()

    def logits(self) -> Logits:
        """Return a dequantized copy of the output tensor."""
        return dequantize(self._interpreter.get_tensor(self._output), self.outputs[0])

    def close(self) -> None:
        """Release the interpreter and its model."""
        del self._interpreter


def open_interpreter(
    vendor: Any, version: str, artifact: Artifact, target: Target, num_threads: int, plain: bool
) -> InterpreterSession:
    """Open a .tflite file with the interpreter of one of the packages.

    Args:
        vendor: the module with `Interpreter`, `OpResolverType` and `load_delegate`.
        version: the version of the vendor's package.
        artifact: the file.
        target: the target; if it names an external delegate, the delegate is loaded.
        num_threads: the number of threads for one inference.
        plain: whether to leave out the vendor's default delegates. XNNPACK would take every node
            before an external delegate, so with one the default delegates are always left out.

    Raises:
        TargetError: the delegate cannot be loaded, or it refuses the graph.
    """
    resolver = vendor.OpResolverType
    delegates = _delegates.load(target, vendor.load_delegate)
    try:
        interpreter = vendor.Interpreter(
            str(artifact.path),
            num_threads=num_threads,
            experimental_delegates=delegates,
            experimental_op_resolver_type=(
                resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain or delegates else resolver.AUTO
            ),
        )
    except RuntimeError as error:
        if not delegates:
            raise
        reason = " ".join(str(error).split())
        remedy = (
            "its batch is free, so try: lenet-edge export --batch-size 1"
            if artifact.batch_size is None
            else "try another precision or another delegate"
        )
        raise TargetError(
            f"the delegate {target.delegate} refuses {artifact.name}"
            f"{f' ({reason})' if reason else ''}; {remedy}"
        ) from error
    return InterpreterSession(interpreter, target, version)


def plain_interpreter(path: str) -> Any:
    """Return an allocated interpreter without delegates that keeps the values of all tensors.

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


def only_tensors(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the details of the only input and the only output of an interpreter.

    Raises:
        TargetError: the model has several inputs or outputs.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    check_one_input_one_output(inputs, outputs)
    return inputs[0], outputs[0]


def tensor_spec(details: dict[str, Any]) -> TensorSpec:
    """Return the TensorSpec of an entry of `get_input_details` or `get_output_details`."""
    signature = details.get("shape_signature", details["shape"])
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=details["name"],
        shape=tuple(None if size < 0 else int(size) for size in signature),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) or None,  # 0.0 means "not quantized"
        zero_point=int(zero_point) if scale else None,
    )


def count_macs(
    operator: dict[str, Any], tensors: dict[int, dict[str, Any]], batch_size: int
) -> int | None:
    """Return the number of multiply-accumulate operations of an operator for one image.

    Args:
        operator: an entry of `_get_ops_details`.
        tensors: the entries of `get_tensor_details`, by index.
        batch_size: the number of images in a call of the interpreter.

    Returns:
        None for an operator that cannot be counted; 0 for one that multiplies no matrices.
    """
    kind = operator["op_name"]
    # Builtin operators have names in capitals. A custom operator may do anything.
    if kind in _UNCOUNTED or not re.fullmatch("[A-Z0-9_]+", kind) or kind == "CUSTOM":
        return None

    def shape(side: str, index: int) -> Any:
        tensor = operator[side][index] if index < len(operator[side]) else -1
        return tensors[tensor]["shape"] if tensor >= 0 else np.zeros(1, int)

    if kind == "BATCH_MATMUL":
        # Either side may be transposed, so the inner size follows from the three sizes.
        (first, second), product = (shape("inputs", i) for i in (0, 1)), shape("outputs", 0)
        rows, columns = product[-2:]
        both = int(np.prod(first[-2:])) * int(np.prod(second[-2:]))
        inner = math.isqrt(both // (int(rows) * int(columns) or 1))
        return int(np.prod(product, dtype=int)) * inner // batch_size
    if kind not in MATRICES:
        return 0
    weights = sum(int(np.prod(shape("inputs", index))) for index in MATRICES[kind])
    if kind == "FULLY_CONNECTED":  # it may multiply each row of an image
        calls = int(np.prod(shape("inputs", 0))) // int(shape("inputs", 1)[-1])
    elif kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" or kind.endswith("SEQUENCE_RNN"):
        calls = int(np.prod(shape("inputs", 0)[:-1]))
    elif kind in ("SVDF", "RNN"):
        calls = int(shape("inputs", 0)[0])
    else:
        # A transposed convolution multiplies once per input position.
        positions = shape("inputs", 2) if kind == "TRANSPOSE_CONV" else shape("outputs", 0)
        calls = int(np.prod(positions[:-1]))
    return weights * calls // batch_size


def calls_batch_size(interpreter: Any) -> int:
    """Return the number of images in a call of an interpreter."""
    sizes = [details["shape"] for details in interpreter.get_input_details()]
    return int(sizes[0][0]) or 1 if sizes and len(sizes[0]) else 1


def delegation_of(interpreter: Any, delegate: str) -> Delegation:
    """Return the nodes of an interpreter that a delegate took, and the nodes left to the CPU.

    The interpreter keeps replaced nodes in its list, and appends one DELEGATE node per partition.
    The delegate took every node between the outputs and the inputs of a partition.
    """
    operators = interpreter._get_ops_details()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    nodes = [node for node in operators if node["op_name"] != "DELEGATE"]
    producer = {tensor: node for node in nodes for tensor in node["outputs"]}
    claimed: set[int] = set()
    for partition in operators:
        if partition["op_name"] != "DELEGATE":
            continue
        borders = set(partition["inputs"])
        waiting = list(partition["outputs"])
        while waiting:
            node = producer.get(waiting.pop())
            if node is not None and node["index"] not in claimed:
                claimed.add(node["index"])
                waiting += [tensor for tensor in node["inputs"] if tensor not in borders]
    batch_size = calls_batch_size(interpreter)
    macs = {node["index"]: count_macs(node, tensors, batch_size) for node in nodes}
    known = None not in macs.values()
    return Delegation(
        delegate,
        nodes_total=len(nodes),
        nodes_taken=len(claimed),
        left_behind=tuple(
            f"{node['op_name']} {tensors[node['outputs'][0]]['name'].split(';')[0]}"
            for node in nodes
            if node["index"] not in claimed
        ),
        macs_total=sum(count or 0 for count in macs.values()) if known else None,
        macs_taken=sum(macs[index] or 0 for index in claimed) if known else None,
    )
