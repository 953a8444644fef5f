"""OpenVINO on the CPU, and on Intel's GPUs and NPUs. It reads .onnx and .tflite files.

For a LeNet, Python code takes most of the time of `infer([x])`. The session therefore fixes the
batch, shares the input tensor, and calls the compiled request directly, which copies no results.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize


def _target(device: str, preference: int, suffix: str = "") -> Target:
    return Target(
        name=f"openvino-{device}{suffix}",
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
    _target("cpu", 92, "-infer"),  # the call that most programs use
)


class OpenvinoSession:
    """Session over an `openvino.InferRequest` that reads a shared input buffer."""

    delegation: Delegation | None = None

    def __init__(self, artifact: Artifact, target: Target, num_threads: int) -> None:
        import openvino

        self._core = openvino.Core()
        self._device = target.device.upper()
        devices = self._core.available_devices
        if not any(device.split(".")[0] == self._device for device in devices):
            raise TargetError(
                f"OpenVINO finds no {self._device}, only {', '.join(devices)}; install the driver"
                " of the Intel device"
            )
        self._model = self._core.read_model(artifact.path)
        self._half = artifact.precision == "float16"
        self._num_threads = num_threads
        self.inputs = (_spec(self._model.input(), artifact.inputs),)
        self.outputs = (_spec(self._model.output(), artifact.outputs),)
        self.runtime_version = openvino.__version__.split("-")[0]
        self._buffer = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the shared buffer. A new batch size compiles the model again."""
        if images.shape != self._buffer.shape:
            self._compile(images.shape)
        np.copyto(self._buffer, quantize(images, self.inputs[0]))

    def _compile(self, shape: tuple[int, ...]) -> None:
        import openvino

        self._model.reshape(list(shape))
        half = self._device == "NPU" or (self._device == "GPU" and self._half)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # The default is float16 or bfloat16 on devices that support it.
            "INFERENCE_PRECISION_HINT": "f16" if half else "f32",
        }
        if self._device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": self._num_threads, "NUM_STREAMS": 1}
            settings["ENABLE_CPU_PINNING"] = False  # 10 % faster beside other processes
        compiled = self._core.compile_model(self._model, self._device, settings)
        if self._device != "CPU":
            # Without HETERO, the whole graph runs on the device or fails to compile.
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
        """Run the request and wait for its result."""
        self._run()

    def logits(self) -> Logits:
        """Return a dequantized copy of the output tensor."""
        return dequantize(self._request.get_output_tensor().data, self.outputs[0])

    def close(self) -> None:
        """Release the request and the model."""
        self._run = self._request = self._model = None


class InferSession(OpenvinoSession):
    """Session as most programs use OpenVINO: a free batch and default settings.

    The number of threads and float32 are set, because results would not be comparable otherwise.
    """

    def _compile(self, shape: tuple[int, ...]) -> None:
        import openvino

        expected = self._model.input().get_partial_shape()
        # OpenVINO would read past the end of smaller images.
        if not expected.compatible(openvino.PartialShape(list(shape))):
            raise TargetError(f"the network takes images of shape {expected}, not {list(shape)}")
        settings = {
            "INFERENCE_NUM_THREADS": self._num_threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = self._core.compile_model(
            self._model, self._device, settings
        ).create_infer_request()
        self._buffer = np.zeros(shape, self.inputs[0].dtype)

    def infer(self) -> None:
        """Run the request, which copies the images and creates the results in each call."""
        self._results = self._request.infer([self._buffer])

    def logits(self) -> Logits:
        """Return the dequantized output of the results."""
        return dequantize(self._results[0], self.outputs[0])


def _spec(port: Any, manifest_specs: tuple[TensorSpec, ...]) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    # The manifest states the scale of integers, the graph does not.
    quantization = manifest_specs[0] if manifest_specs else TensorSpec("", (), dtype)
    return TensorSpec(
        port.get_any_name(), shape, dtype, quantization.scale, quantization.zero_point
    )


def absence(target: Target) -> str | None:
    """Return why the device is absent, or None if that needs a trial."""
    if target.device == "gpu" and not list(Path("/dev/dri").glob("renderD*")):
        return "there is no /dev/dri; install the driver of the Intel GPU"
    if target.device == "npu" and not list(Path("/dev/accel").glob("accel*")):
        return "there is no /dev/accel; install the driver of the Intel NPU"
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Read a model file. The first batch compiles it for its size."""
    kind = InferSession if target.name == "openvino-cpu-infer" else OpenvinoSession
    return kind(artifact, target, num_threads)
