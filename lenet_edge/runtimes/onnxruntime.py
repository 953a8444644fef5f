"""ONNX Runtime: the CPU with bound inputs and outputs, and every execution provider.

`InferenceSession.run` costs a few microseconds of Python per call; a bound session avoids them. It
calls the compiled session directly, because the Python wrapper looks for a captured GPU graph in
each call. It passes its own run options, because a call without options creates new ones. Together
these two were a tenth of LeNet's latency.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import Deployable, _providers, _vulkan
from lenet_edge.runtimes._layer_probe import LayerProbe
from lenet_edge.runtimes._onnx_layers import onnx_probes
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

# The names of NumPy's types that differ from those of ONNX Runtime, such as tensor(float).
_DTYPES = {"float": "float32", "double": "float64"}


class BoundSession(TensorSession):
    """Session over an `onnxruntime.InferenceSession` with an I/O binding.

    `path` is the file, and `num_threads` its threads; on a provider they stay None.
    """

    def __init__(
        self,
        session: Any,
        runtime_version: str,
        path: Path | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._session = session
        self._path, self._threads = path, num_threads
        self.input_specs = tuple(_spec(value, "input") for value in session.get_inputs())
        self.output_specs = tuple(_spec(value, "output") for value in session.get_outputs())
        # Free sizes have names. An output's size of the same name as an input's is that size.
        self._input_sizes = [tuple(value.shape) for value in session.get_inputs()]
        self._output_sizes = [tuple(value.shape) for value in session.get_outputs()]
        self.runtime_version = runtime_version
        self._shapes: list[tuple[int, ...]] | None = None
        self._buffers: list[Array] = []

    def prepare(self, values: InputValues) -> None:
        """Copy the values into the bound input buffers. New shapes bind new buffers."""
        arrays = self.arrays(values)
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            check_sizes(self.input_specs, arrays)
            self._bind(shapes)
            self._shapes = shapes
        for buffer, array in zip(self._buffers, arrays, strict=True):
            buffer[...] = array

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        import onnxruntime

        # The session reads and writes these arrays in place while they are bound.
        self._make_buffers(shapes)
        run, options = self._session._sess.run, onnxruntime.RunOptions()
        names = [spec.name for spec in self.output_specs]
        self._run: Any = partial(run, names, self._feed, options)
        output_shapes = self._output_shapes(shapes)
        if output_shapes is None:  # then the session creates the outputs in each call
            vars(self)["infer"] = self._infer_unbound
            return
        vars(self).pop("infer", None)
        self._results = [
            np.zeros(shape, spec.dtype)
            for shape, spec in zip(output_shapes, self.output_specs, strict=True)
        ]
        binding = self._session.io_binding()
        for bind, specs, arrays in (
            (binding.bind_input, self.input_specs, self._buffers),
            (binding.bind_output, self.output_specs, self._results),
        ):
            for spec, array in zip(specs, arrays, strict=True):
                bind(spec.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        run = self._session._sess.run_with_iobinding
        self._run = partial(run, binding._iobinding, options)

    def _make_buffers(self, shapes: list[tuple[int, ...]]) -> None:
        self._buffers = [
            np.zeros(shape, spec.dtype)
            for shape, spec in zip(shapes, self.input_specs, strict=True)
        ]
        names = (spec.name for spec in self.input_specs)
        self._feed = dict(zip(names, self._buffers, strict=True))

    def _output_shapes(self, shapes: list[tuple[int, ...]]) -> list[tuple[Any, ...]] | None:
        """Return the shapes of the outputs; None if one may depend on the values."""
        known = self._named_sizes(shapes)
        found = [tuple(known.get(size, size) for size in sizes) for sizes in self._output_sizes]
        if all(isinstance(size, int) for shape in found for size in shape):
            return found
        # The output of a classifier may have other names, or none. A run then shows its shape.
        if len(shapes) == len(found) == 1 and len(found[0]) == 2 and shapes[0]:
            shape = self._run()[0].shape
            if shape[0] == shapes[0][0]:
                return [shape]
        return None

    def _named_sizes(self, shapes: list[tuple[int, ...]]) -> dict[Any, int]:
        """Return the values of the free sizes by their names."""
        return {
            name: size
            for sizes, shape in zip(self._input_sizes, shapes, strict=True)
            for name, size in zip(sizes, shape, strict=True)
            if isinstance(name, str)
        }

    def infer(self) -> None:
        """Run the bound session."""
        self._run()

    def _infer_unbound(self) -> None:
        self._results = self._run()

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output."""
        return {
            spec.name: result.copy()
            for spec, result in zip(self.output_specs, self._results, strict=True)
        }

    def _first_output(self) -> Array:
        return self._results[0].copy()

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the profiler, and the cuts of the graph that ONNX Runtime has optimized."""
        assert self._path is not None
        assert self._threads is not None
        names = (spec.name for spec in self.input_specs)
        feed = dict(zip(names, self.arrays(values), strict=True))
        yield from onnx_probes(self._path, _open_on_cpu, partial(_options, self._threads), feed)

    def close(self) -> None:
        """Release the session and its buffers."""
        vars(self).pop("infer", None)
        self._run = self._session = None


class RunSession(BoundSession):
    """Session that calls `run`, which creates the outputs in each call."""

    def infer(self) -> None:
        """Run the session."""
        self._results = self._session.run(self._names, self._feed)

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        self._make_buffers(shapes)
        self._names = [spec.name for spec in self.output_specs]

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Refuse: the cost of `run` would hide the layers, and no node of a provider is timed."""
        raise TargetError("its layers are not timed; use onnxruntime-cpu")


class ProviderSession(RunSession):
    """Session on an execution provider, opened again for each set of free sizes.

    Free sizes are fixed, because some providers take no node of unknown size. The session calls
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
        first = {sizes[0] for sizes in self._input_sizes if sizes}
        self._open({name: 1 for name in first if isinstance(name, str)})

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        if (sizes := self._named_sizes(shapes)) != self._sizes:
            self._open(sizes)
        super()._bind(shapes)

    def _open(self, sizes: dict[str, int]) -> None:
        import onnxruntime

        assert self._target.delegate
        provider = _providers.get_provider(self._target.delegate)
        options = _options(self._num_threads)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        for name, size in sizes.items():
            options.add_free_dimension_override_by_name(name, size)
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
        self._sizes = sizes


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


def _spec(value: Any, side: str) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape or ())
    return TensorSpec(value.name, shape, check_dtype(value.name, _DTYPES.get(kind, kind), side))


def absence(target: Target) -> str | None:
    """Return why ONNX Runtime lacks the provider, or None if it has it."""
    if target.delegate is None:
        return None
    if target.delegate == "webgpu" and _vulkan.absence():
        return _vulkan.absence()
    return _providers.absence(_providers.get_provider(target.delegate))


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open an .onnx file on the CPU, or on an execution provider."""
    import onnxruntime

    if target.delegate:
        return ProviderSession(artifact, target, num_threads)
    session = _open_on_cpu(artifact.path, _options(num_threads))
    kind = RunSession if target.name == "onnxruntime-cpu-run" else BoundSession
    return kind(session, onnxruntime.__version__, artifact.path, num_threads)


def _open_on_cpu(path: Path, options: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _options(num_threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
