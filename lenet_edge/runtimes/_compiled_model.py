"""Session over LiteRT's CompiledModel, for a GPU or an NPU.

`is_fully_accelerated()` is also True when NPU|CPU was requested and the whole graph runs on the
CPU. The session therefore requests one accelerator alone, and reads the nodes it took from the
output of the compiler. `run` returns before a GPU has finished, so `infer` includes reading the
result.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.embedded import elements, field, u32
from lenet_edge.errors import TargetError
from lenet_edge.extras import pip_command
from lenet_edge.runtimes._tflite import delegation_of, state_of, tensor_specs
from lenet_edge.support.quiet import quiet
from lenet_edge.target import (
    Array,
    Delegation,
    InputValues,
    Target,
    TensorSession,
    check_sizes,
    describe_shape,
)

# Source: tensorflow/lite/schema/schema.fbs.
_SUBGRAPHS, _TENSORS, _SHAPE, _SHAPE_SIGNATURE = 2, 0, 0, 7


NPU_IS_HERE = any(Path("/dev/accel").glob("accel*"))


class CompiledSession(TensorSession):
    """Session over a `CompiledModel`, compiled again for each batch size."""

    def __init__(self, artifact: Artifact, target: Target) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._artifact, self._target = artifact, target
        self._content = artifact.path.read_bytes()
        interpreter = Interpreter(
            model_content=self._content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.input_specs, self.output_specs = tensor_specs(inputs), tensor_specs(outputs, "output")
        for spec in self.input_specs:
            if None in spec.shape[1:]:
                raise TargetError(
                    f"{target.name} needs fixed sizes, and {spec.name} is"
                    f" {describe_shape(spec.shape)}; convert the model with a fixed shape"
                )
        self._indexes = [[d["index"] for d in details] for details in (inputs, outputs)]
        self._output_shapes = [tuple(map(int, details["shape"])) for details in outputs]
        self._signature = next(iter(interpreter._get_full_signature_list().values()), None)
        self._requested = delegation_of(interpreter, target.delegate or "")
        self.state = state_of(interpreter)
        self.runtime_version = importlib.metadata.version("ai-edge-litert")
        self._batch_size = 0
        sizes = [spec.shape[0] for spec in self.input_specs if spec.shape]
        self._compile(next(filter(None, sizes), 1))

    def _compile(self, batch_size: int) -> None:
        from ai_edge_litert.compiled_model import CompiledModel

        content = with_batch_size(self._content, batch_size)
        output: list[str] = []
        try:
            with quiet() as output:
                self._model = CompiledModel.from_buffer(content, options=self._options())
        except RuntimeError as error:
            raise TargetError(_failure(self._artifact, self._target, output)) from error
        self.delegation = _delegation(self._requested, output, self._precision())
        self._batch_size = batch_size
        self._in = self._model.create_input_buffers(0)
        self._out = self._model.create_output_buffers(0)
        # The buffers have the order of the signature, the tensors that of the graph.
        self._in_order = self._order("inputs", self._indexes[0])
        shapes = [
            (*(batch_size if size is None else size for size in spec.shape[:1]), *known[1:])
            for spec, known in zip(self.output_specs, self._output_shapes, strict=True)
        ]
        self._reads = [
            (self._out[position], math.prod(shape), np.dtype(spec.dtype).type, shape)
            for position, shape, spec in zip(
                self._order("outputs", self._indexes[1]), shapes, self.output_specs, strict=True
            )
        ]

    def _order(self, side: str, indexes: list[int]) -> list[int]:
        """Return the position of the buffer of each tensor."""
        names = self._model.get_signature_by_index(0)[side]
        listed = (self._signature or {}).get(side, {})
        positions = {
            listed[name]: position for position, name in enumerate(names) if name in listed
        }
        if set(indexes) <= positions.keys():
            return [positions[index] for index in indexes]
        return list(range(len(indexes)))  # without a signature in the file, both have one order

    def _precision(self) -> str | None:
        """Return the precision to compute in: the file's precision, if the device supports it."""
        if self._artifact.precision == "float16":
            return "float16"
        if self._target.device == "gpu":
            return "float32"  # a GPU multiplies integers as floats too
        if self._artifact.precision != "float32":
            return None
        return "float16" if NPU_IS_HERE else "float32"

    def _options(self) -> Any:
        from ai_edge_litert import options
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator

        accelerator = getattr(HardwareAccelerator, self._target.device.upper())
        if self._target.allow_fallback:
            accelerator |= HardwareAccelerator.CPU
        compile_options = options.Options(hardware_accelerators=accelerator)
        if self._target.device == "gpu":
            compile_options.gpu_options.enforce_f32 = self._precision() == "float32"
            return compile_options
        backend = "NPU" if NPU_IS_HERE else "CPU"
        compile_options.intel_openvino_options.graph_backend = options.IntelOpenVinoGraphBackend[
            backend
        ]
        # The plugin ignores its precision hint, so a CPU with bfloat16 would compute in bfloat16.
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
        return compile_options

    def prepare(self, values: InputValues) -> None:
        """Quantize the values and write them into the input buffers."""
        arrays = self.arrays(values)
        check_sizes(self.input_specs, arrays)
        free = {
            array.shape[0]
            for array, spec in zip(arrays, self.input_specs, strict=True)
            if spec.shape[:1] == (None,)
        }
        if len(free) > 1:
            raise TargetError(f"the inputs have batches of {sorted(free)}; give them one size")
        if free and free != {self._batch_size}:
            self._compile(free.pop())
        for position, array in zip(self._in_order, arrays, strict=True):
            self._in[position].write(array)

    def infer(self) -> None:
        """Run the model and read its outputs into host memory."""
        self._model.run_by_index(0, self._in, self._out)
        self._values = [buffer.read(size, dtype) for buffer, size, dtype, _ in self._reads]

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output."""
        return {
            spec.name: values.reshape(shape).copy()
            for spec, values, (_, _, _, shape) in zip(
                self.output_specs, self._values, self._reads, strict=True
            )
        }

    def close(self) -> None:
        """Release the model and its buffers."""
        self._in = self._out = None
        self._reads = []
        self._model.close()


def with_batch_size(content: bytes, batch_size: int) -> bytes:
    """Return a .tflite file with its free batch axis set to `batch_size`.

    The sizes are replaced in the bytes of the file. `CompiledModel.resize_input_tensor` on a free
    batch corrupts the heap (ai-edge-litert 2.3), and accelerators need known sizes.
    """
    resized = bytearray(content)
    for graph in elements(content, field(content, u32(content, 0), _SUBGRAPHS)):
        for tensor in elements(content, field(content, graph, _TENSORS)):
            signature = _first_size(content, field(content, tensor, _SHAPE_SIGNATURE))
            if signature is None or struct.unpack_from("<i", content, signature)[0] != -1:
                continue
            for offset in (signature, _first_size(content, field(content, tensor, _SHAPE))):
                if offset is not None:
                    struct.pack_into("<i", resized, offset, batch_size)
    return bytes(resized)


def _first_size(content: bytes, offset: int) -> int | None:
    """Return the offset of the first size of a tensor, or None if it has no sizes."""
    vector = offset + u32(content, offset) if offset else 0
    return vector + 4 if vector and u32(content, vector) else None


def _delegation(requested: Delegation, output: Sequence[str], precision: str | None) -> Delegation:
    """Return the nodes that the accelerator took, from the output of the compiler."""
    text = "\n".join(output)
    nodes_taken, left_behind = requested.nodes_total, _unsupported(output)
    partial = re.search(r"(\d+) operations will run on the GPU, and the remaining (\d+)", text)
    selected = re.search(r"selected (\d+) ops, from a total of (\d+) ops", text)
    if partial:
        nodes_taken = requested.nodes_total - int(partial[2])
    elif selected:
        nodes_taken = int(selected[1])
    adapter = re.search(r"Selected adapter: (.*?), arch=.*adapterType=(.*)", text)
    backend = re.search(r"Using Intel OpenVINO device: (\w+)", text)
    is_complete = nodes_taken == requested.nodes_total
    return dataclasses.replace(
        requested,
        nodes_taken=nodes_taken,
        left_behind=() if is_complete else left_behind,
        macs_taken=requested.macs_total if is_complete else None,
        device=adapter[1] if adapter else f"OpenVINO {backend[1]}" if backend else None,
        emulated="Software" in adapter[2] if adapter else not NPU_IS_HERE,
        precision=precision,
    )


def _unsupported(output: Sequence[str]) -> tuple[str, ...]:
    """Return the operators that the GPU compiler lists as unsupported, each with its reason."""
    start = next((n for n, line in enumerate(output) if "not supported by GPU" in line), None)
    if start is None:
        return ()
    rest = output[start + 1 :]
    end = next((n for n, line in enumerate(rest) if "operations will run" in line), len(rest))
    return tuple(line.strip().rstrip(".") for line in rest[:end] if line.strip())


def _failure(artifact: Artifact, target: Target, output: Sequence[str]) -> str:
    """Return one line with the reason why a model could not be compiled, and the remedy."""
    text = "\n".join(output)
    if "No adapters found" in text or "vkCreateInstance" in text:
        return (
            "there is no GPU that Vulkan can use; install the GPU's Vulkan driver, or set"
            " VK_ICD_FILENAMES to its .json file"
        )
    library = re.search(r"libopenvino\.so\.(\d\d)(\d)(\d)", text)
    if target.device == "npu" and library:
        version = f"20{library[1]}.{library[2]}.{library[3]}"
        return (
            f"the NPU plugin of ai-edge-litert needs OpenVINO {version};"
            f" {pip_command(f'openvino=={version}')}"
        )
    unsupported = _unsupported(output)
    operators = re.findall(r"op type (\d+) is not supported", text)
    if unsupported or operators or "not accelerated" in text:
        reason = "; ".join(unsupported) or f"operators {', '.join(operators)} of TFLite's list"
        return (
            f"{target.delegate} cannot take all of {artifact.name}: {reason}; with"
            " --allow-fallback the CPU computes the rest"
        )
    last = next((line for line in reversed(output) if "ERROR" in line), "no reason given")
    return f"{target.delegate} cannot compile {artifact.name}: {last.strip()}"
