"""ONNX Runtime: the CPU with bound inputs and outputs, and every execution provider.

`InferenceSession.run` costs a few microseconds of Python per call; a bound session avoids them. It
calls the compiled session directly, because the Python wrapper looks for a captured GPU graph in
each call. It passes its own run options, because a call without options creates new ones. Together
these two were a tenth of LeNet's latency.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import Deployable, _providers, _vulkan
from lenet_edge.target import (
    Delegation,
    Images,
    Logits,
    Session,
    Target,
    check_one_input_one_output,
    dequantize,
    quantize,
)


def _target(name: str, device: str, preference: int, delegate: str | None = None) -> Target:
    return Target(
        name=f"onnxruntime-{name}",
        runtime="onnxruntime",
        formats=("onnx",),
        device=device,
        delegate=delegate,
        package="onnxruntime",
        extra="webgpu" if name == "webgpu" else "onnx",
        preference=preference,
    )


TARGETS = (
    _target("cpu", "cpu", preference=10),
    _target("cpu-run", "cpu", preference=91),  # the call that most programs use
    *(
        _target(name, provider.device, preference=50, delegate=name)
        for name, provider in _providers.all_providers().items()
    ),
)
DEPLOYABLE = Deployable("onnx", "onnxruntime-cpu", "onnxruntime", rank=3)

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
}


class BoundSession:
    """Session over an `onnxruntime.InferenceSession` with an I/O binding."""

    delegation: Delegation | None = None

    def __init__(self, session: Any, runtime_version: str) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        check_one_input_one_output(inputs, outputs)
        self._session = session
        self.inputs = (_spec(inputs[0]),)
        self.outputs = (_spec(outputs[0]),)
        self.runtime_version = runtime_version
        self._buffer = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the bound input buffer. A new batch size binds new buffers."""
        if images.shape != self._buffer.shape:
            self._bind(images.shape)
        np.copyto(self._buffer, quantize(images, self.inputs[0]))

    def _bind(self, shape: tuple[int, ...]) -> None:
        import onnxruntime

        # The session reads and writes these arrays in place while they are bound.
        input_spec, output_spec = self.inputs[0], self.outputs[0]
        self._buffer = np.zeros(shape, input_spec.dtype)
        output_shape: tuple[Any, ...] = output_spec.shape[1:]
        if None in output_shape:  # the graph does not state the number of classes; a run shows it
            (output,) = self._session.run([output_spec.name], {input_spec.name: self._buffer})
            output_shape = output.shape[1:]
        self._result = np.zeros((shape[0], *output_shape), output_spec.dtype)
        binding = self._session.io_binding()
        for bind, name, array in (
            (binding.bind_input, input_spec.name, self._buffer),
            (binding.bind_output, output_spec.name, self._result),
        ):
            bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        run, options = self._session._sess.run_with_iobinding, onnxruntime.RunOptions()
        self._run: Any = partial(run, binding._iobinding, options)

    def infer(self) -> None:
        """Run the bound session."""
        self._run()

    def logits(self) -> Logits:
        """Return a dequantized copy of the bound output buffer."""
        return dequantize(self._result, self.outputs[0])

    def close(self) -> None:
        """Release the session and its buffers."""
        self._run = self._session = None


class RunSession(BoundSession):
    """Session that calls `run`, which creates the output in each call."""

    def infer(self) -> None:
        """Run the session."""
        self._result = self._session.run([self._out], self._feed)[0]

    def _bind(self, shape: tuple[int, ...]) -> None:
        self._buffer = np.zeros(shape, self.inputs[0].dtype)
        self._out, self._feed = self.outputs[0].name, {self.inputs[0].name: self._buffer}


class ProviderSession(RunSession):
    """Session on an execution provider, opened again for each batch size.

    A free batch is fixed, because some providers take no node of unknown size. The session calls
    `run`, so that `infer` includes the copies to the device and back. A binding would copy the
    input once, when it is bound, and then always compute the same result.
    """

    def __init__(self, artifact: Artifact, target: Target, num_threads: int) -> None:
        import onnxruntime

        self._artifact, self._target, self._num_threads = artifact, target, num_threads
        reader = onnxruntime.InferenceSession(
            str(artifact.path), providers=["CPUExecutionProvider"]
        )
        super().__init__(reader, onnxruntime.__version__)
        free = reader.get_inputs()[0].shape[0]
        self._free_axis = free if isinstance(free, str) else None
        self._open(self.inputs[0].shape[0] or 1)

    def _bind(self, shape: tuple[int, ...]) -> None:
        if shape[0] != self._batch_size:
            self._open(shape[0])
        super()._bind(shape)

    def _open(self, batch_size: int) -> None:
        import onnxruntime

        assert self._target.delegate
        provider = _providers.all_providers()[self._target.delegate]
        options = _options(self._num_threads)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if self._free_axis:
            options.add_free_dimension_override_by_name(self._free_axis, batch_size)
        device, emulated = _providers.add(
            options, provider, self._target.options, self._num_threads
        )
        try:
            self._session = onnxruntime.InferenceSession(str(self._artifact.path), options)
        except Exception as error:  # ONNX Runtime raises a different class per failure
            raise TargetError(
                f"{self._target.name} cannot open {self._artifact.name}: {_reason(error)}"
            ) from error
        self.delegation = _delegation(self._session, self._target.delegate, device, emulated)
        self._batch_size = batch_size


def _reason(error: Exception) -> str:
    """Return the last part of an ONNX Runtime message, without source paths and conditions."""
    text = re.sub(r"^.*/onnxruntime_src/\S+ ", "", " ".join(str(error).split()))
    reason = text.rsplit(" was false. ", 1)[-1]
    if "No supported adapters" in reason:
        reason += "; install the GPU's Vulkan driver, or set VK_ICD_FILENAMES to its .json file"
    return reason


def _delegation(session: Any, delegate: str, device: str | None, emulated: bool) -> Delegation:
    """Return the nodes that the provider took, from the recorded partition of the graph.

    `get_providers` is no evidence, because it lists the requested providers.
    """
    on_cpu, total = [], 0
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        total += len(nodes)
        if part.ep_name == "CPUExecutionProvider":
            on_cpu += [
                f"{node.op_type} {re.sub(r'_token_[0-9]+$', '', node.name)}" for node in nodes
            ]
    return Delegation(
        delegate,
        nodes_total=total,
        nodes_taken=total - len(on_cpu),
        left_behind=tuple(on_cpu),
        device=device,
        emulated=emulated,
    )


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    if value.type not in _DTYPES:
        raise TargetError(
            f"{value.name} is a {value.type}; lenet-edge supports {', '.join(_DTYPES)}"
        )
    return TensorSpec(name=value.name, shape=shape, dtype=_DTYPES[value.type])


def absence(target: Target) -> str | None:
    """Return why ONNX Runtime lacks the provider, or None if it has it."""
    if target.delegate is None:
        return None
    if target.delegate == "webgpu" and _vulkan.absence():
        return _vulkan.absence()
    return _providers.absence(_providers.all_providers()[target.delegate])


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open an .onnx file on the CPU, or on an execution provider."""
    import onnxruntime

    if target.delegate:
        return ProviderSession(artifact, target, num_threads)
    session = onnxruntime.InferenceSession(
        str(artifact.path), _options(num_threads), providers=["CPUExecutionProvider"]
    )
    kind = RunSession if target.name == "onnxruntime-cpu-run" else BoundSession
    return kind(session, onnxruntime.__version__)


def _options(num_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
