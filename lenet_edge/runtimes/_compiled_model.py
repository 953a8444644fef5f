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
from lenet_edge.runtimes._tflite import delegation_of, only_tensors, tensor_spec
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Delegation, Images, Logits, Target, dequantize, quantize

# Source: tensorflow/lite/schema/schema.fbs.
_SUBGRAPHS, _TENSORS, _SHAPE, _SHAPE_SIGNATURE = 2, 0, 0, 7


NPU_IS_HERE = any(Path("/dev/accel").glob("accel*"))


class CompiledSession:
    """Session over a `CompiledModel`, compiled again for each batch size."""

    def __init__(self, artifact: Artifact, target: Target) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._artifact, self._target = artifact, target
        self._content = artifact.path.read_bytes()
        interpreter = Interpreter(
            model_content=self._content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        input_details, output_details = only_tensors(interpreter)
        self.inputs = (tensor_spec(input_details),)
        self.outputs = (tensor_spec(output_details),)
        self._dtype = np.dtype(self.outputs[0].dtype).type
        self._classes = tuple(int(size) for size in output_details["shape"][1:])
        self._requested = delegation_of(interpreter, target.delegate or "")
        self.runtime_version = importlib.metadata.version("ai-edge-litert")
        self._batch_size = 0
        self._compile(self.inputs[0].shape[0] or 1)

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
        self._shape = (batch_size, *self._classes)
        self._size = math.prod(self._shape)

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

    def prepare(self, images: Images) -> None:
        """Quantize the images and write them into the input buffer."""
        if len(images) != self._batch_size:
            self._compile(len(images))
        if images.shape[1:] != self.inputs[0].shape[1:]:
            raise TargetError(f"the model takes images of {self.inputs[0].shape[1:]}, not"
                              f" {images.shape[1:]}")  # fmt: skip
        self._in[0].write(quantize(images, self.inputs[0]))

    def infer(self) -> None:
        """Run the model and read its output into host memory."""
        self._model.run_by_index(0, self._in, self._out)
        self._values = self._out[0].read(self._size, self._dtype)

    def logits(self) -> Logits:
        """Return a dequantized copy of the output."""
        return dequantize(self._values.reshape(self._shape), self.outputs[0])

    def close(self) -> None:
        """Release the model and its buffers."""
        self._in = self._out = None
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
            f" pip install openvino=={version}"
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
