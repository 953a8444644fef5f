"""ncnn: Tencent's runtime for phones and boards, with wheels for 32-bit Arm too.

A session runs the images of a batch one after the other. The file's precision decides whether ncnn
computes in float16: by default it would do so for every file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from lenet_edge.artifacts import ncnn_file
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.ncnn_file import NcnnLayer
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import Deployable, _vulkan
from lenet_edge.runtimes._layer_probe import CutProbe, LayerProbe, LayerStep, live_values
from lenet_edge.target import (
    Array,
    Delegation,
    InputValues,
    Session,
    Target,
    TensorSession,
    check_sizes,
)

TARGETS = (
    Target(
        name="ncnn-cpu",
        runtime="ncnn",
        formats=("ncnn",),
        device="cpu",
        delegate=None,
        package="ncnn",
        extra="ncnn",
        preference=10,
    ),
    Target(
        name="ncnn-vulkan",
        runtime="ncnn",
        formats=("ncnn",),
        device="gpu",
        delegate="Vulkan",
        package="ncnn",
        extra="ncnn",
        preference=50,
    ),
)
DEPLOYABLE = Deployable("ncnn", "ncnn-cpu", "ncnn", rank=6)
_SOFTWARE = 3  # the type of a device that the CPU emulates; source: ncnn's gpu.h
# Layers without work for a device.
_PASSIVE = ("Input", "MemoryData", "Noop", "Split")


class NcnnSession(TensorSession):
    """Session over an `ncnn.Net`."""

    def __init__(self, artifact: Artifact, target: Target, num_threads: int) -> None:
        import ncnn

        self._ncnn: Any = ncnn
        self.runtime_version = ncnn.__version__
        layers = self._layers = ncnn_file.read_layers(artifact.path)
        entries = [layer for layer in layers if layer.kind == "Input"]
        self._net: Any = ncnn.Net()
        options = self._net.opt
        options.num_threads = num_threads
        options.use_vulkan_compute = target.device == "gpu"
        if artifact.precision != "float16":
            options.use_fp16_packed = False
            options.use_fp16_storage = False
            options.use_fp16_arithmetic = False
        weights = artifact.path.with_suffix(ncnn_file.WEIGHTS_SUFFIX)
        if self._net.load_param(str(artifact.path)) or self._net.load_model(str(weights)):
            raise TargetError(
                f"{target.name} cannot load {artifact.path} with {weights.name}; export it again"
            )
        self._inputs: list[tuple[list[Any], list[Array]]] = []
        self._results: list[list[Any]] = []
        self._entries = [layer.outputs[0] for layer in entries]
        self.input_specs = tuple(_input_spec(layer, artifact) for layer in entries)
        # The manifest has the outputs in the order of the original model.
        self._ends = [s.name for s in artifact.outputs] or list(self._net.output_names())
        self.output_specs = artifact.outputs or self._output_specs(layers)
        if target.device == "gpu":
            self.delegation = self._read_delegation()

    def _output_specs(self, layers: list[NcnnLayer]) -> tuple[TensorSpec, ...]:
        """Return the outputs, with the shapes that the file states or that an image gives."""
        shapes = ncnn_file.blob_shapes(layers)
        if any(name not in shapes for name in self._ends):
            sizes = {s.name: [size or 1 for size in s.shape] for s in self.input_specs}
            self.prepare({name: np.zeros(shape, np.float32) for name, shape in sizes.items()})
            self.infer()
            found = (np.asarray(mat).shape for mat in self._results[0])
            shapes |= dict(zip(self._ends, found, strict=True))
        return tuple(
            TensorSpec(name, (None, *ncnn_file.channels_last(shapes[name])), "float32")
            for name in self._ends
        )

    def _read_delegation(self) -> Delegation:
        """Return how many layers have kernels for Vulkan; ncnn runs the others on the CPU."""
        device = self._ncnn.get_gpu_info(self._ncnn.get_default_gpu_index())
        layers = [layer for layer in self._net.layers() if layer.type not in _PASSIVE]
        left = [layer for layer in layers if not layer.support_vulkan]
        return Delegation(
            "Vulkan",
            nodes_taken=len(layers) - len(left),
            nodes_total=len(layers),
            left_behind=tuple(sorted({layer.type for layer in left})),
            device=device.device_name(),
            emulated=device.type() == _SOFTWARE,
        )

    def prepare(self, values: InputValues) -> None:
        """Copy each image into a matrix of ncnn, with its channels first."""
        arrays = self.arrays(values)
        check_sizes(self.input_specs, arrays)
        count = len(arrays[0])
        if any(len(array) != count for array in arrays):
            raise TargetError("the inputs have different numbers of images; give equal ones")
        ordered = [np.moveaxis(array, 3, 1) if array.ndim == 4 else array for array in arrays]
        if [len(mats) for mats, _ in self._inputs] != [count] * len(arrays):
            self._inputs = [self._matrices(images) for images in ordered]
        for (_, views), images in zip(self._inputs, ordered, strict=True):
            for view, image in zip(views, images, strict=True):
                view[...] = image

    def _matrices(self, images: Array) -> tuple[list[Any], list[Array]]:
        """Return a matrix for each image, and the array that shares its memory.

        The matrices own their memory. ncnn crashes if a layer that works in place gets foreign
        memory.
        """
        blank = np.zeros(images.shape[1:], np.float32)
        mats = [self._ncnn.Mat(blank).clone() for _ in images]
        return mats, [np.asarray(mat) for mat in mats]

    def infer(self) -> None:
        """Run the images one after the other."""
        self._results = self._compute(self._ends)

    def _compute(self, ends: Sequence[str]) -> list[list[Any]]:
        """Return some values of each image; ncnn runs only the layers that they need."""
        net, entries = self._net, self._entries
        results = []
        for mats in zip(*(mats for mats, _ in self._inputs), strict=True):
            extractor = net.create_extractor()
            for name, mat in zip(entries, mats, strict=True):
                extractor.input(name, mat)
            found = []
            for name in ends:
                status, mat = extractor.extract(name)
                if status:
                    raise TargetError(f"ncnn cannot compute {name}; error {status}")
                found.append(mat)
            results.append(found)
        return results

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the probe that stops after each layer."""
        if self.delegation is not None:
            raise TargetError("the layers of a GPU are not timed; use ncnn-cpu")
        steps: list[LayerStep] = []
        ends: list[tuple[str, ...]] = [()]
        nodes = [(layer.inputs, layer.outputs) for layer in self._layers]
        for number, layer in enumerate(self._layers, 1):
            if layer.kind not in _PASSIVE:
                steps.append(LayerStep(layer.name, layer.kind, (layer.name,), layer.outputs[0]))
                live = live_values(nodes, number, self._ends)
                ends.append(tuple(name for name in live if name not in self._entries))
        yield CutProbe(steps, [partial(self._compute, each) for each in ends])

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output, images with their channels last."""
        found = {}
        for spec, mats in zip(self.output_specs, zip(*self._results, strict=True), strict=True):
            values = np.stack([np.asarray(mat) for mat in mats])
            found[spec.name] = np.moveaxis(values, 1, 3).copy() if values.ndim == 4 else values
        return found

    def close(self) -> None:
        """Release the matrices before the network, which owns their memory pools."""
        self._inputs, self._results = [], []
        del self._net


def _input_spec(layer: NcnnLayer, artifact: Artifact) -> TensorSpec:
    """Return the input that an Input layer describes.

    Raises:
        TargetError: the file does not state its size.
    """
    (name,) = layer.outputs
    shape = ncnn_file.input_shape(layer)
    if shape is None or math.prod(shape) > ncnn_file.MAX_VALUES:
        raise TargetError(
            f"{artifact.name} does not state the size of its input {name}; write it into the line"
            " of the Input layer: 0=WIDTH 1=HEIGHT 2=CHANNELS"
        )
    return TensorSpec(name, (artifact.batch_size, *ncnn_file.channels_last(shape)), "float32")


def absence(target: Target) -> str | None:
    """Return why Vulkan cannot work here; None if that needs a trial."""
    return _vulkan.absence() if target.device == "gpu" else None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .param file and its .bin file."""
    if target.device == "gpu":
        _find_gpu(target)
    return NcnnSession(artifact, target, num_threads)


def _find_gpu(target: Target) -> None:
    """Check that ncnn finds a GPU.

    Raises:
        TargetError: it finds none.
    """
    import ncnn

    if ncnn.get_gpu_count() == 0:
        reason = _vulkan.absence() or "its driver reports no device; check the GPU's Vulkan driver"
        raise TargetError(f"{target.name} finds no GPU: {reason}")
