"""Networks as WebAssembly (``export --format wasm``), run by wasmtime.

`verify` proves such a file with it. Users run the file in a browser's engine instead.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.target import Array, Session, Target

TARGETS = (
    Target(
        name="wasmtime-cpu",
        runtime="wasmtime",
        formats=("wasm",),
        device="cpu",
        delegate=None,
        package="wasmtime",
        extra="wasm",
        preference=10,
    ),
)
_PAGE_BYTES = 1 << 16
_ALIGNMENT = 16  # of the tensors in the memory of a module


class WasmtimeSession(BufferSession):
    """Session over an instance of a module, whose memory holds inputs and outputs."""

    def __init__(
        self, content: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        super().__init__()
        import wasmtime

        self._store: Any = wasmtime.Store()
        module = wasmtime.Module(self._store.engine, content)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        items: dict[str, Any] = {name: exports[name] for name in exports}
        self._memory = items["memory"]
        (name,) = (name for name in items if f"{name}_batch" in items)
        self._single, self._batch = items[name], items[f"{name}_batch"]
        self._heap_base: int = items["__heap_base"].value(self._store)
        self.input_specs, self.output_specs = inputs, outputs
        self.runtime_version = importlib.metadata.version("wasmtime")

    def _bind(self, arrays: list[Array]) -> None:
        count = len(arrays[0])
        shapes = [array.shape for array in arrays]
        shapes += [(count, *(size or 1 for size in spec.shape[1:])) for spec in self.output_specs]
        dtypes = [np.dtype(spec.dtype) for spec in (*self.input_specs, *self.output_specs)]
        sizes = [math.prod(shape) * dtype.itemsize
                 for shape, dtype in zip(shapes, dtypes, strict=True)]  # fmt: skip
        offsets = [self._heap_base]
        for size in sizes:
            offsets.append(offsets[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)
        missing = offsets[-1] - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE_BYTES))
        memory = np.frombuffer(self._memory.get_buffer_ptr(self._store), np.uint8)
        views = [
            memory[offset : offset + size].view(dtype).reshape(shape)
            for offset, size, dtype, shape in zip(offsets, sizes, dtypes, shapes, strict=False)
        ]
        self._inputs, self._outputs = views[: len(arrays)], views[len(arrays) :]
        self._function = self._single if count == 1 else self._batch
        self._arguments = (*offsets[:-1], *([] if count == 1 else [count]))

    def infer(self) -> None:
        """Call the network. Most of the time is spent in wasmtime's Python code."""
        self._function(self._store, *self._arguments)

    def close(self) -> None:
        """Release the instance and its memory."""
        self._inputs = self._outputs = []
        del self._function, self._single, self._batch, self._memory, self._store


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Compile a .wasm file of `export --format wasm`."""
    if num_threads != 1:
        raise TargetError(f"{target.name} runs on one thread, not {num_threads}")
    contract = json.loads(read_contract(artifact.path, "wasm") or "{}")
    if not contract:
        raise TargetError(f"{artifact.name} is not a .wasm file of lenet-edge; export it again")
    inputs, outputs = (
        tuple(TensorSpec(**facts) for facts in contract[side]) for side in ("inputs", "outputs")
    )
    return WasmtimeSession(artifact.path.read_bytes(), inputs, outputs)
