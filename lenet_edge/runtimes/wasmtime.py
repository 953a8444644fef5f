"""Networks as WebAssembly (``export --format wasm``), run by wasmtime.

`verify` proves such a file with it. Users run the file in a browser's engine instead.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import TargetError
from lenet_edge.target import Array, InputValues, Session, Target, TensorSession, check_sizes

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


class WasmtimeSession(TensorSession):
    """Session over an instance of a module, whose memory holds images and logits."""

    def __init__(self, content: bytes, specs: tuple[TensorSpec, TensorSpec]) -> None:
        import wasmtime

        self._store: Any = wasmtime.Store()
        module = wasmtime.Module(self._store.engine, content)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        items: dict[str, Any] = {name: exports[name] for name in exports}
        self._memory = items["memory"]
        (name,) = (name for name in items if f"{name}_batch" in items)
        self._single, self._batch = items[name], items[f"{name}_batch"]
        self._heap_base: int = items["__heap_base"].value(self._store)
        self.input_specs, self.output_specs = specs[:1], specs[1:]
        self.runtime_version = importlib.metadata.version("wasmtime")
        self._images: Any = np.empty((0,), np.float32)

    def prepare(self, values: InputValues) -> None:
        """Copy the images into the module's memory."""
        (images,) = self.arrays(values)
        if images.shape != self._images.shape:
            check_sizes(self.input_specs, [images], free_batch=True)
            self._bind(images)
        np.copyto(self._images, images)

    def _bind(self, images: Array) -> None:
        logits = self.output_specs[0]
        shapes = (images.shape, (len(images), logits.shape[-1] or 1))
        logits_offset = self._heap_base + 4 * images.size
        missing = logits_offset + 4 * int(np.prod(shapes[1])) - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE_BYTES))
        memory = np.frombuffer(self._memory.get_buffer_ptr(self._store), np.uint8)
        self._images, self._logits = (
            memory[offset : offset + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)
            for offset, shape in zip((self._heap_base, logits_offset), shapes, strict=True)
        )
        is_single = len(images) == 1
        self._function = self._single if is_single else self._batch
        self._arguments = (self._heap_base, logits_offset, *([] if is_single else [len(images)]))

    def infer(self) -> None:
        """Call the network. Most of the time is spent in wasmtime's Python code."""
        self._function(self._store, *self._arguments)

    def outputs(self) -> dict[str, Array]:
        """Return a copy of the logits."""
        return {self.output_specs[0].name: self._logits.copy()}

    def close(self) -> None:
        """Release the instance and its memory."""
        self._images = self._logits = np.empty((0,), np.float32)
        del self._function, self._single, self._batch, self._memory, self._store


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Compile a .wasm file of `export --format wasm`."""
    if num_threads != 1:
        raise TargetError(f"{target.name} runs on one thread, not {num_threads}")
    contract = json.loads(read_contract(artifact.path, "wasm") or "{}")
    if not contract:
        raise TargetError(f"{artifact.name} is not a .wasm file of lenet-edge; export it again")
    specs = (TensorSpec(**contract["inputs"][0]), TensorSpec(**contract["outputs"][0]))
    return WasmtimeSession(artifact.path.read_bytes(), specs)
