"""OpenVINO on the CPU, and on Intel's GPUs and NPUs. It reads .onnx and .tflite files.

For a LeNet, Python code takes most of the time of `infer([x])`. The session therefore fixes the
batch, shares the input tensor, and calls the compiled request directly, which copies no results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._layer_probe import LayerProbe
from lenet_edge.runtimes._onnx_layers import nodes_by_tensor
from lenet_edge.runtimes._openvino_layers import openvino_probes
from lenet_edge.target import (
    Array,
    Delegation,
    InputValues,
    Session,
    Target,
    TensorSession,
    check_dtype,
    check_sizes,
)


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


class OpenvinoSession(TensorSession):
    """Session over an `openvino.InferRequest` that reads shared input buffers."""

    _keeps_sizes = False

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
        self._artifact = artifact
        self._half = artifact.precision == "float16"
        self._num_threads = num_threads
        self.input_specs = _specs(self._model.inputs, artifact.inputs, "input")
        self.output_specs = _specs(self._model.outputs, artifact.outputs, "output")
        kinds = {node.get_type_name() for node in self._model.get_ops()}
        self.state = "carried" if kinds & {"ReadValue", "Assign"} else None
        self.runtime_version = openvino.__version__.split("-")[0]
        self._shapes: list[tuple[int, ...]] | None = None

    def prepare(self, values: InputValues) -> None:
        """Copy the values into the shared buffers. New shapes compile the model again."""
        arrays = self.arrays(values)
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            # OpenVINO would read past the end of smaller arrays.
            check_sizes(self.input_specs, arrays, free_batch=not self._keeps_sizes)
            self._buffers = [np.zeros(array.shape, array.dtype) for array in arrays]
            self._compile(shapes)
            self._shapes = shapes
        for buffer, array in zip(self._buffers, arrays, strict=True):
            buffer[...] = array

    def _compile(self, shapes: list[tuple[int, ...]]) -> None:
        import openvino

        if shapes:
            self._model.reshape(
                {n: openvino.PartialShape(list(shape)) for n, shape in enumerate(shapes)}
            )
        compiled = self._core.compile_model(self._model, self._device, self._settings())
        if self._device != "CPU":
            # Without HETERO, the whole graph runs on the device or fails to compile.
            nodes = len(self._model.get_ops())
            name = compiled.get_property("EXECUTION_DEVICES")[0]
            self.delegation = Delegation(
                self._device,
                nodes_total=nodes,
                nodes_taken=nodes,
                device=self._core.get_property(name, "FULL_DEVICE_NAME"),
                precision="float16" if self._computes_in_half else "float32",
            )
        self._request, self._run = self._bind(compiled)

    @property
    def _computes_in_half(self) -> bool:
        return self._device == "NPU" or (self._device == "GPU" and self._half)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # The default is float16 or bfloat16 on devices that support it.
            "INFERENCE_PRECISION_HINT": "f16" if self._computes_in_half else "f32",
        }
        if self._device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": self._num_threads, "NUM_STREAMS": 1}
            settings["ENABLE_CPU_PINNING"] = False  # 10 % faster beside other processes
        return settings

    def _bind(self, compiled: Any) -> tuple[Any, Any]:
        """Return a request that reads the buffers, and the call that runs it."""
        import openvino

        request = compiled.create_infer_request()
        for number, buffer in enumerate(self._buffers):
            request.set_input_tensor(number, openvino.Tensor(buffer, shared_memory=True))
        bare: Any = super(type(request), request)
        return request, partial(bare.infer, {}, True, False)  # share_outputs, decode_strings

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the counters of OpenVINO, and the cuts of the graph."""

        def compile_part(model: Any, counts: bool) -> tuple[Any, Callable[[], object]]:
            settings = self._settings() | ({"PERF_COUNT": True} if counts else {})
            return self._bind(self._core.compile_model(model, self._device, settings))

        file = self._artifact
        node_of = nodes_by_tensor(file.path) if file.format == "onnx" else {}
        yield from openvino_probes(self._model, file.name, file.size_bytes, compile_part, node_of)

    def infer(self) -> None:
        """Run the request and wait for its result."""
        self._run()

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output tensor."""
        return {
            spec.name: np.array(self._request.get_output_tensor(number).data)
            for number, spec in enumerate(self.output_specs)
        }

    def _first_output(self) -> Array:
        return np.array(self._request.get_output_tensor(0).data)

    def close(self) -> None:
        """Release the request and the model."""
        self._run = self._request = self._model = None


class InferSession(OpenvinoSession):
    """Session as most programs use OpenVINO: a free batch and default settings.

    The number of threads and float32 are set, because results would not be comparable otherwise.
    """

    _keeps_sizes = True

    def _compile(self, shapes: list[tuple[int, ...]]) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": self._num_threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = self._core.compile_model(
            self._model, self._device, settings
        ).create_infer_request()

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Refuse: the cost of this call would hide the layers."""
        raise TargetError("its layers are not timed; use openvino-cpu")

    def infer(self) -> None:
        """Run the request, which copies the values and creates the results in each call."""
        self._results = self._request.infer(self._buffers)

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each result."""
        return {
            spec.name: np.array(self._results[number])
            for number, spec in enumerate(self.output_specs)
        }

    def _first_output(self) -> Array:
        return np.array(self._results[0])


def _specs(
    ports: Sequence[Any], manifest_specs: tuple[TensorSpec, ...], side: str
) -> tuple[TensorSpec, ...]:
    specs = []
    for number, port in enumerate(ports):
        names = sorted(port.get_names())
        # The manifest states the name that other runtimes use and the scale of integers, which
        # the graph does not. OpenVINO may have lost the name, but it keeps the order.
        known = next((spec for spec in manifest_specs if spec.name in names), None)
        if known is None and len(manifest_specs) == len(ports):
            known = manifest_specs[number]
        name = known.name if known else names[0] if names else f"{side}:{number}"
        partial_shape = port.get_partial_shape()
        if partial_shape.rank.is_dynamic:
            raise TargetError(f"the {side} {name} has any number of axes; fix its shape")
        shape = tuple(d.get_length() if d.is_static else None for d in partial_shape)
        kind = port.get_element_type()
        dtype = check_dtype(
            name, np.str_ if kind.get_type_name() == "string" else kind.to_dtype(), side
        )
        scale, zero_point = (known.scale, known.zero_point) if known else (None, None)
        specs.append(TensorSpec(name, shape, dtype, scale, zero_point))
    return tuple(specs)


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
