"""Small .tflite files of any graph, made with the schema that LiteRT's package contains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# A tensor: its type and shape (-1 is a free size), or its values, or a quantized one.
Shape = tuple[int, ...]


class Graph:
    """A subgraph; tensors are named, operators are (kind, inputs, outputs, options)."""

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, Any],
        operators: Sequence[tuple[Any, ...]],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self.name, self.tensors, self.operators = name, dict(tensors), operators
        self.inputs, self.outputs = inputs, outputs


def quantized(shape: Shape, scale: float, zero_point: int, dtype: str = "int8") -> Any:
    """Return a computed tensor of integers with a scale."""
    return (dtype, shape, scale, zero_point)


def quantized_constant(values: npt.NDArray[Any]) -> Any:
    """Return int8 weights with a scale that represents some values."""
    scale = float(np.abs(values).max()) / 127
    return ("constant", np.rint(values / scale).astype(np.int8), scale, 0)


def write_tflite(
    path: Path,
    *graphs: Graph,
    signatures: Sequence[tuple[str, int]] = (),
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a .tflite file.

    Args:
        path: the file.
        graphs: the subgraphs, the main graph first.
        signatures: names of entries, each with the number of its graph; they keep the names of the
            inputs and outputs.
        options: for each kind of operator, its options: an object of the schema.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version, model.description = 3, "made by a test"
    model.buffers = [schema.BufferT()]
    codes: list[str] = []
    model.operatorCodes = []
    model.subgraphs = [_subgraph(schema, model, codes, graph, options or {}) for graph in graphs]
    model.signatureDefs = []
    for name, number in signatures:
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = name, number
        names = list(graphs[number].tensors)
        for side in ("inputs", "outputs"):
            maps = []
            for tensor in getattr(graphs[number], side):
                one = schema.TensorMapT()
                one.name, one.tensorIndex = tensor, names.index(tensor)
                maps.append(one)
            setattr(entry, side, maps)
        model.signatureDefs.append(entry)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def _subgraph(
    schema: Any, model: Any, codes: list[str], graph: Graph, options: Mapping[str, Any]
) -> Any:
    subgraph = schema.SubGraphT()
    subgraph.name = graph.name
    subgraph.tensors = [_tensor(schema, model, *item) for item in graph.tensors.items()]
    names = {name: number for number, name in enumerate(graph.tensors)}
    subgraph.inputs, subgraph.outputs = (
        [names[name] for name in side] for side in (graph.inputs, graph.outputs)
    )
    subgraph.operators = []
    for kind, inputs, outputs, *own in graph.operators:
        if kind not in codes:
            codes.append(kind)
            model.operatorCodes.append(_code(schema, kind))
        operator = schema.OperatorT()
        operator.opcodeIndex = codes.index(kind)
        operator.inputs, operator.outputs = (
            [-1 if name is None else names[name] for name in side] for side in (inputs, outputs)
        )
        chosen = own[0] if own else options.get(kind)
        if chosen is not None:
            operator.builtinOptions = chosen
            kind_name = type(chosen).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind_name)
        subgraph.operators.append(operator)
    return subgraph


def _code(schema: Any, kind: str) -> Any:
    code = schema.OperatorCodeT()
    number = getattr(schema.BuiltinOperator, kind, None)
    code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    if number is None:
        code.customCode = kind
    return code


def _tensor(schema: Any, model: Any, name: str, content: Any) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.hasRank, tensor.buffer = name, True, 0
    scaling: Sequence[Any] = ()
    if isinstance(content, tuple):
        dtype, shape, *scaling = content
        if dtype == "constant":
            content = shape
    if isinstance(content, np.ndarray):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
        model.buffers.append(buffer)
        dtype, shape = content.dtype.name, content.shape
        tensor.buffer = len(model.buffers) - 1
    if scaling:
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [scaling[0]], [scaling[1]]
        tensor.quantization = quantization
    tensor.type = getattr(schema.TensorType, dtype.upper())
    if -1 in shape:
        tensor.shapeSignature = list(shape)
    tensor.shape = [abs(size) for size in shape]
    return tensor


def two_heads(path: Path, broken: str = "", scale: float = 1.0, int8_weights: bool = False) -> Path:
    """Write a float model with the input "image" and two dense outputs, "boxes" and "scores".

    Args:
        path: the file.
        broken: the output whose weights are wrong.
        scale: a factor of all weights.
        int8_weights: whether the weights are quantized.
    """
    random = np.random.default_rng(3)
    weights: dict[str, npt.NDArray[Any]] = {
        "boxes": random.normal(size=(4, 12)).astype(np.float32) * np.float32(scale),
        "scores": random.normal(size=(5, 12)).astype(np.float32) * np.float32(scale),
    }
    if broken:
        weights[broken] = weights[broken][:, ::-1]
    stored = {n: quantized_constant(w) if int8_weights else w for n, w in weights.items()}
    graph = Graph(
        "main",
        {
            "image": ("float32", (1, 12)),
            "wb": stored["boxes"],
            "ws": stored["scores"],
            "boxes": ("float32", (1, 4)),
            "logits": ("float32", (1, 5)),
            "scores": ("float32", (1, 5)),
        },
        [
            ("FULLY_CONNECTED", ["image", "wb", None], ["boxes"]),
            ("FULLY_CONNECTED", ["image", "ws", None], ["logits"]),
            ("SOFTMAX", ["logits"], ["scores"]),
        ],
        ["image"],
        ["boxes", "scores"],
    )
    return write_tflite(path, graph, options=_dense_options())


def one_conv(path: Path, weights: npt.NDArray[Any]) -> Path:
    """Write a float model of one convolution with a cubic image, channels last.

    Args:
        path: the file.
        weights: of shape (outputs, rows, columns, channels), with as many rows as channels.
    """
    from ai_edge_litert import schema_py_generated as schema

    outputs, size = weights.shape[:2]
    image = ("float32", (1, size, size, size))
    graph = Graph(
        "main",
        {"pixels": image, "w": weights, "bias": np.zeros(outputs, np.float32),
         "features": ("float32", (1, size, size, outputs))},
        [("CONV_2D", ["pixels", "w", "bias"], ["features"])],
        ["pixels"],
        ["features"],
    )  # fmt: skip
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
    return write_tflite(path, graph, options={"CONV_2D": options})


def _dense_options() -> dict[str, Any]:
    from ai_edge_litert import schema_py_generated as schema

    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    return {"FULLY_CONNECTED": schema.FullyConnectedOptionsT(), "SOFTMAX": softmax}
