"""A network as WebAssembly, of ``export --format wasm``, on a machine instead of in a browser.

It is how `verify` proves such a file; a browser's own engine is what users will meet.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import TargetError
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize

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


class WasmtimeSession:
    """A Session over an instance of a module, whose memory holds images and logits."""

    delegation: Delegation | None = None

    def __init__(self, content: bytes, specs: tuple[TensorSpec, TensorSpec]) -> None:
        import wasmtime

        self._store: Any = wasmtime.Store()
        module = wasmtime.Module(self._store.engine, content)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        found: dict[str, Any] = {name: exports[name] for name in exports}
        self._memory = found["memory"]
        (name,) = (name for name in found if f"{name}_batch" in found)
        self._one, self._batch = found[name], found[f"{name}_batch"]
        self._free: int = found["__heap_base"].value(self._store)
        self.inputs, self.outputs = specs[:1], specs[1:]
        self.runtime_version = importlib.metadata.version("wasmtime")
        self._images: Any = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the module's memory."""
        if images.shape != self._images.shape:
            self._bind(images)
        np.copyto(self._images, quantize(images, self.inputs[0]))

    def _bind(self, images: Images) -> None:
        image, logits = self.inputs[0], self.outputs[0]
        if images.shape[1:] != image.shape[1:]:
            raise TargetError(
                f"the network takes images of shape {image.shape[1:]}, not {images.shape[1:]}"
            )
        shapes = (images.shape, (len(images), logits.shape[-1] or 1))
        at = self._free + 4 * images.size
        missing = at + 4 * int(np.prod(shapes[1])) - self._memory.data_len(self._store)
        if missing > 0:
            self._memory.grow(self._store, -(-missing // _PAGE_BYTES))
        memory = np.frombuffer(self._memory.get_buffer_ptr(self._store), np.uint8)
        self._images, self._logits = (
            memory[place : place + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)
            for place, shape in zip((self._free, at), shapes, strict=True)
        )
        self._places = (self._free, at) if len(images) == 1 else (self._free, at, len(images))
        self._function = self._one if len(images) == 1 else self._batch

    def infer(self) -> None:
        """Call the network; on this way into a module wasmtime's Python spends most of the time."""
        self._function(self._store, *self._places)

    def logits(self) -> Logits:
        """Copy the logits out."""
        return dequantize(self._logits, self.outputs[0])

    def close(self) -> None:
        """Drop the instance and its memory."""
        self._images = self._logits = np.empty((0,), np.float32)
        del self._function, self._one, self._batch, self._memory, self._store


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Compile a .wasm file of `export --format wasm`."""
    if num_threads != 1:
        raise TargetError(f"{target.name} runs on one thread, not {num_threads}")
    contract = json.loads(read_contract(artifact.path, "wasm") or "{}")
    if not contract:
        raise TargetError(f"{artifact.name} is no .wasm file of lenet-edge; export it again")
    specs = (TensorSpec(**contract["inputs"][0]), TensorSpec(**contract["outputs"][0]))
    return WasmtimeSession(artifact.path.read_bytes(), specs)
