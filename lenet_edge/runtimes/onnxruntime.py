"""ONNX Runtime on the CPU, with inputs and outputs bound once.

`InferenceSession.run` costs a few microseconds of Python for each call; a bound session does not.
What is called is the compiled session within it: the wrapper looks for a captured GPU graph in each
call. A call without options makes new ones. The two together were a tenth of LeNet's latency.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lenet_edge.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize

TARGETS = (
    Target(
        name="onnxruntime-cpu",
        runtime="onnxruntime",
        formats=("onnx",),
        device="cpu",
        delegate=None,
        package="onnxruntime",
        extra="onnx",
        preference=10,
    ),
)

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
}


class BoundSession:
    """A Session over an `onnxruntime.InferenceSession` with an I/O binding."""

    delegation: Delegation | None = None

    def __init__(self, session: Any, runtime_version: str) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise TargetError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs;"
                " lenet-edge runs classifiers with one of each"
            )
        self._session = session
        self.inputs = (_spec(inputs[0]),)
        self.outputs = (_spec(outputs[0]),)
        self.runtime_version = runtime_version
        self._buffer = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the bound input buffer, bound anew for another batch size."""
        if images.shape != self._buffer.shape:
            self._bind(images.shape)
        np.copyto(self._buffer, quantize(images, self.inputs[0]))

    def _bind(self, shape: tuple[int, ...]) -> None:
        import onnxruntime

        # The session reads and writes these arrays in place, for as long as they are bound.
        spec, out = self.inputs[0], self.outputs[0]
        self._buffer = np.zeros(shape, spec.dtype)
        result: tuple[Any, ...] = out.shape[1:]
        if None in result:  # the graph does not tell how many classes; one run does
            (first,) = self._session.run([out.name], {spec.name: self._buffer})
            result = first.shape[1:]
        self._result = np.zeros((shape[0], *result), out.dtype)
        binding = self._session.io_binding()
        for bind, name, array in (
            (binding.bind_input, spec.name, self._buffer),
            (binding.bind_output, out.name, self._result),
        ):
            bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        run, options = self._session._sess.run_with_iobinding, onnxruntime.RunOptions()
        self._run: Any = partial(run, binding._iobinding, options)

    def infer(self) -> None:
        """Run the bound session."""
        self._run()

    def logits(self) -> Logits:
        """Copy the bound output buffer."""
        return dequantize(self._result, self.outputs[0])

    def close(self) -> None:
        """Drop the session and its buffers."""
        self._run = self._session = None


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    if value.type not in _DTYPES:
        raise TargetError(f"{value.name} is a {value.type}, which lenet-edge does not feed")
    return TensorSpec(name=value.name, shape=shape, dtype=_DTYPES[value.type])


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open an .onnx file on the CPU execution provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(artifact.path), options, providers=["CPUExecutionProvider"]
    )
    return BoundSession(session, onnxruntime.__version__)
