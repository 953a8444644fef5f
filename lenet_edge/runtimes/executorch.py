"""ExecuTorch on the CPU. It runs .pte files, which PyTorch exports.

The file decides what computes: XNNPACK where it was lowered to XNNPACK, else the portable kernels,
which are many times slower. The module of the compiled functions is imported directly, because
ExecuTorch's own wrapper imports its whole exporter.
"""

from __future__ import annotations

import importlib.metadata
import weakref
from functools import partial
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.target import Array, Session, Target, check_dtype, check_sizes

TARGETS = (
    Target(
        name="executorch-cpu",
        runtime="executorch",
        formats=("executorch",),
        device="cpu",
        delegate=None,
        package="executorch",
        extra="executorch",
        preference=10,
    ),
)
# Source: c10/core/ScalarType.h of PyTorch.
_TYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
    7: "float64", 11: "bool",
}  # fmt: skip
_open_sessions: weakref.WeakSet[ExecutorchSession] = weakref.WeakSet()


class ExecutorchSession(BufferSession):
    """Session over the method `forward` of a .pte file.

    A .pte file states the largest size of each axis, and not which sizes are free. So the session
    tries a batch of one. If that runs, smaller batches than the largest are allowed.

    The threads belong to the process, and open files keep references to them. So the sessions that
    are open together have one number of threads.
    """

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        import torch
        from executorch.extension.pybindings import _C

        super().__init__()
        self._torch = torch
        self.runtime_version = importlib.metadata.version("executorch")
        if _C._threadpool_get_thread_count() != num_threads:
            if _open_sessions:
                raise TargetError(
                    "ExecuTorch has one number of threads for all open files of a process; close"
                    " the other sessions first"
                )
            # With a file open, this would corrupt the heap.
            _C._unsafe_reset_threadpool(num_threads)
        self._module = _C._load_for_executorch(str(artifact.path))
        meta = self._module.method_meta("forward")
        inputs = [meta.input_tensor_meta(number) for number in range(meta.num_inputs())]
        outputs = [meta.output_tensor_meta(number) for number in range(meta.num_outputs())]
        self.input_specs = _specs(inputs, "input")
        self.output_specs = _specs(outputs, "output")
        self._largest_batch = max(
            (spec.shape[0] or 0 for spec in self.input_specs if spec.shape), default=1
        )
        if self._largest_batch > 1 and self._runs_one():
            self.input_specs, self.output_specs = (
                tuple(self._with_free_batch(spec) for spec in specs)
                for specs in (self.input_specs, self.output_specs)
            )
        _open_sessions.add(self)

    def _runs_one(self) -> bool:
        """Tell whether the file runs a batch of one."""
        specs = map(self._with_free_batch, self.input_specs)
        shapes = [(tuple(size or 1 for size in spec.shape), spec.dtype) for spec in specs]
        try:
            self._module.forward([self._torch.from_numpy(np.zeros(*each)) for each in shapes])
        except RuntimeError:
            return False
        return True

    def _with_free_batch(self, spec: TensorSpec) -> TensorSpec:
        is_batch = spec.shape[:1] == (self._largest_batch,)
        return TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype) if is_batch else spec

    def _bind(self, arrays: list[Array]) -> None:
        # ExecuTorch itself only checks the number of the bytes, and takes missing inputs.
        check_sizes(self.input_specs, arrays)
        for spec, array in zip(self.input_specs, arrays, strict=True):
            if spec.shape[:1] == (None,) and not 0 < len(array) <= self._largest_batch:
                raise TargetError(
                    f"the input {spec.name} takes a batch of 1 to {self._largest_batch}, not"
                    f" {len(array)}; choose another with --batch-size, or export the file with a"
                    " larger example"
                )
        self._inputs = [np.zeros(array.shape, array.dtype) for array in arrays]
        tensors = [self._torch.from_numpy(buffer) for buffer in self._inputs]
        # Without clones, the outputs stay in the memory of the module, and `outputs` copies them.
        self._run: Any = partial(self._module.forward, tensors, clone_outputs=False)

    def infer(self) -> None:
        """Run the method."""
        self._results = self._run()

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output."""
        return {
            spec.name: result.numpy().copy()
            for spec, result in zip(self.output_specs, self._results, strict=True)
        }

    def close(self) -> None:
        """Release the module and its tensors."""
        self._run = self._results = self._module = None
        _open_sessions.discard(self)


def _specs(tensors: list[Any], side: str) -> tuple[TensorSpec, ...]:
    """Return the tensors of a side. A .pte file does not name them."""
    specs = []
    for number, tensor in enumerate(tensors):
        name = side if len(tensors) == 1 else f"{side}_{number}"
        kind = tensor.dtype()
        dtype = check_dtype(name, _TYPES.get(kind, f"torch type {kind}"), side)
        specs.append(TensorSpec(name, tuple(tensor.sizes()), dtype))
    return tuple(specs)


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .pte file."""
    return ExecutorchSession(artifact, num_threads)
