"""A different precision for each layer of a .tflite file, with Google's litert-quantizer."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.export.embed import operator_number, read_tflite, write_tflite
from lenet_edge.export.tflite import name_ends
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Images

# float: unchanged. dynamic: int8 weights; the input is quantized at run time. int8: weights and
# activations, with ranges from calibration. Layers without weights (pools, reshapes) use the
# precision of the layer before them, so that they stay integer between two int8 layers.
PRECISIONS = ("float", "dynamic", "int8")
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SIGNATURE = "serving_default"
QUANTIZER = f"litert-quantizer {importlib.metadata.version('litert-quantizer')}"

Ranges = Any  # the calibration result of the quantizer: the range of each tensor, by name


@dataclass(frozen=True)
class TfliteLayer:
    """One operator of a .tflite file.

    Attributes:
        tensor: the name of its output.
        weights: the number of its weights.
    """

    name: str
    operator: str
    tensor: str
    weights: int

    @property
    def tunable(self) -> bool:
        """True if the layer has weights that can be quantized."""
        return self.operator in _OPERATORS


def layers(content: bytes) -> list[TfliteLayer]:
    """Return the operators of a float32 .tflite file, in the order in which they run."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {code: name for name, code in vars(BuiltinOperator).items() if isinstance(code, int)}
    model = read_tflite(content)
    graph = model.subgraphs[0]
    operators = []
    for operator in graph.operators:
        tensor = graph.tensors[operator.outputs[0]].name.decode()
        data = [model.buffers[graph.tensors[index].buffer].data for index in operator.inputs[1:2]]
        size = sum(len(values) // 4 for values in data if values is not None)
        kind = names[operator_number(model, operator)]
        operators.append(TfliteLayer(_layer_name(tensor), kind, tensor, size))
    return operators


def _layer_name(tensor: str) -> str:
    """Return the Keras layer in a name such as ``lenet_1/dense1_1/MatMul;lenet_1/...``."""
    parts = tensor.split(";", maxsplit=1)[0].split("/")
    return re.sub(r"_\d+$", "", parts[-2] if len(parts) > 1 else parts[0])


def with_signature(content: bytes) -> bytes:
    """Return the .tflite file with the signature that the quantizer needs to find the input."""
    from ai_edge_litert.schema_py_generated import SignatureDefT, TensorMapT

    model = read_tflite(content)
    graph = model.subgraphs[0]
    signature = SignatureDefT()
    signature.signatureKey = _SIGNATURE
    for side, name, tensors in (
        ("inputs", "image", graph.inputs),
        ("outputs", "logits", graph.outputs),
    ):
        entry = TensorMapT()
        entry.name, entry.tensorIndex = name, tensors[0]
        setattr(signature, side, [entry])
    model.signatureDefs = [signature]
    return write_tflite(model)


def calibrate(content: bytes, images: Images) -> Ranges:
    """Return the range of each tensor of a file that `with_signature` made."""
    from litert_quantizer import quantizer
    from litert_quantizer.qtyping import TFLOperationName

    everything = quantizer.Quantizer(bytearray(content))
    everything.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    with quiet():
        # One batch with all images: the quantizer averages over batches, which narrows the ranges.
        return everything.calibrate({_SIGNATURE: [{"image": images}]})


def quantize(
    content: bytes, layers: Sequence[TfliteLayer], precisions: Mapping[str, str], ranges: Ranges
) -> bytes:
    """Return a .tflite file with each layer in its own precision.

    Args:
        content: the float32 file, from `with_signature`.
        layers: all layers of the file.
        precisions: one of `PRECISIONS` for each tunable layer's tensor.
        ranges: the result of `calibrate`.
    """
    from litert_quantizer import quantizer
    from litert_quantizer.qtyping import TFLOperationName

    if set(precisions.values()) <= {"float"}:
        return _without_signature(content)
    recipe = quantizer.Quantizer(bytearray(content))
    current = "float"
    for layer in layers:
        if layer.tunable:
            current = precisions[layer.tensor]
        scope = f"^{re.escape(layer.tensor)};?$"
        if current == "int8":
            recipe.add_static_config(scope, TFLOperationName(layer.operator), 8, 8)
        elif current == "dynamic" and layer.tunable:
            recipe.add_dynamic_config(scope, TFLOperationName(layer.operator), 8)
    needed = ranges if "int8" in precisions.values() else None
    with quiet():
        result = recipe.quantize(needed, enable_progress_report=False)
    return _without_signature(bytes(result.quantized_model))


def _without_signature(content: bytes) -> bytes:
    model = read_tflite(content)
    model.signatureDefs = []
    _state_versions(model)
    return name_ends(write_tflite(model))


# Versions of each operator: int8 throughout, and float with int8 weights.
# Source: tensorflow/lite/tools/versioning/op_version.cc, for weights quantized per channel.
_VERSIONS = {
    "CONV_2D": (3, 5),
    "DEPTHWISE_CONV_2D": (3, 6),
    "FULLY_CONNECTED": (4, 12),
    "MAX_POOL_2D": (2, 1),
    "AVERAGE_POOL_2D": (2, 1),
    "DEQUANTIZE": (2, 1),
}


def _state_versions(model: Any) -> None:
    """Write the versions of the quantized operators into the file.

    The quantizer leaves the versions of the float operators. Then an older runtime would open a
    file that it cannot compute, and return wrong logits instead of an error.
    """
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    known = {getattr(BuiltinOperator, name): versions for name, versions in _VERSIONS.items()}
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        types = [graph.tensors[index].type for index in operator.inputs[:2] if index >= 0]
        versions = known.get(operator_number(model, operator))
        if versions is None or TensorType.INT8 not in types:
            continue
        needed = versions[0 if types[0] == TensorType.INT8 else 1]
        code.version = max(code.version, needed)
