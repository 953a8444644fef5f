"""OpenVINO on a CPU, GPU or NPU of Intel's, which reads .onnx and .tflite files alike.

The fixed batch, the shared tensor and the bare request are on purpose: most of what `infer([x])`
takes for a LeNet is its Python wrapping. What is called is the compiled request within it, which
copies no results.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize


def _target(device: str, preference: int, way: str = "") -> Target:
    return Target(
        name=f"openvino-{device}{way}",
        runtime="openvino",
        formats=("onnx", "tflite"),
        device=device,
        delegate=None if device == "cpu" else device.upper(),
        package="openvino",
        extra="openvino",
        preference=preference,
    )


TARGETS = (
    _target("cpu", 30),
    _target("gpu", 45),
    _target("npu", 46),
    _target("cpu", 92, "-infer"),  # as most programs call it
)


class OpenvinoSession:
    """A Session over an `openvino.InferRequest` that reads our buffer in place."""

    delegation: Delegation | None = None

    def __init__(self, artifact: Artifact, target: Target, num_threads: int) -> None:
        import openvino

        self._core = openvino.Core()
        self._device = target.device.upper()
        found = self._core.available_devices
        if not any(one.split(".")[0] == self._device for one in found):
            raise TargetError(
                f"OpenVINO finds no {self._device} here, only {', '.join(found)}; install the"
                " driver of Intel's device"
            )
        self._model = self._core.read_model(artifact.path)
        self._half = artifact.precision == "float16"
        self._num_threads = num_threads
        self.inputs = (_spec(self._model.input(), artifact.inputs),)
        self.outputs = (_spec(self._model.output(), artifact.outputs),)
        self.runtime_version = openvino.__version__.split("-")[0]
        self._buffer = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the shared buffer; another batch size compiles the model anew."""
        if images.shape != self._buffer.shape:
            self._compile(images.shape)
        np.copyto(self._buffer, quantize(images, self.inputs[0]))

    def _compile(self, shape: tuple[int, ...]) -> None:
        import openvino

        self._model.reshape(list(shape))
        half = self._device == "NPU" or (self._device == "GPU" and self._half)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Left to itself it takes float16 or bfloat16 where the device has it.
            "INFERENCE_PRECISION_HINT": "f16" if half else "f32",
        }
        if self._device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": self._num_threads, "NUM_STREAMS": 1}
            settings["ENABLE_CPU_PINNING"] = False  # a tenth faster where others work too
        compiled = self._core.compile_model(self._model, self._device, settings)
        if self._device != "CPU":
            # Without HETERO the whole graph runs there, or it does not compile.
            nodes = len(self._model.get_ops())
            name = compiled.get_property("EXECUTION_DEVICES")[0]
            self.delegation = Delegation(
                self._device,
                nodes_total=nodes,
                nodes_taken=nodes,
                device=self._core.get_property(name, "FULL_DEVICE_NAME"),
                precision="float16" if half else "float32",
            )
        self._buffer = np.zeros(shape, self.inputs[0].dtype)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._buffer, shared_memory=True))
        bare: Any = super(type(self._request), self._request)
        self._run: Any = partial(bare.infer, {}, True, False)  # share_outputs, decode_strings

    def infer(self) -> None:
        """Run the request, and wait for it."""
        self._run()

    def logits(self) -> Logits:
        """Copy the output tensor out and dequantize it."""
        return dequantize(self._request.get_output_tensor().data, self.outputs[0])

    def close(self) -> None:
        """Drop the request and the model."""
        self._run = self._request = self._model = None


class InferSession(OpenvinoSession):
    """The same as most programs have it: the batch left free, the settings left to OpenVINO.

    But for what would make it another job: the number of threads, and float32.
    """

    def _compile(self, shape: tuple[int, ...]) -> None:
        import openvino

        taken = self._model.input().get_partial_shape()
        if not taken.compatible(openvino.PartialShape(list(shape))):  # or it reads past their end
            raise TargetError(f"the network takes images of shape {taken}, not {list(shape)}")
        settings = {
            "INFERENCE_NUM_THREADS": self._num_threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = self._core.compile_model(
            self._model, self._device, settings
        ).create_infer_request()
        self._buffer = np.zeros(shape, self.inputs[0].dtype)

    def infer(self) -> None:
        """Run the request, which takes the images and makes the results anew each time."""
        self._results = self._request.infer([self._buffer])

    def logits(self) -> Logits:
        """Take the output from the results and dequantize it."""
        return dequantize(self._results[0], self.outputs[0])


def _spec(port: Any, known: tuple[TensorSpec, ...]) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    # The graph does not say how its integers are scaled; the manifest does.
    quantization = known[0] if known else TensorSpec("", (), dtype)
    return TensorSpec(
        port.get_any_name(), shape, dtype, quantization.scale, quantization.zero_point
    )


def absence(target: Target) -> str | None:
    """Return why there is no such device here, as far as can be told without trying."""
    if target.device == "gpu" and not list(Path("/dev/dri").glob("renderD*")):
        return "there is no /dev/dri; install the driver of the Intel GPU"
    if target.device == "npu" and not list(Path("/dev/accel").glob("accel*")):
        return "there is no /dev/accel; install the driver of the Intel NPU"
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Read a model file; it is compiled when the first batch says its size."""
    kind = InferSession if target.name == "openvino-cpu-infer" else OpenvinoSession
    return kind(artifact, target, num_threads)
