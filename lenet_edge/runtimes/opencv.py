"""OpenCV's DNN module on the CPU. It reads .onnx files.

OpenCV 5 has two engines. The classic one is faster for LeNet and runs quantized files; the figures
are in docs/decisions.md. The new engine gets the graphs that the classic one refuses. OpenCV 4 has
the classic engine alone, and computes wrong results for quantized files without an error: `verify`
and `bench` report them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.onnx_tensors import read_onnx_tensors
from lenet_edge.runtimes import Deployable
from lenet_edge.runtimes._layer_probe import LayerProbe, LayerStep, ProfilerProbe
from lenet_edge.runtimes._onnx_layers import OnnxGraph
from lenet_edge.target import (
    Array,
    InputValues,
    Session,
    Target,
    TensorSession,
    check_dtype,
    check_sizes,
)

TARGETS = (
    Target(
        name="opencv-cpu",
        runtime="opencv",
        formats=("onnx",),
        device="cpu",
        delegate=None,
        package="cv2",
        extra="opencv",
        preference=40,
    ),
)
DEPLOYABLE = Deployable("opencv", "opencv-cpu", "opencv-python-headless", rank=5)
_NODE = "onnx_node!"  # the prefix of the names of layers


class OpencvSession(TensorSession):
    """Session over a `cv2.dnn.Net`.

    The number of threads belongs to the process: `prepare` sets it, for all sessions. Two sessions
    with different numbers must not alternate between `prepare` and `infer`.
    """

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        import cv2

        self._cv2, self._num_threads, self._path = cv2, num_threads, str(artifact.path)
        inputs, outputs = read_onnx_tensors(artifact.path)
        for side, specs in (("input", inputs), ("output", outputs)):
            for spec in specs:
                check_dtype(spec.name, spec.dtype, side)
        self.input_specs = _with_scales(inputs, artifact.inputs)
        self.output_specs = _with_scales(outputs, artifact.outputs)
        self._names = [spec.name for spec in outputs]
        self._shapes: list[tuple[int, ...]] | None = None
        # The arguments that select an engine. OpenCV 4 takes none.
        names = ("ENGINE_CLASSIC", "ENGINE_NEW") if hasattr(cv2.dnn, "ENGINE_NEW") else ()
        self._engines: list[tuple[Any, ...]] = [(getattr(cv2.dnn, name),) for name in names] or [()]
        self._net: Any = None
        self._use_engine()

    def _use_engine(self, arrays: list[Array] | None = None) -> None:
        """Read the file, and run it on arrays, with the first engine that does both."""
        errors = []
        for number, engine in enumerate(self._engines):
            try:
                with _no_messages(self._cv2):
                    if number or self._net is None:
                        self._net = self._cv2.dnn.readNetFromONNX(self._path, *engine)
                    if arrays is not None:
                        self._load(arrays)
                        self._net.forward(self._names)
            except self._cv2.error as error:
                errors.append(error)
                continue
            self._engines = self._engines[number:]
            self._run: Any = partial(self._net.forward, self._names)
            return
        self._net = None
        raise errors[0]

    @property
    def runtime_version(self) -> str:
        """The version of OpenCV, and the engine if it is not the usual one."""
        is_new = self._engines[0] == (getattr(self._cv2.dnn, "ENGINE_NEW", None),)
        return f"{self._cv2.__version__}{', new engine' if is_new else ''}"

    def prepare(self, values: InputValues) -> None:
        """Copy the values into the network. The first run of new shapes allocates its buffers."""
        arrays = self.arrays(values)
        if self._cv2.getNumThreads() != self._num_threads:
            self._cv2.setNumThreads(self._num_threads)
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            check_sizes(self.input_specs, arrays)
            self._use_engine(arrays)
            self._shapes = shapes
        else:
            self._load(arrays)

    def _load(self, arrays: list[Array]) -> None:
        for spec, array in zip(self.input_specs, arrays, strict=True):
            self._net.setInput(array, spec.name)

    def infer(self) -> None:
        """Run the network, which copies its outputs into new arrays."""
        self._results = self._run()

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output. OpenCV computes float16 in float32."""
        return {
            spec.name: _no_elements(spec) if result is None else result.astype(spec.dtype)
            for spec, result in zip(self.output_specs, self._results, strict=True)
        }

    def _first_output(self) -> Array:
        return np.array(self._results[0])

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the times that OpenCV keeps of each call."""
        frequency = self._cv2.getTickFrequency()

        def seconds() -> Array:
            _, ticks = self._net.getPerfProfile()
            times: Array = np.ravel(np.asarray(ticks, np.float64)) / frequency
            return times

        yield OpencvProfiler(
            self._net, self.infer, seconds, OnnxGraph(Path(self._path).read_bytes())
        )

    def close(self) -> None:
        """Release the network."""
        self._run = self._net = None


class OpencvProfiler(ProfilerProbe):
    """The times that OpenCV keeps of each call.

    Args:
        net: the network.
        infer: runs it.
        seconds: returns the times of the layers in the last call.
        graph: the graph of the file.
    """

    method = "the times that OpenCV keeps"

    def __init__(
        self,
        net: Any,
        infer: Callable[[], object],
        seconds: Callable[[], Array],
        graph: OnnxGraph,
    ) -> None:
        self._infer, self._seconds = infer, seconds
        tensors = {node.name: node.outputs[0] for node in graph.nodes if node.outputs}
        infer()
        steps: list[LayerStep] = []
        # A layer without time is fused into the layer before it.
        self._own = [number for number, time_s in enumerate(seconds()) if time_s or not number]
        for number, full_name in enumerate(net.getLayerNames()):
            name = full_name.removeprefix(_NODE)
            nodes = (name,) if name in tensors else ()
            if number in self._own:
                kind = net.getLayer(net.getLayerId(full_name)).type
                steps.append(LayerStep(name, kind, nodes, tensors.get(name)))
            else:
                before, tensor = steps[-1], tensors.get(name) or steps[-1].tensor
                steps[-1] = replace(before, nodes=(*before.nodes, *nodes), tensor=tensor)
        self.steps = tuple(steps)

    def sample(self, calls: int) -> list[float]:
        """Return the mean seconds of each layer."""
        total = np.zeros(len(self._own))
        for _ in range(calls):
            self._infer()
            total += self._seconds()[self._own]
        return [float(each) for each in total / calls]


def _no_elements(spec: TensorSpec) -> Array:
    return np.zeros([size or 0 for size in spec.shape], spec.dtype)


@contextlib.contextmanager
def _no_messages(cv2: Any) -> Iterator[None]:
    """Keep OpenCV from printing the error that it raises too."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _with_scales(
    specs: tuple[TensorSpec, ...], manifest_specs: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    """Add the scales of quantized tensors, which the manifest states and the graph does not."""
    known = {spec.name: (spec.scale, spec.zero_point) for spec in manifest_specs}
    scales = (known.get(spec.name, (None, None)) for spec in specs)
    return tuple(
        replace(spec, scale=scale, zero_point=zero_point)
        for spec, (scale, zero_point) in zip(specs, scales, strict=True)
    )


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Read an .onnx file."""
    return OpencvSession(artifact, num_threads)
