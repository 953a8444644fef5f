"""OpenVINO on the CPU, which reads .onnx and .tflite files alike.

The shared tensor and the bare `infer()` are on purpose: `infer([x])` spends three quarters of a
LeNet's time in its Python wrapping.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lenet_edge.artifact import Artifact, TensorSpec
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize

TARGETS = (
    Target(
        name="openvino-cpu",
        runtime="openvino",
        formats=("onnx", "tflite"),
        device="cpu",
        delegate=None,
        package="openvino",
        extra="openvino",
        preference=30,
    ),
)


class OpenvinoSession:
    """A Session over an `openvino.InferRequest` that reads our buffer in place."""

    delegation: Delegation | None = None

    def __init__(
        self, model: Any, num_threads: int, inputs: TensorSpec, outputs: TensorSpec, version: str
    ) -> None:
        self._model, self._num_threads = model, num_threads
        self.inputs, self.outputs = (inputs,), (outputs,)
        self.runtime_version = version
        self._buffer = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the shared buffer; another batch size compiles the model anew."""
        if images.shape != self._buffer.shape:
            self._compile(images.shape)
        np.copyto(self._buffer, quantize(images, self.inputs[0]))

    def _compile(self, shape: tuple[int, ...]) -> None:
        import openvino

        self._model.reshape(list(shape))
        compiled = openvino.compile_model(
            self._model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": self._num_threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self._buffer = np.zeros(shape, self.inputs[0].dtype)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._buffer, shared_memory=True))

    def infer(self) -> None:
        """Run the request, and wait for it."""
        self._request.infer()

    def logits(self) -> Logits:
        """Copy the output tensor out and dequantize it."""
        return dequantize(self._request.get_output_tensor().data, self.outputs[0])

    def close(self) -> None:
        """Drop the request and the model."""
        self._request = self._model = None


def _spec(port: Any, known: tuple[TensorSpec, ...]) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    # The graph does not say how its integers are scaled; the manifest does.
    quantization = known[0] if known else TensorSpec("", (), dtype)
    return TensorSpec(
        port.get_any_name(), shape, dtype, quantization.scale, quantization.zero_point
    )


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Read a model file; it is compiled when the first batch says its size."""
    import openvino

    model = openvino.Core().read_model(artifact.path)
    return OpenvinoSession(
        model,
        num_threads,
        _spec(model.input(), artifact.inputs),
        _spec(model.output(), artifact.outputs),
        openvino.__version__.split("-")[0],
    )
